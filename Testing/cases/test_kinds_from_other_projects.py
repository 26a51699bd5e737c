"""Kinds of files that the test data of other projects has, as phantoms: films of one slice, colours, tables, pointers."""

from __future__ import annotations

import gzip
import os
import struct

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture
from pydicom.pixels import apply_color_lut, apply_modality_lut
from support.field_phantoms import ORIGIN, THICK, body, dataset, item, pixels, save, slice_dataset, write_slices
from support.segmentation_phantoms import GRID

from MedFMLib.errors import InputError
from MedFMLib.files import read_image
from MedFMLib.files.segmentations import read_segmentation

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:1111\nsize 1234\n"


def place(k: int) -> np.ndarray:
    """Of slice k, LPS mm."""
    return ORIGIN + np.array([0, 0, THICK * k])


def coloured(folder, kind="RGB", count=3):
    """Colour slices with a place in the patient, as of a fused or parametric series; returns the datasets."""
    made = []
    for k in range(count):
        data = slice_dataset(body()[k], place(k), number=k + 1, series=kind)
        if kind == "RGB":
            colours = np.random.default_rng(k).integers(0, 256, (40, 48, 3), dtype=np.uint8)
            data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
            data.PixelData = colours.tobytes()
        else:
            data.PhotometricInterpretation = "PALETTE COLOR"
            data.PixelData = (np.arange(40 * 48, dtype=np.uint8) + k).tobytes()
            for number, name in enumerate(("Red", "Green", "Blue")):
                setattr(data, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
                table = np.roll(np.arange(256, dtype=np.uint8), 60 * number)
                setattr(data, f"{name}PaletteColorLookupTableData", table.tobytes())
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        del data.RescaleSlope, data.RescaleIntercept
        save(data, folder / f"{k}.dcm")
        made.append(data)
    return made


def film(folder, **changing):
    """Five images of one slice, later and later; the values of `changing` differ from image to image."""
    for n in range(5):
        values = {name: given[n] for name, given in changing.items()}
        data = slice_dataset(
            body()[4] + n, ORIGIN, number=9 - n if "InstanceNumber" in changing else 1, series="film",
            **{name: value for name, value in values.items() if name != "InstanceNumber"},
        )  # fmt: skip
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.{n + 1}"
        save(data, folder / f"{n}.dcm")


@pytest.mark.parametrize(("changing", "first"), [
    ({"TriggerTime": ["0", "40", "80", "120", "160"]}, 0), ({"AcquisitionNumber": [12, 13, 14, 15, 16]}, 0),
    ({"InstanceNumber": range(5)}, 4),
])  # fmt: skip
def test_a_film_of_one_slice_has_frames(changing, first, tmp_path, table):
    film(tmp_path, **changing)
    with pytest.raises(InputError, match="has 5 frames; choose one with --frame 0 to 4"):
        read_image(tmp_path)
    read = [int(read_image(tmp_path, frame=n).scalars[0, 0, 0]) for n in range(5)]
    right = [int((body()[4] + n)[0, 0]) for n in range(5)]
    right = right if first == 0 else right[::-1]
    table(right, "how it was made", read)
    assert read == right


def test_images_that_nothing_distinguishes_are_still_refused(tmp_path, table):
    film(tmp_path)
    with pytest.raises(InputError, match="has 5 images at one position, and nothing in their headers tells"):
        read_image(tmp_path)
    table("refused", "DICOM headers", "refused")


@pytest.mark.parametrize("kind", ["RGB", "PALETTE COLOR"])
def test_colours_with_a_place_are_a_volume_in_colour(kind, tmp_path, table):
    made = coloured(tmp_path, kind)
    image = read_image(tmp_path)
    right = [d.pixel_array if kind == "RGB" else apply_color_lut(d.pixel_array, d) for d in made]
    off = max(int(np.abs(r.astype(int) - image.voxels[..., k].transpose(2, 1, 0)).max()) for k, r in enumerate(right))
    table("0 off, 5 mm", "pydicom", f"{off} off, {image.geometry.spacing[2]:g} mm")
    assert off == 0
    assert (image.modality, image.units, image.is_colour, image.geometry.oriented) == ("OT", "", True, True)
    assert image.geometry.shape == (48, 40, 3)


def test_colours_and_greys_in_one_series_are_refused(tmp_path, table):
    coloured(tmp_path)
    grey = slice_dataset(body()[5], place(3), number=4, series="RGB")
    del grey.RescaleSlope, grey.RescaleIntercept
    save(grey, tmp_path / "3.dcm")
    with pytest.raises(InputError, match=r"mixes images in colour, such as '0\.dcm', and in grey"):
        read_image(tmp_path)
    table("one sentence", "", "one sentence")


def test_a_lookup_table_of_values_is_applied_in_volumes(tmp_path, table):
    values = np.linspace(-1000, 3000, 4096).astype(np.int16)
    lut = item(LUTDescriptor=[4096, 0, 16], LUTData=(values.astype(int) + 1024).astype(np.uint16).tobytes())
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", "OW"
    made = []
    for k in range(3):
        data = slice_dataset(body()[k], place(k), number=k + 1, ModalityLUTSequence=[lut])
        del data.RescaleSlope, data.RescaleIntercept
        made.append(save(data, tmp_path / f"{k}.dcm") and data)
    image = read_image(tmp_path)
    right = np.stack([apply_modality_lut(d.pixel_array, d) for d in made])
    off = int(np.abs(image.scalars.transpose(2, 1, 0) - right.astype(int)).max())
    table("0 off", "pydicom", f"{off} off")
    assert off == 0
    assert np.abs(right.astype(int) - made[0].pixel_array).max() > 20  # the table changes something


def radiograph(path, values, **tags):
    made = pixels(dataset("1.2.840.10008.5.1.4.1.1.481.1", "RTIMAGE", path.name), values)
    for name, value in tags.items():
        setattr(made, name, value)
    return save(made, path)


def test_a_window_narrower_than_1_shows_doses(tmp_path, table):
    ramp = np.tile(np.arange(64, dtype=np.uint16) * 1000, (48, 1))
    path = radiograph(tmp_path / "dose.dcm", ramp, RescaleSlope="1e-5", RescaleIntercept="0", WindowCenter="0.3",
                      WindowWidth="0.2")  # fmt: skip
    image = read_image(path)
    right = np.rint(np.clip((ramp[0] * 1e-5 - 0.2) / 0.2, 0, 1) * 255)
    off = float(np.abs(image.display[0, :, 0, 0] - right).max())
    table("≤ 1 off", "PS3.3 C.11.2.1.3.2", f"{off:g} off")
    assert off <= 1  # where a half is rounded
    np.testing.assert_allclose(image.scalars[:, 0, 0], ramp[0] * 1e-5, atol=1e-9)
    assert not image.notes


def test_empty_lookup_tables_are_none_and_damaged_windows_are_noted(tmp_path, table):
    ramp = np.tile(np.arange(64, dtype=np.uint16) * 60, (48, 1))
    empty = item()
    empty.add_new("LUTDescriptor", "US", None)
    empty.add_new("LUTData", "OW", None)
    plain = read_image(radiograph(tmp_path / "a.dcm", ramp))
    both = read_image(radiograph(tmp_path / "b.dcm", ramp, ModalityLUTSequence=[empty], VOILUTSequence=[empty]))
    np.testing.assert_array_equal(both.display, plain.display)
    np.testing.assert_array_equal(both.scalars, plain.scalars)
    negative = read_image(radiograph(tmp_path / "c.dcm", ramp, WindowCenter="100", WindowWidth="-5"))
    np.testing.assert_array_equal(negative.display, plain.display)
    assert "is damaged (ValueError), so the picture is shown over the range" in " ".join(negative.notes)
    table("read, 1 note", "the same without tables", f"read, {len(negative.notes)} note")


def test_a_mosaic_of_another_manufacturer_is_named(tmp_path, table):
    data = slice_dataset(body()[0], ORIGIN, modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "VFRAME"],
                         ImagePositionPatient=None)  # fmt: skip
    save(data, tmp_path / "a.dcm")
    with pytest.raises(InputError, match="is a United Imaging mosaic, .*dcm2niix"):
        read_image(tmp_path)
    table("one sentence", "Image Type", "one sentence")


def test_frames_of_other_libraries_files_are_noted(tmp_path, table):
    values = np.arange(5 * 6 * 7 * 2, dtype=np.int16).reshape(5, 6, 7, 2)
    for kind, name in ((nibabel.Nifti2Image, "a.nii"), (nibabel.MGHImage, "a.mgz")):
        nibabel.save(kind(values.astype(np.float32), np.eye(4)), tmp_path / name)
        image = read_image(tmp_path / name, frame=1)
        np.testing.assert_array_equal(image.scalars, values[..., 1])
        assert image.notes == (f"Frame 1 of '{name}' was read, of 0 to 1.",)
    table("1 note", "nibabel", f"{len(image.notes)} note")


@pytest.mark.parametrize(("name", "content", "sentence"), [
    ("scan.nii.gz", LFS, "only points to a file in a store, .*git lfs pull"),
    ("scan.dcm", LFS, "only points to a file in a store, .*git lfs pull"),
    ("scan.png", LFS, "only points to a file in a store, .*git lfs pull"),
    ("scan.nrrd", b"/annex/objects/MD5E-s1--1.nrrd\n", "only points to a file in a store, .*git annex get"),
    ("scan.nii.gz", b"", r"is empty \(0 bytes\)"),
    ("scan.dcm.gz", gzip.compress(b"\0" * 128 + b"DICM"), r"is packed \(gzip\); unpack it first"),
    ("series.zip", b"PK\x03\x04" + bytes(600), r"is packed \(ZIP\); unpack it first"),
    ("series.tar", bytes(257) + b"ustar" + bytes(600), r"is packed \(tar\); unpack it first"),
    ("scan.hdr", bytes(400), r"'scan\.img' is missing, the other half of 'scan\.hdr'"),
    ("scan.mhd", b"ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = no.raw\n",
     r"the file of voxels that it names isn't beside 'scan\.mhd'"),
    ("scan.png", b"\x89PNG\r\n\x1a\n" + bytes(40), "it is damaged, or of a format that MedFM doesn't know"),
])  # fmt: skip
def test_what_is_no_image_is_one_true_sentence(name, content, sentence, tmp_path, table):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence) as error:
        read_image(tmp_path / name)
    assert " object at 0x" not in str(error.value) and str(tmp_path) not in str(error.value)
    if name != "series.tar":
        with pytest.raises(InputError):
            read_segmentation(tmp_path / name, GRID)
    table("one sentence", "", "one sentence")


def test_a_reason_of_itk_names_no_address_and_no_temporary_file(tmp_path, table):
    (tmp_path / "SCAN.NII.GZ").write_bytes(gzip.compress(b"no NIfTI file" * 100))
    with pytest.raises(InputError, match="can't be read") as error:
        read_image(tmp_path / "SCAN.NII.GZ")
    assert "0x" not in str(error.value) and "/tmp" not in str(error.value)
    table("no address", "", "no address")


def test_a_pointer_within_a_series_is_no_missing_slice(tmp_path, table):
    write_slices(tmp_path, body())
    (tmp_path / "last.dcm").write_bytes(LFS)
    with pytest.raises(InputError, match=r"'last\.dcm' only points to a file in a store"):
        read_image(tmp_path)
    (tmp_path / "last.dcm").rename(tmp_path / "atlas.nii.gz")  # no part of the series
    assert read_image(tmp_path).geometry.shape == (48, 40, 12)
    table("named", "", "named")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are of Unix")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, table):
    os.mkfifo(tmp_path / "pipe.nii.gz")
    for read in (read_image, lambda path: read_segmentation(path, GRID)):
        with pytest.raises(InputError, match="is neither a file nor a folder"):
            read(tmp_path / "pipe.nii.gz")
    write_slices(tmp_path / "series", body())
    os.mkfifo(tmp_path / "series" / "pipe")
    assert read_image(tmp_path / "series").geometry.shape == (48, 40, 12)
    table("refused", "", "refused")


@pytest.mark.parametrize("suffix", [".jp2", ".j2k"])
def test_jpeg_2000_is_a_picture(suffix, tmp_path, table):
    colours = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Picture.fromarray(colours).save(tmp_path / f"x{suffix}")
    image = read_image(tmp_path / f"x{suffix}")
    off = int(np.abs(image.voxels[..., 0].transpose(2, 1, 0).astype(int) - colours).max())
    table("0 off", "Pillow", f"{off} off")
    assert off == 0


def test_signed_and_long_greys_keep_their_values(tmp_path, table):
    values = np.linspace(-1000, 100_000, 40 * 60).astype(np.int32).reshape(40, 60)
    Picture.fromarray(values).save(tmp_path / "x.tif")
    image = read_image(tmp_path / "x.tif")
    off = int(np.abs(image.scalars[..., 0].T - values).max())
    table("-1000 … 100000", "Pillow", f"{image.scalars.min()} … {image.scalars.max()}")
    assert off == 0
    assert (image.display.min(), image.display.max()) == (0, 255)


@pytest.mark.parametrize(("kind", "form", "values"), [
    ("<i1", 2, np.arange(-128, 112)), ("<u4", 1, np.arange(240) * 17_000_000), ("<i4", 2, np.arange(240) * 1000 - 90_000),
    ("<u2", 1, np.arange(240) * 250), ("<i2", 2, np.arange(240) * 200 - 30_000), ("<f4", 3, np.arange(240) / 4 - 20),
])  # fmt: skip
def test_every_type_of_grey_in_tiff_keeps_its_values(kind, form, values, tmp_path, table):
    """The file is made of the tags of TIFF 6.0 alone."""
    data = values.astype(kind).tobytes()
    tags = [(256, 20), (257, 12), (258, 8 * np.dtype(kind).itemsize), (259, 1), (262, 1), (273, 8), (277, 1), (278, 12),
            (279, len(data)), (339, form)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in tags)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    (tmp_path / "x.tif").write_bytes(start + data + struct.pack("<H", len(tags)) + entries + bytes(4))
    image = read_image(tmp_path / "x.tif")
    table(
        f"{values.min():g} … {values.max():g}", "how it was made", f"{image.scalars.min():g} … {image.scalars.max():g}"
    )
    np.testing.assert_array_equal(image.scalars[..., 0].T.ravel(), values)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, table):
    Picture.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "x.bmp")
    content = bytearray((tmp_path / "x.bmp").read_bytes())
    content[18:26] = (3_000_000).to_bytes(4, "little") + (2_000_000).to_bytes(4, "little")
    (tmp_path / "x.bmp").write_bytes(content)
    with pytest.raises(InputError, match="has too many pixels; .* Give a smaller picture"):
        read_image(tmp_path / "x.bmp")
    table("refused", "", "refused")

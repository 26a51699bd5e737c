"""Radiographs, ultrasound, colour and picture files, against Pillow and pydicom's own pipeline."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from support.field_phantoms import dataset, item, pixels, save

from MedFMLib.core.view import make_view
from MedFMLib.errors import InputError
from MedFMLib.files import read_image
from MedFMLib.files.reading import read_study

RADIOGRAPH, ULTRASOUND = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.6.1"


def seen(image, number=0) -> np.ndarray:
    """The pixels that a model gets of one picture."""
    return make_view(image, "picture", number).for_model(64)


def radiograph(path, **tags):
    made = pixels(dataset(RADIOGRAPH, "DX", path.name), np.tile(np.arange(64) * 60, (48, 1)).astype(np.uint16))
    made.BitsStored, made.HighBit = 12, 11
    for name, value in tags.items():
        setattr(made, name, value)
    return save(made, path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".webp", ".bmp"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_picture_files_are_what_pillow_reads(suffix, mode, tmp_path, table):
    shape = (40, 60, 3) if mode == "RGB" else (40, 60)
    Picture.fromarray(np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)).save(tmp_path / f"x{suffix}")
    image = read_image(tmp_path / f"x{suffix}")
    right = np.asarray(Picture.open(tmp_path / f"x{suffix}").convert("RGB"))
    off = int(np.abs(seen(image).astype(int) - right).max())
    table("0 off", f"Pillow, {mode} {suffix}", f"{off} off")
    assert off == 0 and image.is_picture and not image.geometry.metric


def test_grey_of_16_bits_keeps_its_values_and_is_shown_over_their_range(tmp_path, table):
    values = (np.arange(2400).reshape(40, 60) * 20).astype(np.uint16)
    Picture.fromarray(values).save(tmp_path / "x.png")
    image = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(image.scalars[:, :, 0].T, values)
    ours = f"{image.scalars.min()} … {image.scalars.max()}, {seen(image).min()} … {seen(image).max()}"
    table("0 … 47980 shown as 0 … 255", "Pillow", ours)
    assert (seen(image).min(), seen(image).max()) == (0, 255)


def test_transparent_parts_are_black_and_exif_turns_the_picture(tmp_path, table):
    rgba = np.zeros((20, 30, 4), np.uint8)
    rgba[..., 0], rgba[:, :15, 3] = 200, 255
    Picture.fromarray(rgba).save(tmp_path / "t.png")
    assert seen(read_image(tmp_path / "t.png"))[:, 15:].max() == 0
    exif = Picture.Exif()
    exif[0x0112] = 6
    Picture.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)).save(
        tmp_path / "e.jpg", exif=exif
    )
    image = read_image(tmp_path / "e.jpg")
    table("20 × 30 pixels", "EXIF 6", f"{image.geometry.shape[0]} × {image.geometry.shape[1]} pixels")
    assert image.geometry.shape[:2] == (20, 30)


def test_a_radiograph_is_shown_as_pydicom_windows_it(tmp_path, table):
    path = radiograph(tmp_path / "dx.dcm", WindowCenter=2000, WindowWidth=1500, ImagerPixelSpacing=[0.2, 0.2])
    image, header = read_image(path), pydicom.dcmread(path)
    np.testing.assert_array_equal(image.scalars[:, :, 0].T, header.pixel_array)
    shown = apply_voi_lut(apply_modality_lut(header.pixel_array, header), header)
    right = np.rint(shown / 4095 * 255)
    off = float(np.abs(seen(image)[..., 0] - right).max())
    table("0 off; no mm", "pydicom apply_voi_lut", f"{off:g} off; metric {image.geometry.metric}")
    assert off == 0 and not image.geometry.metric and image.modality == "CR"
    assert "at the detector" in image.notes[0]


def test_monochrome1_is_inverted_on_the_screen_only(tmp_path, table):
    first = read_image(radiograph(tmp_path / "a.dcm", PhotometricInterpretation="MONOCHROME1"))
    second = read_image(radiograph(tmp_path / "b.dcm"))
    np.testing.assert_array_equal(first.scalars, second.scalars)
    np.testing.assert_array_equal(seen(first), 255 - seen(second))
    table("same values, inverted grey", "PS3.3 C.7.6.3.1.2", "same values, inverted grey")


def test_a_lookup_table_of_the_header_is_applied(tmp_path, table):
    table_of_values = np.linspace(4095, 0, 4096).astype(np.uint16)
    lut = item(LUTDescriptor=[4096, 0, 12], LUTData=table_of_values.tobytes())
    lut["LUTDescriptor"].VR, lut["LUTData"].VR = "US", "OW"
    path = radiograph(tmp_path / "lut.dcm", VOILUTSequence=[lut])
    image = read_image(path)
    right = np.rint(table_of_values[np.arange(64) * 60] / 4095 * 255)
    off = float(np.abs(seen(image)[0, :, 0] - right).max())
    table("0 off", "table of the header", f"{off:g} off")
    assert off == 0


@pytest.mark.parametrize(("tags", "metric"), [
    ({}, False), ({"ImagerPixelSpacing": [0.2, 0.2]}, False), ({"PixelSpacing": [0.3, 0.3]}, True),
    ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]}, False),
    ({"PixelSpacing": [0.15, 0.15], "ImagerPixelSpacing": [0.2, 0.2]}, True),
    ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "FIDUCIAL"}, True),
])  # fmt: skip
def test_millimetres_are_known_only_in_the_patient(tags, metric, tmp_path, table):
    image = read_image(radiograph(tmp_path / "dx.dcm", **tags))
    known = {True: "mm known", False: "mm unknown"}
    table(known[metric], ", ".join(tags) or "no spacing", known[image.geometry.metric])
    assert image.geometry.metric is metric


def test_an_ultrasound_has_the_scale_of_its_region(tmp_path, table):
    values = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    made = pixels(dataset(ULTRASOUND, "US", "us"), values[..., 0].astype(np.uint16))
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation, made.Rows, made.Columns = 7, 0, 40, 60
    made.PixelData = values.tobytes()
    made.SequenceOfUltrasoundRegions = [
        item(
            RegionSpatialFormat=1,
            PhysicalUnitsXDirection=3,
            PhysicalUnitsYDirection=3,
            PhysicalDeltaX=0.02,
            PhysicalDeltaY=0.03,
        )
    ]
    image = read_image(save(made, tmp_path / "us.dcm"))
    np.testing.assert_array_equal(seen(image), values)
    across, down = image.geometry.spacing[:2]
    table("0.2 × 0.3 mm", "Physical Delta, cm", f"{across:.3g} × {down:.3g} mm")
    assert image.geometry.metric and (across, down) == (pytest.approx(0.2), pytest.approx(0.3))


@pytest.mark.parametrize(
    "name", ["examples_rgb_color.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm", "SC_rgb_jpeg_dcmtk.dcm"]
)
def test_pydicoms_colour_files_have_pydicoms_colours(name, table):
    from pydicom.pixels import apply_color_lut, pixel_array

    path = get_testdata_file(name)
    header = pydicom.dcmread(path)
    right = pixel_array(header)
    if header.PhotometricInterpretation == "PALETTE COLOR":
        right = apply_color_lut(right, header) // 256
    off = int(np.abs(seen(read_image(path)).astype(int) - right).max())
    table("0 off", f"pydicom, {header.PhotometricInterpretation}", f"{off} off")
    assert off == 0


def test_a_clip_has_frames_to_choose_or_to_spread(table):
    path = get_testdata_file("examples_ybr_color.dcm")
    clip, one = read_image(path), read_image(path, frame=12)
    np.testing.assert_array_equal(seen(clip, 12), seen(one))
    with pytest.raises(InputError, match="pictures 0 to 29, so there is no frame 30"):
        read_image(path, frame=30)
    table("30 frames", "Number of Frames", f"{clip.geometry.shape[2]} frames")


def test_two_views_are_pictures_of_one_examination(tmp_path, table):
    first, second = tmp_path / "pa.png", tmp_path / "lat.png"
    random = np.random.default_rng(0)
    Picture.fromarray(random.integers(0, 255, (40, 60), np.uint8)).save(first)
    Picture.fromarray(random.integers(0, 255, (50, 30, 3), np.uint8)).save(second)
    image = read_study([first, second])
    for number, path in enumerate((first, second)):
        np.testing.assert_array_equal(seen(image, number), np.asarray(Picture.open(path).convert("RGB")))
    table("60×40, 30×50", "Pillow", ", ".join(f"{c}×{r}" for c, r in image.extents))


def test_the_views_of_a_dicom_study_are_read_together(tmp_path, table):
    radiograph(tmp_path / "study" / "pa.dcm", SeriesInstanceUID="1.2.1", ViewPosition="PA")
    radiograph(tmp_path / "study" / "lat.dcm", SeriesInstanceUID="1.2.2", ViewPosition="LL")
    image = read_image(tmp_path / "study")
    table("2 pictures", "how it was made", str(image.geometry))
    assert image.geometry.shape == (64, 48, 2) and "ViewPosition" not in image.facts


def test_a_damaged_picture_is_one_sentence(tmp_path, table):
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    with pytest.raises(InputError, match="can't be read"):
        read_image(tmp_path / "x.png")
    table("one sentence", "40 zeros after the signature", "one sentence")

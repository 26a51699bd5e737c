"""DICOM series as scanners, archives and anonymisers write them, against pydicom's arithmetic, highdicom and dcm2niix."""

from __future__ import annotations

import shutil

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from support.field_phantoms import (
    AXIAL,
    ORIGIN,
    THICK,
    body,
    frames_of,
    pixels,
    save,
    slice_dataset,
    uid,
    write_dose,
    write_enhanced,
    write_slices,
)

from MedFMLib.core.geometry import lps_from_ras
from MedFMLib.errors import InputError
from MedFMLib.files import read_image

BLOCK_ML = 10 * 10 * 8 * 2 * 2 * 5 / 1000


def in_file_order(image) -> np.ndarray:
    """(k, row, column) values."""
    return image.scalars.transpose(2, 1, 0)


def block_ml(image, low=90, high=110) -> float:
    """mL of the block of 100 HU."""
    inside = (image.scalars >= low) & (image.scalars <= high)
    inside[0, 0] = False
    return float(inside.sum() * image.geometry.voxel_volume / 1000)


def by_highdicom(path) -> tuple[np.ndarray, np.ndarray]:
    """(affine index (k, row, column) → LPS, values), as highdicom builds the volume of a multi-frame file."""
    volume = highdicom.imread(path).get_volume(apply_modality_transform=True)
    return volume.affine, volume.array


def same_as_highdicom(image, path) -> float:
    """Largest difference of values at the places that highdicom computes."""
    affine, values = by_highdicom(path)
    index = np.argwhere(np.ones(values.shape, bool))[:: max(1, values.size // 3000)]
    world = index @ affine[:3, :3].T + affine[:3, 3]
    ours = np.rint(image.geometry.to_index(world * (-1, -1, 1))).astype(int)
    np.testing.assert_allclose(image.geometry.to_world(ours) * (-1, -1, 1), world, atol=1e-3)
    return float(np.abs(image.scalars[tuple(ours.T)] - values[tuple(index.T)]).max())


@pytest.mark.parametrize("order", ["in order", "shuffled", "descending"])
def test_enhanced_frames_lie_where_their_positions_say(order, tmp_path, table):
    values = body()
    numbers = {
        "in order": np.arange(12),
        "shuffled": np.random.default_rng(0).permutation(12),
        "descending": np.arange(12)[::-1],
    }
    path = write_enhanced(tmp_path / "ct.dcm", frames_of(values, numbers[order]))
    image = read_image(path)
    np.testing.assert_allclose(image.geometry.spacing, (2, 2, 5))
    np.testing.assert_array_equal(in_file_order(image), values)
    assert same_as_highdicom(image, path) == 0
    table(f"{BLOCK_ML:.1f} mL", "highdicom", f"{block_ml(image):.1f} mL")
    assert block_ml(image) == pytest.approx(BLOCK_ML)


def test_enhanced_frames_have_their_own_rescale(tmp_path, table):
    values = body()
    path = write_enhanced(tmp_path / "ct.dcm", frames_of(values, slope=lambda k: 1 + 0.25 * k))
    image = read_image(path)
    header = pydicom.dcmread(path)
    groups = [g.PixelValueTransformationSequence[0] for g in header.PerFrameFunctionalGroupsSequence]
    right = np.stack(
        [
            frame * float(g.RescaleSlope) + float(g.RescaleIntercept)
            for frame, g in zip(header.pixel_array, groups, strict=True)
        ]
    )
    worst = float(np.abs(in_file_order(image) - right).max())
    table("0 HU off", "pydicom arithmetic", f"{worst:g} HU off")
    assert worst < 1e-3 and same_as_highdicom(image, path) < 1e-3


@pytest.mark.parametrize(
    "kind", ["echoes", "time points", "stacks", "components", "b-values", "echoes and time points"]
)
def test_volumes_of_one_enhanced_file_are_told_apart(kind, tmp_path, table):
    values = body()
    parts = {
        "echoes": [{"echo": 5}, {"echo": 10}, {"echo": 15}],
        "time points": [{"time": 1}, {"time": 2}],
        "stacks": [{"stack": 1}, {"stack": 2}],
        "components": [{"phase": "MAGNITUDE"}, {"phase": "PHASE"}],
        "b-values": [{"b_value": 0}, {"b_value": 1000}],
        "echoes and time points": [{"echo": e, "time": t} for t in (1, 2) for e in (5, 10)],
    }[kind]
    frames = [frame for n, part in enumerate(parts) for frame in frames_of(values + 100 * n, **part)]
    order = np.random.default_rng(1).permutation(len(frames))
    path = write_enhanced(tmp_path / "mr.dcm", [frames[n] for n in order], modality="MR")
    with pytest.raises(InputError, match=rf"{len(parts)} (frames|volumes).*--frame 0 to {len(parts) - 1}"):
        read_image(path)
    seen = [in_file_order(read_image(path, frame=n)) - values for n in range(len(parts))]
    assert [int(np.unique(d)[0]) if len(np.unique(d)) == 1 else None for d in seen] == [
        100 * n for n in range(len(parts))
    ]
    table(f"{len(parts)} volumes of 12 slices", "how it was made", f"{len(seen)} volumes of {seen[0].shape[0]} slices")


def test_stacks_of_two_directions_in_one_file_are_split(tmp_path, table):
    values = body()
    coronal = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
    second = [
        {"plane": values[k], "position": (-47.0, 10.0 + 4 * k, 50.0), "directions": coronal, "stack": 2}
        for k in range(5)
    ]
    path = write_enhanced(tmp_path / "mr.dcm", [*frames_of(values), *second], modality="MR")
    with pytest.raises(InputError, match="slice directions.*--frame 0 to 1.*axial.*coronal"):
        read_image(path)
    first, other = read_image(path, frame=0), read_image(path, frame=1)
    assert (first.geometry.shape[2], other.geometry.shape[2]) == (12, 5)
    np.testing.assert_allclose(other.geometry.spacing, (2, 2, 4))
    table("12 and 5 slices", "how it was made", f"{first.geometry.shape[2]} and {other.geometry.shape[2]} slices")


def test_stations_beside_each_other_are_split(tmp_path, table):
    values = body()
    beside = [
        {**frame, "plane": frame["plane"] + 500, "position": (300.0, *frame["position"][1:])}
        for frame in frames_of(values)
    ]
    path = write_enhanced(tmp_path / "mr.dcm", [*frames_of(values), *beside], modality="MR")
    images = [read_image(path, frame=n) for n in (0, 1)]
    x = sorted(-image.geometry.origin[0] for image in images)
    table("stations at x = -47 and 300 mm", "Plane Position", f"stations at x = {x[0]:g} and {x[1]:g} mm")
    assert x == [-47, 300]


def test_two_enhanced_files_of_one_series_are_one_volume_if_they_continue_each_other(tmp_path, table):
    values = body()
    frames = frames_of(values)
    write_enhanced(tmp_path / "study" / "1.dcm", frames[:5])
    write_enhanced(tmp_path / "study" / "2.dcm", frames[5:])
    image = read_image(tmp_path / "study")
    np.testing.assert_array_equal(in_file_order(image), values)
    table("12 slices", "how it was made", f"{image.geometry.shape[2]} slices")


def test_two_enhanced_files_at_the_same_places_are_two_volumes(tmp_path, table):
    write_enhanced(tmp_path / "study" / "1.dcm", frames_of(body()))
    write_enhanced(tmp_path / "study" / "2.dcm", frames_of(body() + 7))
    with pytest.raises(InputError, match="2 frames.*file 1.*file 2"):
        read_image(tmp_path / "study")
    apart = int(
        (read_image(tmp_path / "study", frame=1).scalars - read_image(tmp_path / "study", frame=0).scalars).mean()
    )
    table("7 apart", "how it was made", f"{apart} apart")
    assert apart == 7


def test_monochrome1_does_not_change_values(tmp_path, table):
    values = body()
    write_slices(tmp_path / "m1", values, PhotometricInterpretation="MONOCHROME1")
    image = read_image(tmp_path / "m1")
    table(
        f"{values.min()} … {values.max()} HU",
        "stored × slope + intercept",
        f"{image.scalars.min()} … {image.scalars.max()} HU",
    )
    np.testing.assert_array_equal(in_file_order(image), values)


@pytest.mark.parametrize("gaps", [(4.0, 4.9), (4.0, 5.0), (2.0, 4.0)])
def test_two_spacings_are_refused_or_resampled(gaps, tmp_path, table):
    values = body(slices=24)
    places = np.cumsum([0.0] + [gaps[0]] * 12 + [gaps[1]] * 11)
    write_slices(tmp_path / "two", values, places)
    with pytest.raises(InputError, match=rf"{gaps[0]:g} mm.* to {gaps[1]:g} mm.*--resample"):
        read_image(tmp_path / "two")
    image = read_image(tmp_path / "two", resample=True)
    depth = image.geometry.to_world([(0, 0, k) for k in range(image.geometry.shape[2])])[:, 2]
    right = np.interp(depth, places, values[:, 20, 12])
    worst = float(np.abs(image.scalars[12, 20] - right).max())
    table("refused; resampled ≤ 0.5 HU off", "numpy.interp", f"refused; resampled {worst:.2g} HU off")
    assert worst <= 0.5 and any("interpolated" in note for note in image.notes)


def test_a_missing_slice_is_named(tmp_path, table):
    write_slices(tmp_path / "s", body())[5].unlink()
    with pytest.raises(
        InputError, match=r"Slices are missing in 's': 10\.0 mm lie between 'IM0004' and 'IM0006'"
    ) as caught:
        read_image(tmp_path / "s")
    table("10 mm between IM0004 and IM0006", "how it was made", str(caught.value)[:60])


def test_a_gap_of_one_slice_that_is_shifted_sideways_is_refused(tmp_path, table):
    paths = write_slices(tmp_path / "s", body())
    header = pydicom.dcmread(paths[6])
    header.ImagePositionPatient = [ORIGIN[0] + 3, *header.ImagePositionPatient[1:]]
    header.save_as(paths[6])
    with pytest.raises(InputError, match=r"3\.0 mm off"):
        read_image(tmp_path / "s")
    table("3 mm off", "how it was made", "refused, 3.0 mm off")


def test_a_gantry_tilt_is_a_sheared_grid(tmp_path, table):
    values = body()
    for k, plane in enumerate(values):
        save(
            slice_dataset(plane, (ORIGIN[0], ORIGIN[1] + 1.3 * k, ORIGIN[2] + 5 * k), number=k + 1),
            tmp_path / "t" / f"{k}.dcm",
        )
    image = read_image(tmp_path / "t")
    place = lps_from_ras(image.geometry.affine) @ (3, 4, 11, 1)
    table("y = -16.7 mm at (3, 4, 11)", "Image Position + arithmetic", f"y = {place[1]:.1f} mm")
    np.testing.assert_allclose(place[:3], (ORIGIN[0] + 6, ORIGIN[1] + 8 + 14.3, ORIGIN[2] + 55))


@pytest.mark.parametrize("tags", [
    [{"AcquisitionNumber": 1}, {"AcquisitionNumber": 2}],
    [{"EchoTime": 5.0}, {"EchoTime": 10.0}],
    [{"TemporalPositionIdentifier": 1}, {"TemporalPositionIdentifier": 2}],
    [{"ImageType": ["ORIGINAL", "PRIMARY", "M"]}, {"ImageType": ["ORIGINAL", "PRIMARY", "P"]}],
    [{"AcquisitionTime": "120000"}, {"AcquisitionTime": "120030"}],
    [{"EchoTime": e, "TemporalPositionIdentifier": t} for t in (1, 2) for e in (5.0, 10.0)],
], ids=["phases", "echoes", "time points", "magnitude and phase", "acquisition times", "echoes × times"])  # fmt: skip
def test_volumes_with_the_same_instance_numbers_are_told_apart(tags, tmp_path, table):
    values = body()
    names = [f"{n:08x}" for n in np.random.default_rng(0).permutation(1 << 20)[: 12 * len(tags)]]
    for n, some in enumerate(tags):
        for k, plane in enumerate(values):
            made = slice_dataset(plane + 100 * n, (*ORIGIN[:2], THICK * k), number=k + 1, series="phases", **some)
            made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = uid(n, k)
            save(made, tmp_path / "s" / names.pop())
    with pytest.raises(InputError, match=rf"{len(tags)} frames; choose one with --frame 0 to {len(tags) - 1}"):
        read_image(tmp_path / "s")
    for n in range(len(tags)):
        np.testing.assert_array_equal(in_file_order(read_image(tmp_path / "s", frame=n)), values + 100 * n)
    table(f"{len(tags)} volumes, none mixed", "how it was made", f"{len(tags)} volumes, none mixed")


def test_a_slice_names_its_volume(tmp_path, table):
    from MedFMLib.files.dicom import find_planes

    for n in (0, 1):
        write_slices(tmp_path / str(n), body(), series="phases", AcquisitionNumber=n + 1)
    wanted = pydicom.dcmread(tmp_path / "1" / "IM0003").SOPInstanceUID
    planes = find_planes(tmp_path, instance=str(wanted))
    numbers = {plane.header.number("AcquisitionNumber") for plane in planes}
    table("acquisition 2 alone", "SOP Instance UID", f"acquisition {' and '.join(f'{n:g}' for n in numbers)} alone")
    assert numbers == {2} and len(planes) == 12


def test_dcm2niix_splits_two_echoes_as_we_do(tmp_path, table, dcm2niix):
    values = np.clip(body() + 1000, 0, None)
    for n, echo in enumerate((5.0, 10.0)):
        for k, plane in enumerate(values):
            made = slice_dataset(
                plane // (1 + n), (*ORIGIN[:2], THICK * k), number=k + 1 + 12 * n, modality="MR", series="echoes", slope=1,
                intercept=0, EchoTime=echo, EchoNumbers=n + 1, RepetitionTime=500.0, ProtocolName="p",
            )  # fmt: skip
            save(made, tmp_path / "s" / f"{n}{k:02d}.dcm")
    files = dcm2niix(tmp_path / "s", tmp_path / "out")
    theirs = sorted(float(np.asarray(nibabel.load(f).dataobj).sum()) for f in files)
    ours = sorted(float(read_image(tmp_path / "s", frame=n).scalars.sum()) for n in (0, 1))
    table(f"sums {theirs}", "dcm2niix", f"sums {ours}")
    assert theirs == ours


def test_what_nothing_tells_apart_is_refused(tmp_path, table):
    values = body()
    names = [f"{n:08x}" for n in np.random.default_rng(3).permutation(1 << 20)[:24]]
    for n in (0, 1):
        for k, plane in enumerate(values):
            made = slice_dataset(plane + n, (*ORIGIN[:2], THICK * k), number=k + 1, series="same")
            made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = uid("same", n, k)
            save(made, tmp_path / "s" / names.pop())
    with pytest.raises(InputError, match="nothing in their headers tells which belong together"):
        read_image(tmp_path / "s")
    table("refused", "how it was made", "refused")


def test_files_without_the_preamble_are_read(tmp_path, table):
    paths = write_slices(tmp_path / "raw", body())
    for path in paths[-2:]:
        raw = path.read_bytes()
        path.write_bytes(raw[132 + 12 + int.from_bytes(raw[140:144], "little") :])
    image = read_image(tmp_path / "raw")
    np.testing.assert_array_equal(in_file_order(image), body())
    table("12 slices", "how it was made", f"{image.geometry.shape[2]} slices")


def raw_value(paths, name: str, text: bytes) -> None:
    for path in paths:
        data = pydicom.dcmread(path)
        tag = data[name].tag
        data._dict[tag] = RawDataElement(tag, data[name].VR, len(text), text, 0, False, True)
        data.save_as(path)


@pytest.mark.parametrize(("name", "text", "needed"), [
    ("PixelSpacing", b"2,0\\2,0 ", True), ("PixelSpacing", b"2.0 ", True), ("ImagePositionPatient", b"a\\b\\c ", True),
    ("RescaleSlope", b"one ", True), ("Rows", b"\x00\x00", True), ("InstanceNumber", b"1/6 ", False),
    ("SliceThickness", b"5mm ", False), ("SliceThickness", b"", False), ("InstanceNumber", b"", False),
])  # fmt: skip
def test_a_wrong_number_is_named_where_it_is_needed(name, text, needed, tmp_path, table):
    raw_value(write_slices(tmp_path / "s", body()), name, text)
    if not needed:
        np.testing.assert_array_equal(in_file_order(read_image(tmp_path / "s")), body())
        table("doesn't matter", name, "read")
        return
    with pytest.raises(InputError, match=rf"'IM0000' has .* in {name}") as caught:
        read_image(tmp_path / "s")
    table("one sentence", f"{name} = {text!r}", str(caught.value)[:60])


@pytest.mark.parametrize("directions", [(0.99, 0, 0, 0, 0.99, 0), (0.7, 0.7, 0, -0.7, 0.7, 0)])
def test_direction_cosines_are_normalised(directions, tmp_path, table):
    write_slices(tmp_path / "s", body(), directions=directions)
    image = read_image(tmp_path / "s")
    right = 2 * 2 * 5
    table(f"voxels of {right} mm³", "spacing tags", f"voxels of {image.geometry.voxel_volume:.6g} mm³")
    assert image.geometry.voxel_volume == pytest.approx(right)


def test_a_jump_of_the_pixel_spacing_is_refused_with_both(tmp_path, table):
    values = body()
    for k, plane in enumerate(values):
        made = slice_dataset(plane, (*ORIGIN[:2], THICK * k), number=k + 1, spacing=(2, 2) if k < 6 else (1.5, 1.5))
        save(made, tmp_path / "s" / f"{k:02d}")
    with pytest.raises(InputError, match=r"pixel spacings 1\.5×1\.5 and 2×2 mm"):
        read_image(tmp_path / "s")
    table("both spacings named", "how it was made", "both spacings named")


def test_a_localizer_and_a_screenshot_in_the_series_are_left_out_with_a_note(tmp_path, table):
    write_slices(tmp_path / "s", body())
    localizer = slice_dataset(
        np.zeros((40, 30)),
        (0, -60, 60),
        number=99,
        directions=(0, 1, 0, 0, 0, -1),
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )
    save(localizer, tmp_path / "s" / "IM0099")
    shot = slice_dataset(
        np.zeros((28, 32)), (0, 0, 0), number=100, ImagePositionPatient=None, ImageOrientationPatient=None
    )
    shot.SOPClassUID = shot.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    save(shot, tmp_path / "s" / "IM0100")
    image = read_image(tmp_path / "s")
    np.testing.assert_array_equal(in_file_order(image), body())
    assert len(image.notes) == 2
    table("12 slices, 2 notes", "how it was made", f"{image.geometry.shape[2]} slices, {len(image.notes)} notes")


def test_copies_of_files_count_once(tmp_path, table):
    write_slices(tmp_path / "s" / "DICOM", body())
    shutil.copytree(tmp_path / "s" / "DICOM", tmp_path / "s" / "CACHE")
    image = read_image(tmp_path / "s")
    assert "copies" in image.notes[0]
    table("12 slices", "how it was made", f"{image.geometry.shape[2]} slices")


def test_a_siemens_mosaic_is_refused_with_a_way_out(tmp_path, table):
    save(slice_dataset(np.zeros((64, 64)), (0, 0, 0), modality="MR", ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]),
         tmp_path / "mosaic.dcm")  # fmt: skip
    with pytest.raises(InputError, match="Siemens mosaic.*dcm2niix"):
        read_image(tmp_path / "mosaic.dcm")
    table("refused", "Image Type", "refused")


@pytest.mark.parametrize("offsets", [np.arange(6) * 3.0, -30 + np.arange(6) * 3.0, -np.arange(6) * 3.0],
                         ids=["relative", "absolute", "downwards"])  # fmt: skip
def test_a_dose_grid_is_in_gray(offsets, tmp_path, table):
    stored = np.random.default_rng(0).integers(0, 60000, (6, 20, 30))
    path = write_dose(tmp_path / "dose.dcm", stored, 0.001, offsets)
    image = read_image(path)
    header = pydicom.dcmread(path)
    right = header.pixel_array * float(header.DoseGridScaling)
    down = offsets[-1] < offsets[0]
    np.testing.assert_allclose(in_file_order(image), right[::-1] if down else right, atol=1e-3)
    z = sorted([ORIGIN[2], ORIGIN[2] + (offsets[-1] - offsets[0])])
    np.testing.assert_allclose(image.geometry.to_world((0, 0, 0))[2], z[0])
    assert image.units == "Gy"
    table(f"{right.max():.2f} Gy", "stored × Dose Grid Scaling", f"{image.scalars.max():.2f} {image.units}")


def test_the_series_with_most_images_is_first_whatever_its_number_of_files(tmp_path, table):
    write_enhanced(tmp_path / "study" / "ct.dcm", frames_of(body()), series="ct")
    write_slices(tmp_path / "study" / "loc", body(slices=3), series="localizer")
    with pytest.raises(InputError, match=r"1: CT, 12 images of 48×40; 2: CT, 3 images"):
        read_image(tmp_path / "study")
    assert read_image(tmp_path / "study", series="1").geometry.shape[2] == 12
    table("the file of 12 frames", "how it was made", "the file of 12 frames")


def test_positions_rounded_by_the_scanner_are_accepted(tmp_path, table):
    angle = np.radians(7.7)
    column, normal = np.array([0, np.cos(angle), np.sin(angle)]), np.array([0, -np.sin(angle), np.cos(angle)])
    values = body(slices=10)
    for k, plane in enumerate(values):
        made = slice_dataset(
            plane, np.round(ORIGIN + 7.0 * k * normal, 1), number=k + 1, directions=(1, 0, 0, *np.round(column, 6)),
            SpacingBetweenSlices=2.0,
        )  # fmt: skip
        save(made, tmp_path / "ge" / f"{k:02d}")
    image = read_image(tmp_path / "ge")
    table("7.0 mm between slices", "Image Position", f"{image.geometry.spacing[2]:.2f} mm between slices")
    assert image.geometry.spacing[2] == pytest.approx(7, abs=0.02)


def test_compressed_pixels_are_the_same_as_uncompressed_ones(table):
    from pydicom.data import get_testdata_file

    plain = read_image(get_testdata_file("MR_small.dcm"))
    names = ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_bigendian.dcm")
    for name in names:
        np.testing.assert_array_equal(read_image(get_testdata_file(name)).scalars, plain.scalars)
    header = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
    np.testing.assert_array_equal(plain.scalars[:, :, 0].T, header.pixel_array)
    table(f"sum {int(header.pixel_array.sum())}", "pydicom", f"sum {int(plain.scalars.sum())} in {len(names)} syntaxes")


def test_jpeg_lossless_is_decoded_by_gdcm_without_its_scale(tmp_path, table):
    import SimpleITK as sitk

    values = (body()[3] + 1024).astype(np.uint16)
    picture = sitk.GetImageFromArray(values[None])
    sitk.WriteImage(picture, str(tmp_path / "x.dcm"), useCompression=True, compressor="JPEG", compressionLevel=100)
    made = pydicom.dcmread(tmp_path / "x.dcm")
    syntax = made.file_meta.TransferSyntaxUID
    assert syntax.is_compressed
    whole = slice_dataset(body()[3], tuple(ORIGIN), slope=2.0, intercept=-7.0, PhotometricInterpretation="MONOCHROME1")
    for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation", "BitsAllocated"):
        whole[name] = made[name]
    whole.file_meta.TransferSyntaxUID = syntax
    save(whole, tmp_path / "ct.dcm")
    image = read_image(tmp_path / "ct.dcm")
    table(
        "0 HU off",
        f"stored × 2 − 7, {syntax.name}",
        f"{np.abs(image.scalars[:, :, 0].T - (values * 2.0 - 7)).max():g} HU off",
    )
    np.testing.assert_array_equal(image.scalars[:, :, 0].T, values * 2 - 7)


def test_bits_above_the_stored_ones_are_no_values(tmp_path, table):
    stored = (body()[3] + 1024).astype(np.uint16)
    made = slice_dataset(body()[3], tuple(ORIGIN))
    pixels(made, stored | (np.arange(48, dtype=np.uint16) % 2 << 15))
    made.BitsStored, made.HighBit = 12, 11
    save(made, tmp_path / "overlay.dcm")
    image = read_image(tmp_path / "overlay.dcm")
    table(f"{body()[3].max()} HU", "12 bits stored", f"{image.scalars.max()} HU")
    np.testing.assert_array_equal(image.scalars[:, :, 0].T, body()[3])


def test_a_segmentation_is_no_image(tmp_path, table):
    headers = [slice_dataset(p, (*ORIGIN[:2], 5 * k), number=k + 1) for k, p in enumerate(body())]
    concept = highdicom.sr.CodedConcept("10200004", "SCT", "Liver")
    described = highdicom.seg.SegmentDescription(1, "liver", concept, concept, "MANUAL")
    made = highdicom.seg.Segmentation(
        headers,
        (body() == 100).astype(np.uint8),
        "BINARY",
        [described],
        uid("seg"),
        5,
        uid("segi"),
        1,
        "p",
        "p",
        "1",
        "1",
    )
    made.save_as(tmp_path / "seg.dcm")
    with pytest.raises(InputError, match="is a segmentation, not an image"):
        read_image(tmp_path / "seg.dcm")
    table("refused", "SOP class", "refused")


def test_oblique_enhanced_frames_are_where_highdicom_puts_them(tmp_path, table):
    normal = np.cross((0.8, 0.6, 0), (-0.36, 0.48, 0.8))
    frames = [
        {"plane": plane, "position": ORIGIN + 3.3 * k * normal, "directions": (0.8, 0.6, 0, -0.36, 0.48, 0.8)}
        for k, plane in enumerate(body())
    ]
    path = write_enhanced(tmp_path / "o.dcm", frames)
    table("0 off", "highdicom", f"{same_as_highdicom(read_image(path), path):g} off")
    assert same_as_highdicom(read_image(path), path) == 0
    assert len(AXIAL) == 6

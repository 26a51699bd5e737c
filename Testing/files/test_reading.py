"""Volumes from files: every format gives the same grid, and errors name the next step."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from support.dicom_writer import write_series
from support.phantoms import ct_phantom, oblique_geometry

from MedFMLib.core.geometry import lps_from_ras
from MedFMLib.core.image import Image
from MedFMLib.errors import InputError
from MedFMLib.files import output_name, read_image


@pytest.fixture
def oblique():
    """A right-handed oblique CT (DICOM slices can't be left-handed in the order of their normal)."""
    geometry = oblique_geometry().crop((0, 0, 0), (40, 36, 12))
    values = np.random.default_rng(0).integers(-1000, 1000, geometry.shape).astype(np.int16)
    return Image(values[None], geometry, "CT", "v")


def same_world(a: Image, b: Image):
    """The same values at the same places, whatever the order of the axes."""
    index = np.random.default_rng(1).integers(0, a.geometry.shape, (200, 3))
    there = np.rint(b.geometry.to_index(a.geometry.to_world(index)))
    np.testing.assert_allclose(b.geometry.to_world(there), a.geometry.to_world(index), atol=1e-3)
    np.testing.assert_array_equal(b.scalars[tuple(there.astype(int).T)], a.scalars[tuple(index.T)])
    assert sorted(a.geometry.shape) == sorted(b.geometry.shape)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"])
def test_every_volume_format_keeps_values_and_places(oblique, tmp_path, suffix):
    picture = sitk.GetImageFromArray(np.ascontiguousarray(oblique.scalars.transpose(2, 1, 0)))
    affine = lps_from_ras(oblique.geometry.affine)
    picture.SetSpacing(oblique.geometry.spacing.tolist())
    picture.SetDirection((affine[:3, :3] / oblique.geometry.spacing).ravel().tolist())
    picture.SetOrigin(affine[:3, 3].tolist())
    path = tmp_path / f"scan{suffix}"
    sitk.WriteImage(picture, str(path))
    image = read_image(path)
    same_world(oblique, image)
    assert image.modality == "CT"
    assert image.facts["modality_guessed"] == "yes"
    assert output_name(path) == image.name == "scan"


def test_a_shuffled_dicom_series_is_sorted_by_position_and_rescaled(oblique, tmp_path):
    write_series(oblique, tmp_path / "series", BodyPartExamined="CHEST", KVP=120)
    image = read_image(tmp_path / "series")
    same_world(oblique, image)
    assert image.modality == "CT"
    assert image.geometry.frame_of_reference == "1.2.3"
    assert image.facts["BodyPartExamined"] == "CHEST"
    assert "modality_guessed" not in image.facts
    assert not any("Secret" in value or value == "42" for value in image.facts.values())


def test_one_dicom_file_is_a_volume_of_one_slice(oblique, tmp_path):
    path = write_series(oblique, tmp_path, shuffle=False)[3]
    image = read_image(path)
    assert image.geometry.shape == (40, 36, 1)
    np.testing.assert_allclose(image.geometry.to_world((5, 6, 0)), oblique.geometry.to_world((5, 6, 3)), atol=1e-3)


def test_two_series_in_a_folder_must_be_distinguished(oblique, tmp_path):
    write_series(oblique, tmp_path / "a")
    smaller = Image(oblique.voxels[..., :5], oblique.geometry.crop((0, 0, 0), (40, 36, 5)), "MR", "v")
    write_series(smaller, tmp_path / "b")
    with pytest.raises(InputError, match=r"contains 2 series \(1: CT, 12 images of 40×36; 2: MR, 5 images.*--series"):
        read_image(tmp_path)
    assert read_image(tmp_path, series="2").modality == "MR"
    with pytest.raises(InputError, match="has no series '3'"):
        read_image(tmp_path, series="3")


def test_a_missing_slice_is_noticed(oblique, tmp_path):
    paths = write_series(oblique, tmp_path, shuffle=False)
    paths[5].unlink()
    with pytest.raises(InputError, match=r"Slices are missing.*6\.2 mm lie between '000[46].dcm' and '000[46].dcm'"):
        read_image(tmp_path)


def test_a_truncated_slice_is_refused(oblique, tmp_path):
    path = write_series(oblique, tmp_path, shuffle=False)[2]
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match=r"'0002.dcm' is truncated"):
        read_image(tmp_path)


def test_a_file_cut_within_its_header_is_refused_or_not_taken_for_an_image(oblique, tmp_path):
    path = write_series(oblique, tmp_path, shuffle=False)[2]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError):
        read_image(tmp_path)


def test_mixed_directions_and_sizes_are_refused(oblique, tmp_path):
    import pydicom

    path = write_series(oblique, tmp_path, shuffle=False)[4]
    data = pydicom.dcmread(path)
    data.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    data.save_as(path)
    with pytest.raises(InputError, match="mixes slice directions"):
        read_image(tmp_path)
    data.Rows = 18
    data.save_as(path)
    with pytest.raises(InputError, match="mixes image sizes"):
        read_image(tmp_path)


def test_slices_without_a_place_are_refused(oblique, tmp_path):
    import pydicom

    path = write_series(oblique, tmp_path, shuffle=False)[0]
    data = pydicom.dcmread(path)
    del data.ImagePositionPatient
    data.save_as(path)
    with pytest.raises(InputError, match="ImagePositionPatient is missing"):
        read_image(tmp_path)


def test_a_series_with_time_points_needs_a_frame(oblique, tmp_path):
    for point in range(3):
        later = oblique.with_voxels(oblique.voxels // 2 + point)
        for path in write_series(later, tmp_path / str(point), shuffle=False, SeriesInstanceUID="1.2.9"):
            shutil.move(path, tmp_path / f"{point}-{path.name}")
    with pytest.raises(InputError, match="has 3 frames; choose one with --frame 0 to 2"):
        read_image(tmp_path)
    assert read_image(tmp_path, frame=1).geometry.shape == (40, 36, 12)


def test_other_files_next_to_a_series_are_ignored(oblique, tmp_path):
    write_series(oblique, tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    assert read_image(tmp_path).geometry.shape == (40, 36, 12)


def test_pydicoms_own_ct_and_mr_are_read():
    from pydicom.data import get_testdata_file

    for name, modality in (("CT_small.dcm", "CT"), ("MR_small.dcm", "MR")):
        image = read_image(get_testdata_file(name))
        assert image.modality == modality
        assert image.geometry.shape[2] == 1


def test_a_modality_can_be_stated(tmp_path):
    image = ct_phantom()
    sitk.WriteImage(sitk.GetImageFromArray(image.scalars), str(tmp_path / "x.nrrd"))
    stated = read_image(tmp_path / "x.nrrd", modality="MR")
    assert stated.modality == "MR"
    assert "modality_guessed" not in stated.facts
    with pytest.raises(InputError, match="Unknown modality 'XX'"):
        read_image(tmp_path / "x.nrrd", modality="XX")


# -- the open test images --------------------------------------------------------------------------------


def test_one_brain_in_four_orientations_is_the_same_brain(open_data):
    images = [read_image(open_data("orientation", f"{code}.nii.gz")) for code in ("RAS", "LPI", "PIR", "ASL")]
    assert [image.geometry.axis_codes for image in images] == ["RAS", "LPI", "PIR", "ASL"]
    for image in images[1:]:
        same_world(images[0], image)


def test_a_real_oblique_mr_series_has_the_place_that_its_headers_say(open_data):
    import pydicom

    folder = open_data("dicom_mr_brain")
    image = read_image(folder)
    assert (image.modality, image.geometry.shape[2]) == ("MR", 19)
    header = pydicom.dcmread(next(folder.glob("*.dcm")), stop_before_pixels=True)
    corner = np.array(header.ImagePositionPatient, float) * (-1, -1, 1)
    index = image.geometry.to_index(corner)
    np.testing.assert_allclose(index[:2], 0, atol=0.01)
    assert abs(index[2] - round(index[2])) < 0.05  # its spacing is uneven by hundredths of a millimetre


def test_five_slices_of_a_chest_are_a_slab_sorted_by_position(open_data):
    image = read_image(open_data("dicom_ct_chest"))
    assert image.geometry.shape == (512, 512, 5)
    assert image.geometry.axis_codes == "LPS"
    assert image.facts["BodyPartExamined"] == "CHEST"


def test_a_real_ct_series_is_in_hounsfield_units(open_data):
    image = read_image(open_data("dicom_seg", "ct"))
    assert image.modality == "CT"
    assert image.scalars.min() <= -900
    assert 0 < np.median(image.scalars[image.scalars > -200]) < 120


def test_a_real_4d_series_needs_a_frame(open_data):
    path = open_data("sequences", "brain_asl_4d.nii.gz")
    with pytest.raises(InputError, match="4D with .* frames"):
        read_image(path)
    assert read_image(path, frame=1).voxels.ndim == 4

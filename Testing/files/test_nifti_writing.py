"""NIfTI that MedFM writes lies at the same place for nibabel, SimpleITK and MedFM, whatever the grid."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from MedFMLib.core.geometry import UNORIENTED, Geometry
from MedFMLib.errors import OutputError
from MedFMLib.files import read_image
from MedFMLib.files.sitk import geometry_of
from MedFMLib.files.writing import write_volume

TYPES = (np.uint8, np.int16, np.float32, np.uint16, np.int64, np.int8, np.float64, np.uint32, np.int32, np.uint64)


def random_axes(rng, kind: str) -> np.ndarray:
    """(3, 3) axes of length 1."""
    if kind == "signed permutation":
        return np.diag(rng.choice([-1.0, 1.0], 3))[rng.permutation(3)]
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    if kind == "nearly half a turn":  # where a quaternion in single precision is worst
        around = axes[:, 0]
        return np.linalg.qr(2 * np.outer(around, around) - np.eye(3) + rng.normal(size=(3, 3)) * 1e-5)[0]
    if kind == "sheared":
        return axes @ (np.eye(3) + np.triu(rng.normal(size=(3, 3)) * 0.2, 1))
    return axes


def apart(one: Geometry, affine: np.ndarray) -> float:
    return float(np.abs(one.corners() - Geometry(one.shape, affine).corners()).max())


@pytest.mark.parametrize("kind", ["signed permutation", "oblique", "nearly half a turn", "sheared"])
def test_every_reader_finds_the_same_voxels_at_the_same_place(tmp_path, kind):
    rng, worst = np.random.default_rng(7), {"nibabel": 0.0, "SimpleITK": 0.0, "MedFM": 0.0}
    for number in range(60):
        affine = np.eye(4)
        affine[:3, :3] = random_axes(rng, kind) * rng.uniform(0.3, 5, 3)
        affine[:3, 3] = rng.uniform(-300, 300, 3)
        geometry = Geometry(rng.integers(2, 60, 3), affine)
        values = rng.integers(0, 100, geometry.shape).astype(TYPES[number % len(TYPES)])
        path = write_volume(tmp_path / f"{number}{('.nii', '.nii.gz')[number % 2]}", values, geometry)
        image = nibabel.load(path)
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), values)
        assert image.get_data_dtype() == values.dtype
        worst["nibabel"] = max(worst["nibabel"], apart(geometry, image.affine))
        worst["MedFM"] = max(worst["MedFM"], apart(geometry, read_image(path).geometry.affine))
        if int(image.header["qform_code"]):
            worst["nibabel"] = max(worst["nibabel"], apart(geometry, image.get_qform()))
        else:
            assert kind in ("sheared", "nearly half a turn")
        if kind != "sheared":
            picture = sitk.ReadImage(str(path))
            np.testing.assert_array_equal(sitk.GetArrayFromImage(picture).T, values)
            worst["SimpleITK"] = max(worst["SimpleITK"], apart(geometry, geometry_of(picture).affine))
    assert max(worst.values()) < 2e-3, worst


def test_a_sheared_grid_has_no_quaternion_and_keeps_its_shear(tmp_path):
    affine = np.array([[2, 0, 0.4, 1], [0, 2, 0.3, 2], [0, 0, 5, 3], [0, 0, 0, 1.0]])
    values = np.arange(24).reshape(2, 3, 4).astype(np.int16)
    path = write_volume(tmp_path / "a.nii.gz", values, Geometry(values.shape, affine))
    header = nibabel.load(path).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 1)
    np.testing.assert_allclose(header.get_sform(), affine, atol=1e-6)


def test_a_grid_without_an_orientation_states_none(tmp_path):
    source = nibabel.Nifti1Image(np.arange(24).reshape(2, 3, 4).astype(np.int16), None)
    source.header.set_zooms((2, 2, 5))
    nibabel.save(source, tmp_path / "source.nii")
    image = read_image(tmp_path / "source.nii")
    assert image.geometry.space == UNORIENTED
    path = write_volume(tmp_path / "copy.nii", image.scalars, image.geometry)
    header = nibabel.load(path).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 0)
    copy = read_image(path)
    assert copy.geometry.space == UNORIENTED and copy.geometry.matches(image.geometry)


def test_bool_becomes_bytes_and_what_nifti_can_not_hold_is_refused(tmp_path):
    grid = Geometry((2, 2, 2), np.eye(4))
    path = write_volume(tmp_path / "a.nii", np.ones((2, 2, 2), bool), grid)
    assert nibabel.load(path).get_data_dtype() == np.uint8
    with pytest.raises(OutputError, match=r"can't hold complex128 voxels .* write a \.nrrd"):
        write_volume(tmp_path / "b.nii", np.ones((2, 2, 2), complex), grid)
    with pytest.raises(OutputError, match="40000"):
        write_volume(tmp_path / "c.nii", np.ones((40000, 1, 1), np.uint8), Geometry((40000, 1, 1), np.eye(4)))
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]

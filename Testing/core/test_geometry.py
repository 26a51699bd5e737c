"""Positions of voxels in the patient."""

import itertools

import numpy as np
import pytest
from support.phantoms import affine, oblique_geometry, rotation

from MedFMLib.core.geometry import Geometry, lps_from_ras
from MedFMLib.errors import InputError


def test_index_and_world_are_inverse_on_an_oblique_flipped_grid():
    geometry = oblique_geometry()
    points = np.random.default_rng(0).uniform(-50, 50, (20, 3))
    np.testing.assert_allclose(geometry.to_index(geometry.to_world(points)), points, atol=1e-9)


def test_the_world_of_a_known_voxel():
    geometry = Geometry((10, 10, 10), affine(np.diag([-1, 1, 1]), (2, 3, 4), (100, 0, -5)))
    np.testing.assert_allclose(geometry.to_world((1, 2, 3)), (98, 6, 7))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((-1, 1), repeat=3)))
def test_axis_codes_name_every_order_and_flip(order, signs):
    directions = np.zeros((3, 3))
    for column, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        directions[axis, column] = sign
    geometry = Geometry((4, 5, 6), affine(directions, (1, 2, 3)))
    expected = "".join(("LR", "PA", "IS")[a][s > 0] for a, s in zip(order, signs, strict=True))
    assert geometry.axis_codes == expected
    assert geometry.index_axis("axial") == order.index(2)


def test_a_grid_tilted_by_44_degrees_still_has_three_different_axes():
    for angle in range(0, 360, 4):
        geometry = Geometry((4, 4, 4), affine(rotation(angle, angle / 2, -angle)))
        assert sorted(geometry.world_axes) == [0, 1, 2]


def test_a_crop_keeps_every_voxel_where_it_was():
    geometry = oblique_geometry()
    cropped = geometry.crop((2, 3, 4), (10, 12, 9))
    assert cropped.shape == (8, 9, 5)
    np.testing.assert_allclose(cropped.to_world((1, 1, 1)), geometry.to_world((3, 4, 5)))


def test_the_acquisition_plane_is_that_of_the_thick_slices():
    assert Geometry((9, 9, 9), affine(spacing=(1, 5, 1))).acquisition_plane == "coronal"
    assert Geometry((9, 9, 9), affine(spacing=(5, 1, 1))).acquisition_plane == "sagittal"
    assert Geometry((9, 9, 9), affine(spacing=(1, 1, 1.05))).acquisition_plane == "axial"


def test_voxel_volume_is_right_for_sheared_grids():
    sheared = affine(spacing=(1, 2, 3))
    sheared[0, 2] = 1.5
    assert Geometry((4, 4, 4), sheared).voxel_volume == pytest.approx(6)


def test_matching_needs_the_same_place_and_the_same_frame():
    geometry = oblique_geometry()
    moved = affine(origin=(0.01, 0, 0)) @ geometry.affine
    assert geometry.matches(Geometry(geometry.shape, geometry.affine, "1.2.3"))
    assert geometry.matches(Geometry(geometry.shape, geometry.affine))
    assert not geometry.matches(Geometry(geometry.shape, geometry.affine, "9.9"))
    assert not geometry.matches(Geometry(geometry.shape, moved, "1.2.3"))
    assert not geometry.matches(geometry.crop((0, 0, 0), (39, 36, 20)))
    assert geometry == Geometry(geometry.shape, geometry.affine, "1.2.3")
    assert geometry != Geometry(geometry.shape, moved, "1.2.3")
    assert hash(geometry) != hash(Geometry(geometry.shape, moved, "1.2.3"))


@pytest.mark.parametrize(
    ("shape", "matrix", "says"),
    [
        ((0, 4, 4), np.eye(4), "at least 1"),
        ((4, 4), np.eye(4), "three sizes"),
        ((4, 4, 4), np.eye(3), "4×4"),
        ((4, 4, 4), np.full((4, 4), np.nan), "finite"),
        ((4, 4, 4), np.diag([1.0, 0.0, 1.0, 1.0]), "not independent"),
        ((4, 4, 4), np.ones((4, 4)) + np.eye(4), "last row"),
    ],
)
def test_impossible_grids_are_refused(shape, matrix, says):
    with pytest.raises(InputError, match=says):
        Geometry(shape, matrix)


def test_a_geometry_can_not_be_changed():
    geometry = oblique_geometry()
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 5


def test_lps_and_ras_differ_in_the_first_two_axes():
    assert np.array_equal(lps_from_ras(np.eye(4)), np.diag([-1, -1, 1, 1]))


def test_a_boxed_mask_is_the_mask_again():
    from MedFMLib.core.geometry import BoxedMask

    mask = np.zeros((9, 8, 7), bool)
    mask[2:5, 3, 1:6] = True
    mask[3, 3, 3] = False
    for stored in (mask, np.asfortranarray(mask)):
        boxed = BoxedMask.of(stored)
        assert (boxed.start, boxed.inside.shape, boxed.shape) == ((2, 3, 1), (3, 1, 5), (9, 8, 7))
        assert np.array_equal(boxed.whole(), mask)
        assert np.array_equal(np.asarray(boxed), mask)
    part = BoxedMask.of(mask[1:, 2:], mask.shape, (1, 2, 0))
    assert np.array_equal(part.whole(), mask)
    assert not BoxedMask.of(np.zeros((3, 3, 3), bool)).whole().any()


def test_a_segment_of_a_boxed_mask_is_like_any_other():
    from dataclasses import replace

    from MedFMLib.core.findings import Segment
    from MedFMLib.core.geometry import BoxedMask

    mask = np.zeros((9, 8, 7), bool)
    mask[2:5, 3, 1:6] = True
    plain, boxed = Segment("x", mask), Segment("x", BoxedMask.of(mask))
    assert plain.shape == boxed.shape == mask.shape
    assert plain.cropped[0] == boxed.cropped[0]
    assert np.array_equal(plain.cropped[1], boxed.cropped[1])
    assert "mask" not in vars(boxed)  # nothing has asked for the whole
    assert np.array_equal(replace(boxed, label="y").mask, mask)
    assert np.array_equal(boxed.mask, mask)
    with pytest.raises(AttributeError, match="has no 'colour'"):
        _ = boxed.colour

"""Measurements from geometry."""

import numpy as np
import pytest
from support.phantoms import affine, ct_phantom, oblique_geometry, rotation, sphere

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.measure import MidsagittalPlane, as_table, measure, plane_from_image, side_of


def values_of(mask, image):
    found = measure(Segmentation((Segment("thing", mask),), image.geometry), image)
    return {m.name: m for m in found}


def test_a_sphere_on_an_oblique_anisotropic_grid_has_its_volume_and_extent():
    geometry = Geometry((80, 70, 60), affine(rotation(20, 10, 30) @ np.diag([-1, 1, 1]), (0.8, 0.9, 1.1), (9, 8, 7)))
    image = Image(np.random.default_rng(0).random((1, *geometry.shape)), geometry, "MR", "v")
    found = values_of(sphere(geometry, geometry.center, 20.0), image)
    assert found["volume"].value == pytest.approx(4 / 3 * np.pi * 20**3 / 1000, rel=0.02)
    for direction in ("left-right", "front-back", "head-foot"):
        assert found[f"extent {direction}"].value == pytest.approx(40, abs=np.linalg.norm(geometry.spacing))


def test_measurements_are_what_a_list_of_all_voxels_says():
    """Thin structures, whole planes and both orders in memory, on straight and oblique grids."""
    rng = np.random.default_rng(5)
    for turn in (np.eye(3), np.eye(3)[[2, 0, 1]], rotation(11, -7, 23)):
        geometry = Geometry((12, 10, 9), affine(turn @ np.diag([-1, 1, -1]), (1.5, 0.7, 3.0), (4, -30, 12)))
        image = Image(rng.normal(0, 300, (1, *geometry.shape)).astype(np.int16), geometry, "CT", "v")
        for where in ((4,), (slice(2, 9), 5), (slice(None), slice(3, 6), slice(1, 8)), (11, 9, 8)):
            mask = np.zeros(geometry.shape, bool)
            mask[where] = True
            if np.count_nonzero(mask) > 1:
                mask &= rng.random(geometry.shape) > 0.3
            world = geometry.to_world(np.argwhere(mask))
            voxel = np.abs(geometry.affine[:3, :3]).sum(1)
            for stored in (mask, np.asfortranarray(mask)):
                found = values_of(stored, image)
                extents = [found[f"extent {name}"].value for name in ("left-right", "front-back", "head-foot")]
                assert np.allclose(extents, np.ptp(world, axis=0) + voxel)
                assert found["volume"].value == pytest.approx(len(world) * geometry.voxel_volume / 1000)
                assert found["mean intensity"].value == pytest.approx(image.scalars[mask].mean())
                assert found["intensity SD"].value == pytest.approx(image.scalars[mask].std())
                side = side_of(world, plane_from_image(image))
                assert (found["side"].value if "side" in found else "") == side


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_the_side_is_the_patients_whatever_the_direction_of_the_axes(signs):
    geometry = Geometry((60, 40, 20), affine(np.diag(signs), (2, 2, 2)))
    values = np.full(geometry.shape, -1000.0)
    values[5:-5] = 40  # a body with air on both of its sides
    image = Image(values[None], geometry, "CT", "v")
    right = sphere(geometry, geometry.center + np.array((30, 0, 0)), 10)
    left = sphere(geometry, geometry.center - np.array((30, 0, 0)), 10)
    middle = sphere(geometry, geometry.center, 12)
    assert values_of(right, image)["side"].value == "right"
    assert values_of(left, image)["side"].value == "left"
    assert values_of(middle, image)["side"].value == "midline"


def test_the_midline_is_the_bodys_not_the_grids():
    geometry = Geometry((100, 40, 20), affine(spacing=(2, 2, 2)))
    values = np.full(geometry.shape, -1000.0)
    values[60:90, 10:30] = 40  # a body far on the right of the grid: x from 120 to 178 mm
    image = Image(values[None], geometry, "CT", "v")
    assert plane_from_image(image).point[0] == pytest.approx(149, abs=3)
    left_organ = np.zeros(geometry.shape, bool)
    left_organ[62:68, 15:25, 5:15] = True
    assert values_of(left_organ, image)["side"].value == "left"


def test_mean_intensity_is_in_hu_for_ct_and_has_no_unit_otherwise():
    image = ct_phantom()
    mask = image.scalars == 90
    found = values_of(mask, image)
    assert (found["mean intensity"].value, found["mean intensity"].unit) == (90, "[hnsf'U]")
    assert found["side"].value == "right"
    mr = Image(image.voxels, image.geometry, "MR", "v")
    assert values_of(mask, mr)["mean intensity"].unit == ""


def test_an_empty_segment_has_no_measurements():
    image = ct_phantom()
    assert measure(Segmentation((Segment("x", np.zeros(image.geometry.shape, bool)),), image.geometry), image) == ()


def test_a_pair_of_parts_on_both_sides_crosses_the_midline():
    plane = MidsagittalPlane((0, 0, 0), (1, 0, 0), 1.0, 0.0, "outline of the body")

    def at(*x):
        return side_of(np.array([(value, 0.0, 0.0) for value in x]), plane)

    assert at(*[-30.0] * 40, *[30.0] * 60) == "midline"
    assert at(*[-30.0] * 10, *[30.0] * 90) == "right"
    assert at(0.5, 0.6) == ""  # nearer than the plane is known
    assert side_of(np.array([(30.0, 0.0, 0.0)]), None) == ""


def test_the_table_has_one_row_a_segment():
    image = Image(np.random.default_rng(0).random((1, 40, 36, 20)), oblique_geometry(), "MR", "v")
    mask = sphere(image.geometry, image.geometry.center, 8)
    segmentation = Segmentation((Segment("a", mask), Segment("b", mask)), image.geometry)
    titles, rows = as_table(measure(segmentation, image))
    assert titles[:3] == ["segment", "check", "volume (mL)"]
    assert [row[0] for row in rows] == ["a", "b"]
    assert all(len(row) == len(titles) for row in rows)

"""RTSTRUCT: contours become masks whose area is the polygon's, with holes, names and colours."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.phantoms import affine, rotation
from support.segmentation_phantoms import GRID, LPS, RAS, write_rtstruct

from MedFMLib.core.geometry import Geometry, lps_from_ras
from MedFMLib.errors import InputError
from MedFMLib.files.segmentations import read_segmentation

pytest.importorskip("matplotlib")
FINE = np.array([[0.5, 0, 0, -40], [0, 0.5, 0, -40], [0, 0, 2.0, 0], [0, 0, 0, 1]])
FINE_GRID = Geometry((160, 160, 8), lps_from_ras(FINE))


def contour(points, k, lps=LPS) -> np.ndarray:
    """(n, 3) LPS mm of (n, 2) continuous indices (i, j) on slice k."""
    index = np.column_stack([points, np.full(len(points), k), np.ones(len(points))])
    return (index @ lps.T)[:, :3]


def circle(x, y, radius, count=400):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.column_stack([x + radius * np.cos(angle), y + radius * np.sin(angle)])


def square(a, b):
    return np.array([(a, a), (b, a), (b, b), (a, b)], float)


def area(points) -> float:
    """Of a polygon, by the shoelace formula."""
    x, y = np.asarray(points).T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_a_contour_through_voxel_centres_has_the_area_of_its_polygon(tmp_path):
    points = np.array([(8, 10), (15, 10), (15, 19), (8, 19)], float)
    path = write_rtstruct(tmp_path / "rt.dcm", {"liver": [contour(points, 2)]})
    (segment,) = read_segmentation(path, GRID).segments
    assert segment.mask.sum() == area(points) == 63
    assert (segment.label, segment.code.meaning, segment.origin) == ("liver", "Liver", "MANUAL")
    assert segment.color == pytest.approx((1, 0, 0.2))
    assert np.argwhere(segment.mask)[:, 2].tolist() == [2] * 63


@pytest.mark.parametrize("apart", [0.0005, 0.004, 0.008, 0.015])
def test_a_hole_stays_in_its_outline_where_their_positions_are_rounded_differently(apart, tmp_path):
    """In slices; a contour of 3.0049 and one of 3.0051 are of one slice."""
    contours = [contour(square(9.5, 19.5), 3.005 - apart / 2), contour(square(12.5, 15.5), 3.005 + apart / 2)]
    path = write_rtstruct(tmp_path / "rt.dcm", {"a": contours})
    (segment,) = read_segmentation(path, GRID).segments
    assert segment.mask.sum() == 10 * 10 - 3 * 3
    assert set(np.argwhere(segment.mask)[:, 2]) == {3}


def test_a_contour_along_voxel_borders_gives_exactly_those_voxels(tmp_path):
    path = write_rtstruct(tmp_path / "rt.dcm", {"a": [contour(square(9.5, 19.5), k) for k in (3, 4)]})
    expected = np.zeros(GRID.shape, bool)
    expected[10:20, 10:20, 3:5] = True
    np.testing.assert_array_equal(read_segmentation(path, GRID).segments[0].mask, expected)


def test_a_circle_has_its_area_and_a_contour_inside_is_a_hole(tmp_path):
    outer, inner = circle(80, 75, 60), circle(85, 70, 20)
    path = write_rtstruct(tmp_path / "rt.dcm", {"ring": [contour(outer, 3, FINE), contour(inner, 3, FINE)]})
    mask = read_segmentation(path, FINE_GRID).segments[0].mask
    assert mask.sum() == pytest.approx(area(outer) - area(inner), rel=0.005)
    assert not mask[85, 70, 3] and mask[85, 30, 3]


def test_a_hole_that_is_joined_by_a_keyhole_is_a_hole(tmp_path):
    outer, inner = circle(80, 80, 60), circle(80, 80, 20)[::-1]
    joined = np.concatenate([outer, outer[:1], inner[-1:], inner])
    path = write_rtstruct(tmp_path / "rt.dcm", {"ring": [contour(joined, 1, FINE)]})
    mask = read_segmentation(path, FINE_GRID).segments[0].mask
    assert mask.sum() == pytest.approx(area(outer) - area(inner), rel=0.01) and not mask[80, 80, 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(10, 70), min_size=5, max_size=12), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_star_shaped_polygons_have_their_area(tmp_path_factory, radii, dx, dy):
    angle = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    points = np.column_stack([80 + dx + radii * np.cos(angle), 80 + dy + radii * np.sin(angle)])
    path = write_rtstruct(tmp_path_factory.mktemp("rt") / "rt.dcm", {"a": [contour(points, 0, FINE)]})
    mask = read_segmentation(path, FINE_GRID).segments[0].mask
    around = np.linalg.norm(points - np.roll(points, 1, 0), axis=1).sum()
    assert abs(mask.sum() - area(points)) < 0.25 * around + 2  # no bias: far below half a voxel around the outline


def test_contours_of_an_oblique_image_and_of_one_in_another_axis_order(tmp_path):
    turned = lps_from_ras(affine(rotation(10, 20, -15)) @ RAS)
    geometry = Geometry(GRID.shape, lps_from_ras(turned))
    path = write_rtstruct(tmp_path / "rt.dcm", {"a": [contour(square(9.5, 19.5), 4, turned)]})
    mask = read_segmentation(path, geometry).segments[0].mask
    assert mask.sum() == 100 and mask[10:20, 10:20, 4].all()
    permuted = Geometry((10, 48, 40), geometry.affine[:, [2, 0, 1, 3]])
    np.testing.assert_array_equal(read_segmentation(path, permuted).segments[0].mask, mask.transpose(2, 0, 1))
    with pytest.raises(InputError, match=r"structure 'a', has contours that lie in no slice of the image \(up to \d"):
        read_segmentation(path, GRID)


def test_contours_between_slices_are_refused_in_mm_or_each_slice_gets_its_nearest(tmp_path):
    depths = [3.1, 3.6, 4.1, 4.6]  # drawn on slices of half the distance, 0.5 mm beside
    sizes = [4, 6, 8, 10]
    lines = [contour(square(10.5, 10.5 + s), k) for k, s in zip(depths, sizes, strict=True)]
    path = write_rtstruct(tmp_path / "rt.dcm", {"a": lines})
    with pytest.raises(InputError, match=r"between the slices of the image, up to 2 mm .*--resample"):
        read_segmentation(path, GRID)
    notes = []
    mask = read_segmentation(path, GRID, resample=True, tell=notes.append).segments[0].mask
    assert mask.sum(axis=(0, 1)).tolist() == [0, 0, 0, 16, 64, 100, 0, 0, 0, 0]  # nearest; none cancels another
    assert len(notes) == 1 and "up to 2 mm away" in notes[0]


def test_positions_as_rounded_are_no_contours_between_slices(tmp_path):
    path = write_rtstruct(tmp_path / "rt.dcm", {"a": [contour(square(10.5, 20.5), 4.015)]})
    assert read_segmentation(path, GRID).segments[0].mask.sum() == 100


def test_missing_slices_contours_outside_and_points_are_said(tmp_path):
    every_second = [contour(square(10.5, 20.5), k) for k in (2, 4, 6)]
    notes = []
    path = write_rtstruct(tmp_path / "rt.dcm", {"a": every_second, "empty": []})
    read = read_segmentation(path, GRID, tell=notes.append)
    assert [s.label for s in read.segments] == ["a"] and read["a"].mask.sum() == 300
    assert "contours 2 slices apart" in notes[0]
    assert "no voxels of 'empty'" in notes[1]

    path = write_rtstruct(tmp_path / "out.dcm", {"a": [*every_second, contour(square(10.5, 20.5), 12)]})
    with pytest.raises(InputError, match="contours outside of the image, which would be cut off"):
        read_segmentation(path, GRID)
    assert read_segmentation(path, GRID, resample=True, tell=notes.append)["a"].mask.sum() == 300

    path = write_rtstruct(tmp_path / "points.dcm", {"marker": [contour([(3.0, 4.0)], 2)]}, "POINT")
    with pytest.raises(InputError, match="has no label"):
        read_segmentation(path, GRID, tell=notes.append)
    assert any("points or open lines" in note and "marker" in note for note in notes)


def test_a_contour_with_damaged_numbers_gets_one_sentence(tmp_path):
    import pydicom

    path = write_rtstruct(tmp_path / "rt.dcm", {"liver": [contour(square(9.5, 19.5), 3)]})
    data = pydicom.dcmread(path)
    data.ROIContourSequence[0].ContourSequence[0].ContourData = [1.0, 2.0, 3.0, 4.0]
    data.save_as(path)
    with pytest.raises(InputError, match=r"contour of 'liver' whose ContourData \(3006,0050\)"):
        read_segmentation(path, GRID)


def test_without_matplotlib_one_sentence_says_how_to_install_it(tmp_path, monkeypatch):
    path = write_rtstruct(tmp_path / "rt.dcm", {"liver": [contour(square(9.5, 19.5), 3)]})
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="pip install matplotlib"):
        read_segmentation(path, GRID)

"""Diameters, surfaces, percentiles and pairs on phantoms whose sizes are known; `pytest -s` prints the table."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from support.phantoms import affine, rotation

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.measure import as_table, compare, measure_fully
from MedFMLib.measure.shape import surface_area

GRIDS = {
    "1 mm": Geometry((100, 100, 100), affine(spacing=(1.0, 1.0, 1.0))),
    "0.8 × 0.8 × 3 mm, oblique": Geometry((130, 130, 36), affine(rotation(10, -20, 15), (0.8, 0.8, 3.0), (9, -8, 7))),
    "1.2 mm, turned": Geometry((84, 84, 84), affine(rotation(30, 20, 10), (1.2, 1.2, 1.2), (-50, 3, 40))),
    "sagittal, 1 × 1 × 2 mm": Geometry((110, 110, 55), affine(np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]), (1.0, 1.0, 2.0))),
}  # fmt: skip


def positions(geometry: Geometry) -> np.ndarray:
    """(I, J, K, 3) RAS mm of every voxel from the grid's middle."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"), axis=-1)
    return geometry.to_world(index) - geometry.center


def ball(world):
    return (world**2).sum(axis=-1) <= 20.3**2


def egg(world):
    return ((world @ rotation(25, -35, 50) / (31.0, 18.5, 12.2)) ** 2).sum(axis=-1) <= 1


def brick(world):
    return (np.abs(world @ rotation(-15, 40, 20)) <= (21.0, 15.0, 9.0)).all(axis=-1)


PHANTOMS = {
    "sphere r 20.3": (ball, 4 / 3 * np.pi * 20.3**3, 40.6),
    "ellipsoid 31, 18.5, 12.2": (egg, 4 / 3 * np.pi * 31 * 18.5 * 12.2, 62.0),
    "box 42 × 30 × 18": (brick, 42 * 30 * 18, float(np.linalg.norm((42, 30, 18)))),
}


def measured(mask, geometry, values=None):
    image = Image((np.zeros(geometry.shape) if values is None else values)[None], geometry, "CT")
    results = measure_fully(Segmentation((Segment("x", mask),), geometry), image)
    return {m.name: m.value for m in results}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("phantom", PHANTOMS)
def test_volume_is_within_2_percent_and_the_diameter_within_a_voxels_diagonal(grid, phantom, capsys):
    make, volume, diameter = PHANTOMS[phantom]
    geometry = GRIDS[grid]
    found = measured(make(positions(geometry)), geometry)
    diagonal = float(np.linalg.norm(geometry.spacing))
    with capsys.disabled():
        print(
            f"\n{phantom:26s} {grid:28s} volume {found['volume']:7.2f} of {volume / 1000:7.2f} mL, "
            f"longest {found['longest diameter']:5.1f} of {diameter:5.1f} mm, surface {found['surface']:6.0f} mm²",
            end="",
        )
    assert found["volume"] * 1000 == pytest.approx(volume, rel=0.02)
    assert abs(found["longest diameter"] - diameter) <= diagonal
    assert "cut off" not in found


@pytest.mark.parametrize("grid", GRIDS)
def test_a_sphere_is_as_long_as_wide_in_plane_and_has_its_surface(grid):
    geometry = GRIDS[grid]
    found = measured(ball(positions(geometry)), geometry)
    diagonal = float(np.linalg.norm(geometry.spacing))
    assert abs(found["long axis"] - 40.6) <= diagonal
    assert abs(found["short axis"] - 40.6) <= diagonal
    assert found["surface"] == pytest.approx(4 * np.pi * 20.3**2, rel=0.04)
    assert [found[f"centroid {a}"] for a in "RAS"] == pytest.approx(geometry.center.tolist(), abs=0.5)


def test_the_axes_of_a_plate_are_its_sides_in_its_slice():
    """A plate of 40 × 12 mm in axial slices, turned by 30 degrees in plane."""
    geometry = GRIDS["1 mm"]
    turned = positions(geometry) @ rotation(0, 0, 30)
    found = measured((np.abs(turned) <= (20.0, 6.0, 2.0)).all(axis=-1), geometry)
    assert found["long axis"] == pytest.approx(float(np.hypot(40, 12)), abs=1.8)
    long_angle = np.arctan2(12, 40)
    across = 12 / np.cos(long_angle)  # the longest chord perpendicular to the diagonal
    assert found["short axis"] == pytest.approx(across, abs=1.8)


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_sides_are_right_in_eight_orientations(signs):
    geometry = Geometry((60, 50, 40), affine(np.diag(np.array(signs, float)), (2.0, 2.0, 3.0)))
    world = positions(geometry)
    body = (np.abs(world) <= (50, 40, 50)).all(axis=-1)
    values = np.where(body, 40.0, -1000.0)
    image = Image(values[None], geometry, "CT")
    right = ((world - (30, 0, 0)) ** 2).sum(axis=-1) <= 10**2
    left = ((world - (-30, 0, 0)) ** 2).sum(axis=-1) <= 10**2
    segments = tuple(Segment(n, m) for n, m in (("a", right), ("b", left), ("c", (world**2).sum(axis=-1) <= 100)))
    results = measure_fully(Segmentation(segments, geometry), image)
    assert {m.segment: m.value for m in results if m.name == "side"} == {"a": "right", "b": "left", "c": "midline"}


def test_a_structure_at_the_edge_is_reported_as_cut_off():
    geometry = GRIDS["1 mm"]
    found = measured(ball(positions(geometry) - (45, 0, 0)), geometry)
    assert found["cut off"] == "at the image's edge"


def test_percentiles_are_those_of_the_values():
    geometry = Geometry((20, 20, 20), affine())
    values = np.arange(8000, dtype=float).reshape(20, 20, 20)
    mask = np.zeros((20, 20, 20), bool)
    mask[2:7, 3:9, 4:15] = True
    found = measured(mask, geometry, values)
    inside = values[mask]
    assert found["median intensity"] == np.median(inside)
    assert found["10th percentile"] == pytest.approx(np.percentile(inside, 10))
    assert (found["minimum"], found["maximum"]) == (inside.min(), inside.max())


def test_a_single_voxel_has_sizes():
    geometry = Geometry((9, 9, 9), affine(spacing=(1.0, 2.0, 3.0)))
    mask = np.zeros(geometry.shape, bool)
    mask[4, 4, 4] = True
    found = measured(mask, geometry)
    assert found["longest diameter"] == pytest.approx(3.0)
    assert 1.0 <= found["short axis"] <= found["long axis"] <= np.hypot(2, 3)
    assert surface_area(mask, geometry) > 0


def test_two_structures_overlap_or_are_apart():
    geometry = GRIDS["0.8 × 0.8 × 3 mm, oblique"]
    world = positions(geometry)
    here = Segment("a", ((world - (-15, 0, 0)) ** 2).sum(axis=-1) <= 10**2)
    there = Segment("b", ((world - (15, 0, 0)) ** 2).sum(axis=-1) <= 10**2)
    pair = compare(here, there, geometry)
    assert (pair.overlap, pair.dice) == (0, 0)
    assert pair.gap == pytest.approx(10, abs=np.linalg.norm(geometry.spacing))
    assert pair.centers == pytest.approx(30, abs=0.5)
    same = compare(here, here, geometry)
    assert (same.dice, same.gap, same.centers) == (1, 0, 0)


def test_narrow_tables_leave_the_rest_out():
    geometry = GRIDS["1 mm"]
    image = Image(np.zeros((1, *geometry.shape)), geometry, "CT")
    results = measure_fully(Segmentation((Segment("x", ball(positions(geometry))),), geometry), image)
    titles, rows = as_table(results, ("volume", "side"))
    assert titles == ["segment", "check", "volume (mL)"]  # no side: no body
    assert len(rows[0]) == 3


def test_forty_structures_of_a_large_volume_take_seconds():
    geometry = Geometry((256, 256, 200), affine(spacing=(1.0, 1.0, 1.0)))
    world = np.indices(geometry.shape)
    segments = []
    for n in range(40):
        center = np.array([30 + 25 * (n % 8), 30 + 40 * (n // 8), 30 + 3 * n])[:, None, None, None]
        box = tuple(slice(max(0, c - 22), c + 22) for c in center.ravel())
        mask = np.zeros(geometry.shape, bool)
        mask[box] = ((world[(slice(None), *box)] - center) ** 2).sum(axis=0) <= 20**2
        segments.append(Segment(f"s{n}", mask))
    image = Image(np.zeros((1, *geometry.shape), np.int16), geometry, "CT")
    started = time.monotonic()
    measure_fully(Segmentation(tuple(segments), geometry), image)
    assert time.monotonic() - started < 20

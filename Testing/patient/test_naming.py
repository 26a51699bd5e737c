"""Names on a slice: each lies in its structure on any plane, and columns of names never overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.geometry import Geometry
from MedFMLib.patient.naming import STEP, NamedVoxels, stacked


def oblique() -> Geometry:
    angle = np.deg2rad(31)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0.1, 0, 0.995]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.5, 1.2, 2.5])
    affine[:3, 3] = 30, -40, 12
    return Geometry((40, 44, 30), affine)


def box(low, high, shape) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


@pytest.fixture
def named():
    g = oblique()
    segments = (
        Segment("head", np.ones(g.shape, bool)),
        Segment("brain", box((5, 5, 5), (35, 40, 25), g.shape)),
        Segment("left kidney", box((18, 18, 10), (26, 26, 20), g.shape)),
    )
    return NamedVoxels(Segmentation(segments, g))


def plane_through(g: Geometry, index, pixel=0.5) -> np.ndarray:
    """A plane of a slice view through a voxel, turned against the grid."""
    across, up = np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.0, 1.0])
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2] = pixel * across, pixel * up, np.cross(across, up)
    matrix[:3, 3] = g.to_world(np.array(index, float)) - 100 * pixel * across - 100 * pixel * up
    return matrix


def test_an_anchor_lies_in_its_structure_and_the_smallest_wins(named):
    matrix = plane_through(named.geometry, (22, 22, 15))
    found = named.anchors(matrix, 200, 200)
    assert [anchor.label for anchor in found] == ["brain", "left kidney"]
    for anchor in found:
        point = (matrix @ [anchor.x, anchor.y, 0, 1])[:3]
        assert named.labels[named.at(point[None])[0] - 1] == anchor.label
    assert found[1].size == pytest.approx(
        sum(
            1
            for x in np.arange(STEP / 2, 200, STEP)
            for y in np.arange(STEP / 2, 200, STEP)
            if (i := named.geometry.to_index((matrix @ [x, y, 0, 1])[:3])) is not None
            and np.all(np.floor(i + 0.5) >= (18, 18, 10))
            and np.all(np.floor(i + 0.5) < (26, 26, 20))
        )
    )


def test_outside_of_the_grid_nothing_has_a_name(named):
    matrix = plane_through(named.geometry, (22, 22, 15))
    matrix[:3, 3] += 1e4
    assert named.anchors(matrix, 200, 200) == []
    assert named.anchors(matrix, 0, 0) == []


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(-50, 700), st.floats(8, 60)), max_size=8))
def test_columns_do_not_overlap_and_stay_inside(boxes):
    room, kept = 500.0, []
    for top, tall in boxes:
        if sum(h for _, h in kept) + tall <= room:
            kept.append((top, tall))
    kept.sort()
    tops = stacked([top for top, _ in kept], [tall for _, tall in kept], room)
    assert len(tops) == len(kept)
    for n, (top, (_, tall)) in enumerate(zip(tops, kept, strict=True)):
        assert top >= -1e-6 and top + tall <= room + 1e-6
        assert n == 0 or top >= tops[n - 1] + kept[n - 1][1] - 1e-6

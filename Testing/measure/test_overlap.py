"""Overlap and surface distances, compared with MedPy on random masks, and their rules for empty ones."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from MedFMLib.measure.overlap import box_iou, dice, dice_of_counts, surface_distances

medpy = pytest.importorskip("medpy.metric.binary")


def blob(random, shape):
    """A mask of one to three balls somewhere in an array."""
    grid = np.indices(shape)
    mask = np.zeros(shape, bool)
    for _ in range(random.integers(1, 4)):
        center = [random.uniform(2, n - 3) for n in shape]
        radius = random.uniform(1, min(shape) / 3)
        mask |= sum((g - c) ** 2 for g, c in zip(grid, center, strict=True)) <= radius**2
    return mask


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), flat=st.booleans(), touching=st.booleans())
def test_dice_and_surface_distances_are_those_of_medpy(seed, flat, touching):
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(10, 24, 2 if flat else 3))
    spacing = tuple(random.uniform(0.5, 4, len(shape)))
    found, truth = blob(random, shape), blob(random, shape)
    if touching:  # masks that reach the array's edge have a border there
        found[:3] = True
    assert dice(found, truth) == pytest.approx(medpy.dc(found, truth))
    mean, high = surface_distances(found, truth, spacing)
    distances = getattr(medpy, "__surface_distances")
    pad = [np.pad(mask, 1) for mask in (found, truth)]
    there = distances(pad[0], pad[1], voxelspacing=spacing)
    back = distances(pad[1], pad[0], voxelspacing=spacing)
    assert mean == pytest.approx(np.concatenate([there, back]).mean(), abs=1e-4)
    assert high == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), abs=1e-4)


def test_masks_without_a_voxel_are_undefined_unless_the_caller_says_what_they_are_worth():
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    assert dice(empty, full) == 0
    assert dice(empty, empty) is None
    assert dice(empty, empty, empty=1.0) == 1
    assert dice_of_counts(0, 0) is None and dice_of_counts(3, 8) == 0.75
    assert surface_distances(empty, full, (1, 1)) is None
    assert surface_distances(full, full, (1, 1)) == (0, 0)


def test_boxes():
    assert box_iou((0, 0, 1, 1), (0, 0.5, 1, 1)) == 0.5
    assert box_iou((0, 0, 0.1, 0.1), (0.5, 0.5, 1, 1)) == 0
    assert not math.isnan(box_iou((0, 0, 0, 0), (0, 0, 0, 0)))

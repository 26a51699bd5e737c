"""Compute overlap and distance of two structures whose masks lie on one grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.findings import Segment
from ..core.geometry import Geometry
from .overlap import dice_of_counts
from .shape import border_points

NEAREST_BLOCK = 2_000_000
"""Number of distances computed at a time."""


@dataclass(frozen=True)
class SegmentPair:
    """Overlap and distance of two structures.

    Args:
        overlap: volume of the intersection, mL.
        dice: Dice coefficient, 0…1.
        gap: mm between their nearest borders; 0 if they touch or overlap.
        centers: mm between their centroids.
    """

    overlap: float
    dice: float
    gap: float
    centers: float


def compare(first: Segment, second: Segment, geometry: Geometry) -> SegmentPair:
    """Return overlap and distance of two segments.

    Args:
        first: a segment with at least one voxel.
        second: another one.
        geometry: grid of both masks.
    """
    both = np.count_nonzero(first.mask & second.mask)
    sizes = np.count_nonzero(first.mask), np.count_nonzero(second.mask)
    points = [border_points(s.boxed.inside, geometry, s.boxed.start) for s in (first, second)]
    centers = [geometry.to_world(np.argwhere(s.boxed.inside).mean(axis=0) + s.boxed.start) for s in (first, second)]
    return SegmentPair(
        both * geometry.voxel_volume / 1000,
        dice_of_counts(both, sum(sizes), empty=0.0),
        0.0 if both else nearest(*points),
        float(np.linalg.norm(centers[0] - centers[1])),
    )


def nearest(first: np.ndarray, second: np.ndarray) -> float:
    """Return the smallest distance in mm between two point sets.

    Points farther from the other set's bounding box than the current minimum are skipped.

    Args:
        first: (n, 3) RAS mm.
        second: (m, 3) RAS mm.
    """
    few, many = sorted((first, second), key=len)
    best = float(np.linalg.norm(many - few[len(few) // 2], axis=1).min())
    low, high = few.min(axis=0), few.max(axis=0)
    outside = np.linalg.norm(np.maximum(np.maximum(low - many, many - high), 0), axis=1)
    many = many[outside <= best]
    low, high = many.min(axis=0), many.max(axis=0)
    few = few[np.linalg.norm(np.maximum(np.maximum(low - few, few - high), 0), axis=1) <= best]
    for part in np.array_split(few, max(1, len(few) * len(many) // NEAREST_BLOCK)):
        squared = (part**2).sum(1)[:, None] + (many**2).sum(1)[None] - 2 * part @ many.T
        best = min(best, float(np.sqrt(max(squared.min(), 0.0))))
    return best

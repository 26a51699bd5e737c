"""The same anatomical level in two images, from structures in common. Knows segmentations and grids.

Along the axis of a plane (head to foot for axial slices) every structure in common gives up to three landmarks: its two ends
and its middle, ends that the image cuts off left out. A line through them maps one image's millimetres to the other's: its
slope is the median of the slopes of all pairs (Theil 1950, Sen 1968), so that a structure that was outlined badly, or is only
half in the image, moves it little. Slopes beyond 0.5 … 2 are taken for errors: no healthy adult is twice as long as another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.findings import Segmentation
from ..core.geometry import PLANES, Geometry

SLOPES = (0.5, 2.0)
LEAST_APART_MM = 8.0
"""Pairs of landmarks that are closer say little of the slope."""


@dataclass(frozen=True)
class Level:
    """From millimetres along an axis of one image to those of another: `slope` · x + `shift`.

    Args:
        landmarks: how many places in common it was found from; 0 means by the share of the way.
        error: median distance, mm, of the landmarks from where it puts them.
    """

    slope: float
    shift: float
    landmarks: int
    error: float = 0.0

    def __call__(self, place: float) -> float:
        """mm in the other image."""
        return self.slope * place + self.shift


def find(one: Segmentation, other: Segmentation, plane: str) -> Level:
    """How `one` maps to `other` along the axis of a plane."""
    axis = PLANES.index(plane)
    mine, theirs = places(one, axis), places(other, axis)
    pairs = np.array([(mine[key], theirs[key]) for key in mine if key in theirs])
    if not len(pairs):
        return _by_share(one.geometry, other.geometry, axis)
    x, y = pairs.T
    first, second = np.triu_indices(len(x), 1)
    apart = np.abs(x[second] - x[first]) >= LEAST_APART_MM
    slopes = (y[second] - y[first])[apart] / (x[second] - x[first])[apart]
    slopes = slopes[(slopes >= SLOPES[0]) & (slopes <= SLOPES[1])]
    slope = float(np.median(slopes)) if len(slopes) else 1.0
    shift = float(np.median(y - slope * x))
    return Level(slope, shift, len(x), float(np.median(np.abs(slope * x + shift - y))))


def placement(level: Level, one: Segmentation, other: Segmentation, plane: str) -> np.ndarray:
    """4×4, RAS mm of `other` → of `one`: the level along the plane's axis; in the plane middle on middle, unstretched."""
    axis, matrix = PLANES.index(plane), np.eye(4)
    labels = {s.label for s in one.segments if s.boxed.inside.any()} & {s.label for s in other.segments}
    mine, theirs = (_middle(segmentation, labels) for segmentation in (one, other))
    matrix[:3, 3] = mine - theirs
    matrix[axis, axis], matrix[axis, 3] = 1 / level.slope, -level.shift / level.slope
    return matrix


def _middle(segmentation: Segmentation, labels) -> np.ndarray:
    """(3,) RAS mm: the mean middle of some structures, of the image if there are none."""
    geometry = segmentation.geometry
    found = [
        geometry.to_world(np.argwhere(s.boxed.inside).mean(axis=0) + np.asarray(s.boxed.start))
        for s in segmentation.segments
        if s.label in labels and s.boxed.inside.any()
    ]
    return np.mean(found, axis=0) if found else geometry.center


def places(segmentation: Segmentation, axis: int) -> dict[tuple[str, str], float]:
    """(label, "low" | "middle" | "high") → mm along a RAS axis; ends at the image's edge are left out."""
    geometry, found = segmentation.geometry, {}
    for segment in segmentation.segments:
        inside = segment.boxed.inside
        if not inside.any():
            continue
        index = np.argwhere(inside) + np.asarray(segment.boxed.start)
        along = geometry.to_world(index)[:, axis]
        low, high = _cut(index, geometry, axis)
        ends = along.min(), along.max()  # shares would move where a part of the structure is cut off
        found |= {} if low else {(segment.label, "low"): float(ends[0])}
        found |= {} if high else {(segment.label, "high"): float(ends[1])}
        found |= {} if low or high else {(segment.label, "middle"): float(np.median(along))}
    return found


def number_at(geometry: Geometry, plane: str, place: float) -> int:
    """Slice of a plane nearest to a place, mm along its RAS axis, through the image's middle; inside the image."""
    index_axis, axis = geometry.index_axis(plane), PLANES.index(plane)
    middle = (np.array(geometry.shape) - 1) / 2
    step = geometry.affine[axis, index_axis]
    number = middle[index_axis] + (place - geometry.to_world(middle)[axis]) / step
    return int(np.clip(round(number), 0, geometry.shape[index_axis] - 1))


def place_of(geometry: Geometry, plane: str, number: int) -> float:
    """mm along the RAS axis of a plane at the middle of a slice."""
    index = (np.array(geometry.shape) - 1) / 2
    index[geometry.index_axis(plane)] = number
    return float(geometry.to_world(index)[PLANES.index(plane)])


def _cut(index: np.ndarray, geometry: Geometry, axis: int) -> tuple[bool, bool]:
    """Does the image cut a structure off, at its low or its high end along a RAS axis?"""
    along = geometry.world_axes.index(axis)
    first, last = bool((index[:, along] == 0).any()), bool((index[:, along] == geometry.shape[along] - 1).any())
    return (first, last) if geometry.affine[axis, along] > 0 else (last, first)


def _by_share(one: Geometry, other: Geometry, axis: int) -> Level:
    """Middle to middle, length to length: all that can be said without a structure in common."""
    (low, high), (start, stop) = ((g.corners()[:, axis].min(), g.corners()[:, axis].max()) for g in (one, other))
    slope = float(np.clip((stop - start) / max(high - low, 1e-6), *SLOPES))
    return Level(slope, float((start + stop) / 2 - slope * (low + high) / 2), 0)

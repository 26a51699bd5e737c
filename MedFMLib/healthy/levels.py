"""Match the anatomical level of two images by their common structures. Depends on segmentations and grids.

Along the axis of a plane (head to foot for axial slices) every common structure gives up to three landmarks: its two
ends
and its middle, without ends that the image cuts off. A line through them maps one image's millimetres to the other's:
its
slope is the median of the slopes of all pairs (Theil 1950, Sen 1968), so that a badly segmented structure, or one that
is only
half in the image, has little influence. Slopes beyond 0.5 … 2 are excluded as errors: no healthy adult is twice as long
as another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.findings import Segmentation
from ..core.geometry import PLANES, Geometry

SLOPES = (0.5, 2.0)
LEAST_APART_MM = 8.0
"""Pairs of landmarks closer than this, in mm, determine the slope poorly and are excluded."""


@dataclass(frozen=True)
class Level:
    """Linear map of millimetres along an axis from one image to another: `slope` · x + `shift`.

    Args:
        slope: without unit.
        shift: mm.
        landmarks: number of common landmarks; 0 means that relative position was used.
        error: median distance of the landmarks from the line, mm.
    """

    slope: float
    shift: float
    landmarks: int
    error: float = 0.0

    def __call__(self, place: float) -> float:
        """Return the position in the other image, mm."""
        return self.slope * place + self.shift


def find(one: Segmentation, other: Segmentation, plane: str) -> Level:
    """Return the map from one image to another along the axis of a plane.

    Args:
        one: structures of the first image.
        other: structures of the second image.
        plane: sagittal, coronal or axial.
    """
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
    """Return the 4×4 transform from RAS mm of `other` to RAS mm of `one`.

    It applies the level along the plane's axis; within the plane it aligns the centres without scaling.

    Args:
        level: the result of `find`.
        one: structures of the first image.
        other: structures of the second image.
        plane: sagittal, coronal or axial.
    """
    axis, matrix = PLANES.index(plane), np.eye(4)
    labels = {s.label for s in one.segments if s.boxed.inside.any()} & {s.label for s in other.segments}
    mine, theirs = (_middle(segmentation, labels) for segmentation in (one, other))
    matrix[:3, 3] = mine - theirs
    matrix[axis, axis], matrix[axis, 3] = 1 / level.slope, -level.shift / level.slope
    return matrix


def _middle(segmentation: Segmentation, labels) -> np.ndarray:
    """Return the (3,) mean centre of some structures, RAS mm, or that of the image if there are none."""
    geometry = segmentation.geometry
    found = [
        geometry.to_world(np.argwhere(s.boxed.inside).mean(axis=0) + np.asarray(s.boxed.start))
        for s in segmentation.segments
        if s.label in labels and s.boxed.inside.any()
    ]
    return np.mean(found, axis=0) if found else geometry.center


def places(segmentation: Segmentation, axis: int) -> dict[tuple[str, str], float]:
    """Return (label, "low" | "middle" | "high") → mm along a RAS axis; ends at the image's edge are excluded.

    Args:
        segmentation: the structures.
        axis: RAS axis, 0…2.
    """
    geometry, found = segmentation.geometry, {}
    for segment in segmentation.segments:
        inside = segment.boxed.inside
        if not inside.any():
            continue
        index = np.argwhere(inside) + np.asarray(segment.boxed.start)
        along = geometry.to_world(index)[:, axis]
        low, high = _cut(index, geometry, axis)
        ends = along.min(), along.max()  # percentiles would shift if the structure is cut off in another direction
        found |= {} if low else {(segment.label, "low"): float(ends[0])}
        found |= {} if high else {(segment.label, "high"): float(ends[1])}
        found |= {} if low or high else {(segment.label, "middle"): float(np.median(along))}
    return found


def number_at(geometry: Geometry, plane: str, place: float) -> int:
    """Return the slice of a plane nearest to a position, clipped to the image.

    Args:
        geometry: the image's grid.
        plane: sagittal, coronal or axial.
        place: mm along the plane's RAS axis, on the line through the image's centre.
    """
    index_axis, axis = geometry.index_axis(plane), PLANES.index(plane)
    middle = (np.array(geometry.shape) - 1) / 2
    step = geometry.affine[axis, index_axis]
    number = middle[index_axis] + (place - geometry.to_world(middle)[axis]) / step
    return int(np.clip(round(number), 0, geometry.shape[index_axis] - 1))


def place_of(geometry: Geometry, plane: str, number: int) -> float:
    """Return the position of the middle of a slice along the RAS axis of its plane, mm.

    Args:
        geometry: the image's grid.
        plane: sagittal, coronal or axial.
        number: slice number along the plane's index axis.
    """
    index = (np.array(geometry.shape) - 1) / 2
    index[geometry.index_axis(plane)] = number
    return float(geometry.to_world(index)[PLANES.index(plane)])


def _cut(index: np.ndarray, geometry: Geometry, axis: int) -> tuple[bool, bool]:
    """Return whether the image cuts a structure off at its low and at its high end along a RAS axis."""
    along = geometry.world_axes.index(axis)
    first, last = bool((index[:, along] == 0).any()), bool((index[:, along] == geometry.shape[along] - 1).any())
    return (first, last) if geometry.affine[axis, along] > 0 else (last, first)


def _by_share(one: Geometry, other: Geometry, axis: int) -> Level:
    """Map centre to centre and length to length, the only possibility without a common structure."""
    (low, high), (start, stop) = ((g.corners()[:, axis].min(), g.corners()[:, axis].max()) for g in (one, other))
    slope = float(np.clip((stop - start) / max(high - low, 1e-6), *SLOPES))
    return Level(slope, float((start + stop) / 2 - slope * (low + high) / 2), 0)

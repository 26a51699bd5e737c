"""Compute diameters, surface and border points of a mask in the patient. Depends on grids and masks only.

A mask's border lies half a voxel beyond the centres of its outer voxels, so lengths are taken between the middles of
the
faces of outer voxels, as a surface mesh would: an object of n voxels in a row is n voxels long, on any grid, sheared
ones too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.geometry import Geometry

DIRECTIONS = 600
"""Number of directions in which extreme points are computed; the exact search for the farthest pair starts from them."""


@dataclass(frozen=True)
class InPlaneDiameters:
    """Longest diameter of an object in one slice, and the longest one perpendicular to it.

    Args:
        long: mm.
        short: mm.
        slice: number along the index axis of the plane.
        ends: (2, 3) RAS mm, ends of the long diameter.
    """

    long: float
    short: float
    slice: int
    ends: np.ndarray


def border_points(mask: np.ndarray, geometry: Geometry, start=(0, 0, 0)) -> np.ndarray:
    """Return the (n, 3) RAS mm of the middles of all outer faces.

    Args:
        mask: (i, j, k) bool, a crop of the grid.
        geometry: the grid.
        start: (3,) index of the crop's first voxel.
    """
    padded = np.pad(mask, 1)
    points = []
    for axis in range(3):
        for sign in (-1, 1):
            outer = padded & ~np.roll(padded, -sign, axis)
            index = np.argwhere(outer).astype(float) - 1 + np.asarray(start)
            index[:, axis] += sign / 2
            points.append(index)
    return geometry.to_world(np.concatenate(points))


def longest_diameter(points: np.ndarray) -> tuple[float, np.ndarray]:
    """Return (mm, (2, d) ends) of the farthest pair of (n, d) points, d 2 or 3.

    The extreme points in many directions nearly always include it; the farthest points from its ends are then searched
    among all points until no larger distance is found.
    """
    candidates = points[_outermost(points)]
    apart = np.linalg.norm(candidates[:, None] - candidates[None], axis=-1)
    first, second = np.unravel_index(int(apart.argmax()), apart.shape)
    ends = [candidates[first], candidates[second]]
    longest = float(apart[first, second])
    while True:
        for number in (0, 1):
            away = np.linalg.norm(points - ends[number], axis=1)
            farthest = int(away.argmax())
            if away[farthest] > longest + 1e-9:
                longest, ends = float(away[farthest]), [ends[number], points[farthest]]
                break
        else:
            return longest, np.array(ends)


def _outermost(points: np.ndarray) -> np.ndarray:
    """Return the indices of the extreme points in `DIRECTIONS` evenly spread directions."""
    n = np.arange(DIRECTIONS)
    if points.shape[1] == 2:
        directions = np.stack([np.cos(np.pi * n / DIRECTIONS), np.sin(np.pi * n / DIRECTIONS)], axis=1)
    else:
        z = 1 - (n + 0.5) / DIRECTIONS  # half of a Fibonacci sphere; the other half is the minimum
        turn = n * np.pi * (3 - np.sqrt(5))
        directions = np.stack([np.cos(turn) * np.sqrt(1 - z**2), np.sin(turn) * np.sqrt(1 - z**2), z], axis=1)
    found = set()
    for part in np.array_split(directions, max(1, len(points) * DIRECTIONS // 20_000_000)):
        along = points @ part.T
        found |= {*along.argmax(axis=0).tolist(), *along.argmin(axis=0).tolist()}
    return np.fromiter(found, int)


def in_plane(mask: np.ndarray, geometry: Geometry, axis: int, start=(0, 0, 0)) -> InPlaneDiameters:
    """Return the longest diameter within any slice across an index axis, and the longest one perpendicular to it there.

    This is how RECIST 1.1 measures a lesion (long) or a lymph node (short): in one slice, edge to edge, across any
    gaps.
    The product of both is the WHO measure.

    Args:
        mask: (i, j, k) bool with at least one voxel, a crop of the grid.
        geometry: the grid.
        axis: index axis across the slices, 0…2.
        start: (3,) index of the crop's first voxel.
    """
    best: InPlaneDiameters | None = None
    others = [a for a in range(3) if a != axis]
    steps = geometry.affine[:3, :3]
    bound = np.linalg.norm(steps[:, others], axis=0)
    for number in np.flatnonzero(mask.any(axis=tuple(others))):
        flat = mask.take(number, axis=axis)
        rows, columns = np.flatnonzero(flat.any(axis=1)), np.flatnonzero(flat.any(axis=0))
        box = np.hypot((np.ptp(rows) + 1) * bound[0], (np.ptp(columns) + 1) * bound[1])
        if best is not None and box * _stretch(steps[:, others]) <= best.long:
            continue  # no diameter in this slice can be longer
        world = _outline(flat, geometry, axis, int(number), start, others)
        long, ends = longest_diameter(world)
        if best is None or long > best.long:
            best = InPlaneDiameters(long, _across(world, ends, min(bound)), int(number) + int(start[axis]), ends)
    assert best is not None
    return best


def _stretch(steps: np.ndarray) -> float:
    """Return the largest ratio of a sheared slice's diagonal to its box's hypotenuse; 1 for rectangular voxels."""
    unit = steps / np.linalg.norm(steps, axis=0)
    return float(np.sqrt(1 + abs(unit[:, 0] @ unit[:, 1])))


def _outline(flat, geometry, axis, number, start, others) -> np.ndarray:
    """Return the (n, 3) RAS mm of the middles of a slice's outer edges."""
    padded, points = np.pad(flat, 1), []
    for direction in range(2):
        for sign in (-1, 1):
            index = np.argwhere(padded & ~np.roll(padded, -sign, direction)).astype(float) - 1
            index[:, direction] += sign / 2
            points.append(index)
    plane = np.concatenate(points)
    index = np.empty((len(plane), 3))
    index[:, axis] = number
    index[:, others] = plane
    return geometry.to_world(index + np.asarray(start))


def _across(points: np.ndarray, ends: np.ndarray, step: float) -> float:
    """Return the longest in-plane diameter perpendicular to a long one: edge to edge within strips one voxel wide."""
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    centred = points - ends[0]
    t = centred @ along
    rest = centred - t[:, None] * along
    norms = np.linalg.norm(rest, axis=1)
    if norms.max() < 1e-9:
        return 0.0
    across = rest[norms.argmax()] / norms.max()
    s = rest @ across
    strip = np.floor(t / step + 1e-9).astype(int)
    strip -= strip.min()
    widths = []
    for shift in (0, 1):  # strips of two voxels at both offsets, so that one begins at every voxel
        group = (strip + shift) // 2
        high = np.full(group.max() + 1, -np.inf)
        low = np.full(group.max() + 1, np.inf)
        np.maximum.at(high, group, s)
        np.minimum.at(low, group, s)
        widths.append(np.max(high - low))
    return float(max(widths))


def surface_area(mask: np.ndarray, geometry: Geometry) -> float:
    """Return the surface area of a mask in mm², from the number of intersections with lines in 13 directions (Cauchy–Crofton).

    Counting faces overestimates slanted surfaces by up to 73 %; intersections of lines along the axes, the diagonals of
    faces and
    those of voxels, weighted by the part of the sphere that each represents, come within some percent on any grid.
    Source: Legland, Kiêu, Devaux: Computation of Minkowski measures on 2D and 3D binary images, Image Anal Stereol 26
    (2007).

    Args:
        mask: (i, j, k) bool.
        geometry: grid with the mask's spacing and directions.
    """
    padded = np.pad(mask, 1)
    steps = [np.array(step) for step in _thirteen()]
    vectors = np.array([geometry.affine[:3, :3] @ step for step in steps])
    lengths = np.linalg.norm(vectors, axis=1)
    weights = _shares(vectors / lengths[:, None])
    total = 0.0
    for step, length, weight in zip(steps, lengths, weights, strict=True):
        here = tuple(slice(max(0, -d), padded.shape[a] - max(0, d)) for a, d in enumerate(step))
        there = tuple(slice(max(0, d), padded.shape[a] - max(0, -d)) for a, d in enumerate(step))
        crossings = np.count_nonzero(padded[here] != padded[there])
        total += weight * crossings * geometry.voxel_volume / length
    return float(2 * total)


def _thirteen() -> list[tuple[int, int, int]]:
    found = []
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            for k in (-1, 0, 1):
                if (i, j, k) > (0, 0, 0):
                    found.append((i, j, k))
    return found


def _shares(directions: np.ndarray) -> np.ndarray:
    """Return the fraction of all directions that each line is the nearest to; sums to 1."""
    n = np.arange(20_000)
    z = 1 - (n + 0.5) / len(n)
    turn = n * np.pi * (3 - np.sqrt(5))
    sphere = np.stack([np.cos(turn) * np.sqrt(1 - z**2), np.sin(turn) * np.sqrt(1 - z**2), z], axis=1)
    nearest = np.abs(sphere @ directions.T).argmax(axis=1)
    return np.bincount(nearest, minlength=len(directions)) / len(n)

"""Estimate the mid-sagittal plane of the imaged head or trunk, and how uncertain it is.

Three ways, the first that the image allows: paired structures mirror each other; so do the intensities; the outline of the
body has a middle. A part of a body that shows neither both halves nor both edges has no estimate, and then no side is stated:
the sign of RAS x says where a voxel lies in the scanner, not in the patient. Depends on numpy only.

Pairs: with counterparts' centroids a and b (left and right), reflecting a at the plane n·x = p misses b by
|a − b|² + 4 (n·a − p)(n·b − p). The best p is n · (mean of all), and the best n the eigenvector of the smallest eigenvalue of
Σ w (a bᵀ + b aᵀ), both about that mean. Swapped labels don't change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from ..core.geometry import Geometry
from ..core.image import Image

PAIRS, MIRROR, OUTLINE = "paired structures", "mirror symmetry of the image", "outline of the body"
"""How a plane was estimated."""

SURE = 1.96
"""Standard errors of a 95 % interval."""

MOST_TILT = 40.0
"""Degrees between the plane's normal and the patient's left–right axis above which nothing is estimated."""

COARSE_MM, COARSE_VOXELS = 4.0, 64
"""Spacing of the voxels that are compared: this, or an extent divided by this."""

FEW_POINTS, POINTS = 1000, 5000
"""Points that are mirrored in the search, and in the refinement."""

LEAST_SEEN = 0.7
"""Share of the points whose mirror image must lie in the image."""

SYMMETRIC, SYMMETRIC_CUT = 0.55, 0.85
"""Correlation with its mirror image above which an image is symmetric; the latter where the body is cut at its sides."""

WIDE_MM = 100.0
"""A body that is cut at its sides must be at least this wide."""

OPEN_SHARE = 0.35
"""Share of a side face of the image, and of the body's largest section, that the body may fill without being cut there."""

OUTLINE_SHARE = 0.08
"""Uncertainty of the middle of the outline, as a share of its width: arms and turned heads are not symmetric."""


@dataclass(frozen=True)
class MidsagittalPlane:
    """The plane between the left and the right half of the patient.

    Args:
        point: (R, A, S) mm, a point of the plane in the middle of what it was estimated from.
        normal: unit vector, to the patient's right.
        mm: half width of the 95 % interval of its place at `point`.
        degrees: half width of the 95 % interval of its direction.
        method: `PAIRS`, `MIRROR` or `OUTLINE`.
    """

    point: tuple[float, float, float]
    normal: tuple[float, float, float]
    mm: float
    degrees: float
    method: str

    def distance(self, points) -> np.ndarray:
        """Return the (…,) mm to the patient's right of the plane, negative to the left, of (…, 3) RAS positions."""
        return (np.asarray(points, float) - self.point) @ np.asarray(self.normal)

    def uncertainty(self, point) -> float:
        """Return the half width of the 95 % interval of a distance, mm, at an RAS position."""
        away = np.asarray(point, float) - self.point
        inside = away - self.distance(point) * np.asarray(self.normal)
        return float(np.hypot(self.mm, np.linalg.norm(inside) * np.tan(np.radians(min(self.degrees, 60.0)))))

    @property
    def axes(self) -> np.ndarray:
        """(3, 3) unit vectors to the patient's right, front and head, as rows, with this plane's normal as the first."""
        return axes_of(self.normal)


def axes_of(normal: Sequence[float]) -> np.ndarray:
    """Return the (3, 3) unit vectors to the right, front and head, as rows, for a plane's normal."""
    right = np.asarray(normal, float)
    head = np.array([0.0, 0.0, 1.0]) - right[2] * right
    head /= np.linalg.norm(head)
    return np.array([right, np.cross(head, right), head])


def plane_from_pairs(
    pairs: Sequence[tuple[Sequence[float], Sequence[float]]], spread: Sequence[float], least_mm: float = 0.5
) -> MidsagittalPlane | None:
    """Return the plane at which counterparts mirror each other best; None without pairs, or if it would be tilted too far.

    Pairs that fit the others badly count less, so that one wrong outline doesn't move the plane.

    Args:
        pairs: (left, right) centroids, RAS mm.
        spread: for each pair, the usual asymmetry of its centroids in mm.
        least_mm: smallest uncertainty, for example a quarter of a voxel.
    """
    if not len(pairs):
        return None
    left, right = (np.array([pair[n] for pair in pairs], float) for n in (0, 1))
    usual = np.asarray(spread, float)
    weights = 1 / usual**2
    for _ in range(6):
        share = weights / weights.sum()
        center = share @ (left + right) / 2
        a, b = left - center, right - center
        cross = (a * weights[:, None]).T @ b
        _, vectors = np.linalg.eigh((cross + cross.T) / 2)
        normal = vectors[:, 0] * (1 if vectors[0, 0] >= 0 else -1)
        missed = np.linalg.norm(a - 2 * (a @ normal)[:, None] * normal - b, axis=1) / 2
        weights = 1 / usual**2 / (1 + (missed / (2 * usual)) ** 2)
    if len(pairs) == 1:  # the mirror image of one point is exact; the plane is perpendicular to the line between both
        normal = (right - left)[0] / np.linalg.norm((right - left)[0])
        normal *= 1 if normal[0] >= 0 else -1
    if _tilt(normal) > MOST_TILT:
        return None
    middles = ((a + b) / 2) @ normal
    worse = max(1.0, float(weights @ middles**2) / max(len(pairs) - 1, 1))
    mm = max(least_mm, SURE * np.sqrt(worse / weights.sum()))
    tangents = axes_of(normal)[1:]
    spans = (weights[:, None] * ((a + b) / 2 @ tangents.T)).T @ ((a + b) / 2 @ tangents.T)
    spans += np.eye(2) * float(weights @ ((a - b) @ normal) ** 2) / 4
    degrees = np.degrees(SURE * np.sqrt(worse / max(np.linalg.eigvalsh(spans)[0], 1e-9)))
    return MidsagittalPlane(
        tuple(map(float, center)), tuple(map(float, normal)), float(mm), float(min(degrees, 60.0)), PAIRS
    )


def _tilt(normal: np.ndarray) -> float:
    return float(np.degrees(np.arccos(min(1.0, abs(float(normal[0]))))))


_PLANES: WeakKeyDictionary[Image, MidsagittalPlane | None] = WeakKeyDictionary()


def plane_from_image(image: Image) -> MidsagittalPlane | None:
    """Return the plane at which the intensities mirror themselves best, or that through the middle of the outline.

    It is computed once for an image.

    Args:
        image: any; None is returned for pictures, colours and grids without a place in the patient.
    """
    if not image.geometry.oriented or image.voxels.shape[0] != 1 or min(image.geometry.shape) < 2:
        return None
    if image not in _PLANES:
        _PLANES[image] = _estimate(image)
    return _PLANES[image]


def _estimate(image: Image) -> MidsagittalPlane | None:
    coarse = _Coarse(image)
    if len(coarse.body) < 50:
        return None
    found = coarse.mirrored() if coarse.is_whole_across or coarse.width >= WIDE_MM else None
    if not coarse.is_whole_across:
        return found
    center, unsure = coarse.center.copy(), max(1.0, OUTLINE_SHARE * coarse.width)
    center[0] = sum(coarse.span) / 2
    if found is not None and abs(found.distance(center)) < 1.5 * unsure:
        return found
    return MidsagittalPlane(tuple(map(float, center)), (1.0, 0.0, 0.0), unsure, 10.0, OUTLINE)


class _Coarse:
    """Every n-th voxel of an image, and what of it is body.

    Args:
        image: a scalar volume in the patient.
    """

    def __init__(self, image: Image):
        geometry = image.geometry
        lengths = geometry.spacing * geometry.shape
        step = max(COARSE_MM, lengths.max() / COARSE_VOXELS)
        steps = np.maximum(1, np.round(step / geometry.spacing)).astype(int)
        steps = np.minimum(steps, np.maximum(1, np.array(geometry.shape) // 4))
        # not from the first voxel, so that reversing an axis of a grid takes nearly the same voxels
        first = (np.array(geometry.shape) - 1) % steps // 2
        values = image.scalars[tuple(slice(a, None, s) for a, s in zip(first, steps, strict=True))]
        values = _smoothed(values.astype(np.float32))
        affine = geometry.affine.copy()
        affine[:3, :3] = affine[:3, :3] * steps
        affine[:3, 3] = geometry.to_world(first)
        self.geometry = Geometry(values.shape, affine)
        self.step = float(np.linalg.norm(affine[:3, :3], axis=0).max())
        if image.modality == "CT":
            threshold, low, high = -300.0, -400.0, 400.0
        else:
            low, high = map(float, np.percentile(values, (1, 99.5)))
            threshold = low + 0.1 * (high - low)
        there = values > threshold
        self.body = np.argwhere(there)
        self.values = np.clip(values, low, high)
        if len(self.body) < 50:
            return
        world = self.geometry.to_world(self.body)
        self.center = world.mean(axis=0)
        self.span = tuple(np.percentile(world[:, 0], (1, 99)))
        self.width = float(self.span[1] - self.span[0])
        self.is_whole_across = self._open_at_the_sides(there)
        self._inverse = np.linalg.inv(affine)
        near = there.copy()  # the body and what lies next to it: the outline counts
        for axis in range(3):
            for shift in (1, -1):
                near |= np.roll(near, shift, axis)
        self._near = self.geometry.to_world(np.argwhere(near))
        self._own = self.values[near]

    def _open_at_the_sides(self, there: np.ndarray) -> bool:
        axis = self.geometry.world_axes.index(0)
        sections = there.sum(axis=tuple(a for a in range(3) if a != axis))
        size = there.size / there.shape[axis]
        faces = max(sections[0], sections[-1])
        return bool(faces <= OPEN_SHARE * size and faces <= OPEN_SHARE * sections.max())

    def points(self, count: int, part: int = 0, parts: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, 3) RAS positions and their values, spread over a part of the body.

        Args:
            count: about how many.
            part: number of the part: lower or upper half, back or front.
            parts: 1 or 4.
        """
        world, own = self._near, self._own
        if parts > 1:
            chosen = (world[:, 2] > np.median(world[:, 2])) * 2 + (world[:, 1] > np.median(world[:, 1])) == part
            world, own = world[chosen], own[chosen]
        stride = max(1, len(world) // count)
        order = np.random.default_rng(0).permutation(len(world))[::stride]
        return world[order], own[order]

    def correlation(self, points: tuple[np.ndarray, np.ndarray], place: np.ndarray) -> float:
        """Return the correlation of values with those at the mirrored positions; -1 if too few of these are in the image.

        Args:
            points: positions and values.
            place: yaw and roll in degrees, and mm from the body's centre.
        """
        world, own = points
        normal = _normal(place[0], place[1])
        away = (world - self.center) @ normal - place[2]
        index = (world - 2 * away[:, None] * normal) @ self._inverse[:3, :3].T + self._inverse[:3, 3]
        inside = ((index >= 0) & (index <= np.array(self.values.shape) - 1)).all(axis=1)
        if np.count_nonzero(inside) < LEAST_SEEN * len(world):
            return -1.0
        other, own = _trilinear(self.values, index[inside]), own[inside]
        other, own = other - other.mean(), own - own.mean()
        size = np.sqrt((other @ other) * (own @ own))
        return float(other @ own / size) if size > 0 else -1.0

    def mirrored(self) -> MidsagittalPlane | None:
        """Return the plane of the best correlation; None if that is low."""
        few, many = self.points(FEW_POINTS), self.points(POINTS)
        middle = sum(self.span) / 2 - self.center[0]
        reach = min(40.0, 0.2 * self.width)
        starts = [
            np.array([yaw, roll, middle + share * reach])
            for yaw in (-20, -10, 0, 10, 20) for roll in (-20, -10, 0, 10, 20) for share in (-1, -0.67, -0.33, 0, 0.33, 0.67, 1)
        ]  # fmt: skip
        ranked = sorted(starts, key=lambda place: -self.correlation(few, place))[:2]
        found = max((self._climb(few, place, (5.0, 5.0, 4.0), 0.2) for place in ranked), key=lambda one: one[1])
        place, height = self._climb(many, found[0], (1.0, 1.0, 1.0), 0.2)
        if (
            height < (SYMMETRIC if self.is_whole_across else SYMMETRIC_CUT)
            or _tilt(_normal(place[0], place[1])) > MOST_TILT
        ):
            return None
        parts = np.array(
            [self._climb(self.points(FEW_POINTS, n, 4), place, (2.0, 2.0, 1.5), 0.4)[0] for n in range(4)]
        ).reshape(-1, 3)
        spread = SURE * np.sqrt(((parts - place) ** 2).mean(axis=0) / len(parts))
        normal = _normal(place[0], place[1])
        mm, degrees = max(0.2 * self.step, float(spread[2])), max(0.5, float(np.hypot(spread[0], spread[1])))
        point = self.center + place[2] * normal
        return MidsagittalPlane(tuple(map(float, point)), tuple(map(float, normal)), mm, min(degrees, 60.0), MIRROR)

    def _climb(self, points, place: np.ndarray, steps: Sequence[float], until: float) -> tuple[np.ndarray, float]:
        """Return the best place near another one, and its correlation: along each axis, with steps that get smaller."""
        best, height, steps = place.copy(), self.correlation(points, place), np.array(steps, float)
        while steps.max() > until:
            moved = False
            for axis in range(3):
                for sign in (1, -1):
                    tried = best.copy()
                    tried[axis] += sign * steps[axis]
                    value = self.correlation(points, tried)
                    if value > height:
                        best, height, moved = tried, value, True
                        break
            if not moved:
                steps = steps / 2
        return best, height


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Return each voxel's mean with its neighbours, of the weights 1, 2, 1 along each axis."""
    for axis in range(3):
        turned = np.moveaxis(values, axis, 0)
        before, after = np.concatenate([turned[:1], turned[:-1]]), np.concatenate([turned[1:], turned[-1:]])
        values = np.moveaxis((before + 2 * turned + after) / 4, 0, axis)
    return np.ascontiguousarray(values)


def _normal(yaw: float, roll: float) -> np.ndarray:
    """Return the unit normal of a plane turned about the head–foot axis, then about the front–back axis, in degrees."""
    a, b = np.radians((yaw, roll))
    return np.array([np.cos(a) * np.cos(b), np.sin(a) * np.cos(b), np.sin(b)])


def _trilinear(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the values at (n, 3) continuous indices inside the grid."""
    low = np.minimum(index.astype(np.intp), np.array(values.shape) - 2)
    part = (index - low).astype(np.float32)
    flat, steps = values.ravel(), (values.shape[1] * values.shape[2], values.shape[2], 1)
    base = low @ np.array(steps)
    total = np.zeros(len(index), np.float32)
    for i in (0, 1):
        for j in (0, 1):
            for k in (0, 1):
                weight = np.ones(len(index), np.float32)
                for axis, up in enumerate((i, j, k)):
                    weight = weight * (part[:, axis] if up else 1 - part[:, axis])
                total += weight * flat[base + i * steps[0] + j * steps[1] + k]
    return total


def pairs_of(centers: Mapping[str, Sequence[float]], usual: Mapping[str, float]):
    """Return (pairs, usual asymmetries) of the structures of which both sides are there, for `plane_from_pairs`.

    Args:
        centers: normalised label, side first → centroid, RAS mm.
        usual: name without side → usual asymmetry of its centroids, mm.
    """
    names = [name for name in usual if f"left {name}" in centers and f"right {name}" in centers]
    return [(centers[f"left {name}"], centers[f"right {name}"]) for name in names], [usual[name] for name in names]

"""Compute volume, extent, intensity and side of segments from geometry; no model is involved.

Units are UCUM: mL, mm, [hnsf'U] for HU, Gy, Bq/mL, {pixels}, "" for arbitrary MR units.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from ..core.domain import unmarked
from ..core.findings import OK, UNKNOWN, Measurement, Segment, Segmentation
from ..core.geometry import Geometry, mask_box
from ..core.image import Image
from ..core.measurements import plain
from ..core.terminology import structure
from .midsagittal import MidsagittalPlane
from .plausibility import DENSE_BOX, OutlineVerdict, center_of, check_outlines

HU = "[hnsf'U]"
MIDLINE_SHARE, BOTH_SHARE = 0.1, 0.25
"""A structure crosses the midline if the volumes on its two sides differ by less than this fraction of the whole, or each is more
than the second fraction."""

SEGMENTS_AT_A_TIME = 2

ACROSS_MM = 1e-6
"""An index axis that advances less than this along a patient axis is perpendicular to it."""


def measure(segmentation: Segmentation, image: Image, within: Sequence[slice] | None = None) -> tuple[Measurement, ...]:
    """Return the basic measurements of all segments that have at least one voxel, with the verdict on each outline.

    Args:
        segmentation: on the image's grid.
        image: the image.
        within: three slices, the part of the grid that was examined; all by default.
    """

    def fill_cache(segment: Segment) -> None:
        _ = segment.cropped  # front ends use it; in parallel here

    with ThreadPoolExecutor(SEGMENTS_AT_A_TIME) as pool:
        list(pool.map(fill_cache, segmentation.segments))
    verdicts, plane = check_outlines(segmentation, image, within)

    def measured(verdict: OutlineVerdict) -> list[Measurement]:
        segment = segmentation.segments[verdict.number - 1]
        found = measure_segment(segment, segmentation.geometry, image, plane, verdict.number)
        return [
            replace(_with_interval(m, segment, verdict), verdict=verdict.verdict, checks=verdict.checks) for m in found
        ]

    with ThreadPoolExecutor(SEGMENTS_AT_A_TIME) as pool:
        return tuple(result for some in pool.map(measured, verdicts) for result in some)


def _with_interval(m: Measurement, segment: Segment, verdict: OutlineVerdict) -> Measurement:
    """Return a volume with its 95 % interval, if the model's agreement is known and holds for this outline."""
    if m.name != "volume" or segment.agreement is None or verdict.verdict not in (OK, UNKNOWN):
        return m
    low, high = segment.agreement.interval(float(m.value))
    source = f" ({segment.agreement.source})" if segment.agreement.source else ""
    return replace(
        m, low=low, high=high,
        method=f"{m.method}; 95 % limits of agreement of {segment.agreement.cases} measurements{source}",
    )  # fmt: skip


def has_intensity(image: Image) -> bool:
    """Return whether the image has one intensity for each voxel, as colour images don't."""
    return image.voxels.shape[0] == 1


def intensity_unit(image: Image) -> str:
    """Return the UCUM unit of an image's values; "" for arbitrary ones."""
    return HU if image.units == "HU" else image.units


def measure_segment(
    segment: Segment, geometry: Geometry, image: Image, plane: MidsagittalPlane | None, number: int = 0
) -> list[Measurement]:
    """Return volume (mL), extent (mm along R, A, S), mean and SD of the intensity, and side.

    Without a place in the patient there are no sides and extents; of pictures the area is given instead of a volume,
    in pixels if their size is unknown; of colours no intensity.

    Args:
        segment: at least one voxel set.
        geometry: grid of the mask and the image.
        image: the image.
        plane: the patient's mid-sagittal plane; None where no side can be stated.
        number: place of the segment in its segmentation, from 1.
    """
    inside = segment.boxed.inside

    def result(name: str, value, unit: str, method: str) -> Measurement:
        value = value if isinstance(value, str) else float(value)
        return Measurement(segment.label, name, value, unit, method, number)

    return [
        result(*size_of(inside, geometry)),
        *(result(f"extent {name}", value, "mm", "bounding box of the voxels along patient axes")
          for name, value in _extents(segment, geometry)),
        *(result(*row) for row in _intensity(segment, image)),
        *_sides(segment, geometry, plane, number),
    ]  # fmt: skip


def size_of(inside: np.ndarray, geometry: Geometry) -> tuple[str, float, str, str]:
    """Return name, value, unit and method of a mask's size: a volume, or an area for pictures.

    Args:
        inside: (i, j, k) bool.
        geometry: its grid.
    """
    count = int(np.count_nonzero(inside))
    if not geometry.metric:
        return "area", count, "{pixels}", "pixel count"
    if geometry.is_picture:
        return "area", count * float(np.prod(geometry.spacing[:2])), "mm2", "pixel count × pixel area"
    return "volume", count * geometry.voxel_volume / 1000, "mL", "voxel count × voxel volume"


def _extents(segment: Segment, geometry: Geometry) -> list[tuple[str, float]]:
    if not geometry.oriented:
        return []
    start, inside = segment.boxed.start, segment.boxed.inside
    voxel = np.abs(geometry.affine[:3, :3]).sum(axis=1)
    names = ("left-right", "front-back", "head-foot")
    return [(names[w], float(np.ptp(_places(geometry, w, start, inside)) + voxel[w])) for w in range(3)]


def _intensity(segment: Segment, image: Image) -> list[tuple[str, float, str, str]]:
    if not has_intensity(image):
        return []
    values, inside = image.scalars[segment.boxed.box], segment.boxed.inside
    # in memory order where both arrays share it
    values = values.T[inside.T] if values.strides[0] < values.strides[2] else values[inside]
    unit = intensity_unit(image)
    return [
        ("mean intensity", values.mean(), unit, "mean over voxels"),
        ("intensity SD", values.std(), unit, "standard deviation over voxels"),
    ]


def _sides(segment: Segment, geometry: Geometry, plane: MidsagittalPlane | None, number: int) -> list[Measurement]:
    """Return the side, and for a structure of the midline how far its centre lies from it, if that is known.

    A structure that is neither of the midline nor farther from the plane than the plane's uncertainty gets no side.
    """
    if plane is None or not geometry.oriented:
        return []
    start, inside = np.array(segment.boxed.start), segment.boxed.inside
    step = 1 if inside.size < DENSE_BOX else 2
    some = inside[::step, ::step, ::step]
    if not some.any():
        step, some = 1, inside
    center = geometry.to_world(center_of(some) * step + start)
    off, unsure = float(plane.distance(center)), plane.uncertainty(center)
    how = f"{plane.method}, ± {plain(unsure)} mm"

    def result(name: str, value: float | str, *rest) -> Measurement:
        return Measurement(segment.label, name, value, *rest)

    if structure(unmarked(segment.label)).midline:
        found = [result("side", "midline", "", f"a structure of the midline; plane from {how}", number)]
        if abs(off) > unsure:
            name = f"shift to the {'right' if off > 0 else 'left'}"
            method = f"centroid from the mid-sagittal plane, from {how}"
            found.append(result(name, abs(off), "mm", method, number, abs(off) - unsure, abs(off) + unsure))
        return found
    coarse = geometry.affine.copy()
    coarse[:3, 3] = geometry.to_world(start) - plane.point
    coarse[:3, :3] *= step
    away = _along(np.asarray(plane.normal) @ coarse[:3], (0, 0, 0), some.shape)
    count = np.count_nonzero(some)
    right, left = (_count(some, half) / count for half in (away > 0, away < 0))
    side = _side(right, left, off, unsure)
    if not side:
        return []
    return [result("side", side, "", f"volume on either side of the mid-sagittal plane, from {how}", number)]


def side_of(points: np.ndarray, plane: MidsagittalPlane | None) -> str:
    """Return 'right', 'left' or 'midline'; "" where that is not known.

    Args:
        points: (N, 3) RAS mm of a structure's voxels.
        plane: the patient's mid-sagittal plane; None where it is unknown.
    """
    if plane is None:
        return ""
    away = plane.distance(points)
    unsure = plane.uncertainty(points.mean(axis=0))
    return _side(float(np.mean(away > 0)), float(np.mean(away < 0)), float(away.mean()), unsure)


def _side(right: float, left: float, off: float, unsure: float) -> str:
    """Return the side from the shares of the voxels on either side, the centre's distance and its uncertainty, both mm."""
    if abs(right - left) < MIDLINE_SHARE or (right > BOTH_SHARE and left > BOTH_SHARE):
        return "midline"
    return "" if abs(off) <= unsure else "right" if off > 0 else "left"


def _along(steps: np.ndarray, start, shape) -> np.ndarray:
    """Return the mm along one direction of the voxels of a crop, in a shape that broadcasts to the crop's shape.

    It has length 1 along index axes perpendicular to the direction: one line remains if the grid isn't oblique.

    Args:
        steps: (4,) mm for one voxel along i, j and k, and at voxel (0, 0, 0).
        start: (3,) index of the crop's first voxel.
        shape: (3,) of the crop.
    """
    place = np.full((1, 1, 1), steps[3])
    for axis in range(3):
        if abs(steps[axis]) * shape[axis] >= ACROSS_MM:
            index = np.arange(start[axis], start[axis] + shape[axis])
            place = place + (steps[axis] * index).reshape([-1 if a == axis else 1 for a in range(3)])
    return place


def _count(inside: np.ndarray, there: np.ndarray) -> int:
    """Count the true voxels of a crop on one side of a plane; `there` (see `_along`) is true on that side."""
    if there.all() or not there.any():
        return np.count_nonzero(inside) if there.all() else 0
    if there.size > max(there.shape):
        return np.count_nonzero(inside & there)
    line = zip(mask_box(there), there.shape, strict=True)
    return np.count_nonzero(inside[tuple(side if n > 1 else slice(None) for side, n in line)])


def _places(geometry: Geometry, world: int, start, inside: np.ndarray) -> np.ndarray:
    """Return the RAS mm along one world axis of true voxels of a tight crop; minimum and maximum are exact."""
    place = _along(geometry.affine[world], start, inside.shape)
    return place if place.size == max(place.shape) else np.broadcast_to(place, inside.shape)[inside]


def body_span(image: Image, world: int) -> tuple[float, float]:
    """Return the (lowest, highest) RAS mm of the body along one world axis, without 1 % of the voxels at either end as noise.

    Returns the grid's centre if fewer than 50 voxels exceed the threshold: −300 HU for CT, otherwise 10 % of the
    intensity range.

    Args:
        image: scalar volume.
        world: 0 left–right, 1 back–front, 2 foot–head.
    """
    values = image.scalars
    step = max(1, round((values.size / 1e6) ** (1 / 3)))
    coarse = values[::step, ::step, ::step]
    if image.modality == "CT":
        threshold = -300.0
    else:
        low, high = np.percentile(coarse, (1, 99.5))
        threshold = low + 0.1 * (high - low)
    there = coarse > threshold
    if np.count_nonzero(there) < 50:
        return (float(image.geometry.center[world]),) * 2
    affine = image.geometry.affine.copy()
    affine[:3, :3] *= step
    x = _along(affine[world], (0, 0, 0), coarse.shape)
    across = tuple(axis for axis in range(3) if x.shape[axis] == 1)
    counts = there.sum(axis=across, keepdims=True).ravel()
    low, high = _percentiles(x.ravel(), counts, (1, 99))
    return float(low), float(high)


def _percentiles(values: np.ndarray, counts: np.ndarray, percents) -> np.ndarray:
    """Return `np.percentile` of the values, each repeated as often as its count."""
    order = np.argsort(values)
    values, ends = values[order], counts[order].cumsum()
    rank = np.array(percents) / 100 * (ends[-1] - 1)
    below, above = (values[np.searchsorted(ends, place(rank), side="right")] for place in (np.floor, np.ceil))
    return below + (rank - np.floor(rank)) * (above - below)

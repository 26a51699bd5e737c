"""Compute volume, extent, intensity and side of segments from geometry; no model is involved.

Units are UCUM: mL, mm, [hnsf'U] for HU, Gy, Bq/mL, {pixels}, "" for arbitrary MR units.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..core.findings import Measurement, Segment, Segmentation
from ..core.geometry import Geometry, mask_box
from ..core.image import Image
from ..core.measurements import SegmentKey, column_title, names_of

HU = "[hnsf'U]"
MIDLINE_SHARE = 0.1
"""A structure is 'midline' if the volumes on its two sides differ by less than this fraction of the whole."""


SEGMENTS_AT_A_TIME = 2

ACROSS_MM = 1e-6
"""An index axis that advances less than this along a patient axis is perpendicular to it."""


def measure(segmentation: Segmentation, image: Image) -> tuple[Measurement, ...]:
    """Return the basic measurements of all segments that have at least one voxel.

    Args:
        segmentation: on the image's grid.
        image: the image.
    """
    midline = body_midline(image) if states_sides(image) else None

    def measured(numbered: tuple[int, Segment]) -> list[Measurement]:
        number, segment = numbered
        _ = segment.cropped  # fill the cache that front ends use, in parallel here
        if not segment.boxed.inside.any():
            return []
        return measure_segment(segment, segmentation.geometry, image, midline, number)

    with ThreadPoolExecutor(SEGMENTS_AT_A_TIME) as pool:
        return tuple(result for some in pool.map(measured, enumerate(segmentation.segments, 1)) for result in some)


def states_sides(image: Image) -> bool:
    """Return whether sides of the patient can be stated: the axes are the patient's, and there are intensities."""
    return image.geometry.oriented and has_intensity(image)


def has_intensity(image: Image) -> bool:
    """Return whether the image has one intensity for each voxel, as colour images don't."""
    return image.voxels.shape[0] == 1


def intensity_unit(image: Image) -> str:
    """Return the UCUM unit of an image's values; "" for arbitrary ones."""
    return HU if image.units == "HU" else image.units


def measure_segment(
    segment: Segment, geometry: Geometry, image: Image, midline: float | None, number: int = 0
) -> list[Measurement]:
    """Return volume (mL), extent (mm along R, A, S), mean and SD of the intensity, and side.

    Without a place in the patient there are no sides and extents; of pictures the area is given instead of a volume,
    in pixels if their size is unknown; of colours no intensity.

    Args:
        segment: at least one voxel set.
        geometry: grid of the mask and the image.
        image: the image.
        midline: RAS x of the body's middle, mm; None where no side can be stated.
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
        *(result(*row) for row in _side_of_segment(segment, geometry, midline)),
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


def _side_of_segment(segment: Segment, geometry: Geometry, midline: float | None) -> list[tuple[str, str, str, str]]:
    if midline is None or not geometry.oriented:
        return []
    start, inside = segment.boxed.start, segment.boxed.inside
    x = _along(geometry, 0, start, inside.shape)
    count = np.count_nonzero(inside)
    side = _side(*(_count(inside, half) / count for half in (x > midline, x < midline)))
    return [("side", side, "", f"volume on either side of x = {midline:.0f} mm (RAS)")]


def side_of(x: np.ndarray, midline: float) -> str:
    """Return 'right', 'left' or 'midline'; RAS x grows to the patient's right.

    Args:
        x: (N,) RAS x of a structure's voxels, mm.
        midline: RAS x of the body's middle, mm.
    """
    return _side(float(np.mean(x > midline)), float(np.mean(x < midline)))


def _side(right: float, left: float) -> str:
    """Return the side from the shares of the voxels on either side."""
    if abs(right - left) < MIDLINE_SHARE or (right > 0.25 and left > 0.25):
        return "midline"
    return "right" if right > left else "left"


def _along(geometry: Geometry, world: int, start, shape) -> np.ndarray:
    """Return the RAS mm along one world axis of the voxels of a crop, in a shape that broadcasts to the crop's shape.

    It has length 1 along index axes perpendicular to the world axis: one line remains if the grid isn't oblique.
    """
    steps = geometry.affine[world]
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
    place = _along(geometry, world, start, inside.shape)
    return place if place.size == max(place.shape) else np.broadcast_to(place, inside.shape)[inside]


def body_midline(image: Image) -> float:
    """Return the RAS x of the middle of `body_span`, mm."""
    return sum(body_span(image, 0)) / 2


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
    x = _along(Geometry(coarse.shape, affine), world, (0, 0, 0), coarse.shape)
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


def as_table(
    measurements: Sequence[Measurement], names_shown: tuple[str, ...] = (), labels: Sequence[str] = ()
) -> tuple[list[str], list[list[str]]]:
    """Return (column titles, rows), one row per segment, for tables in scenes, reports and terminals.

    Identity is the segment's place: two segments of one name are two rows, distinguished by their places.

    Args:
        measurements: in any order.
        names_shown: names of the measurements that get a column; all by default.
        labels: of all segments, in order, for names that also differ from those of segments without a measurement.
    """
    known = names_of([*enumerate(labels, 1), *(m.key for m in measurements)])
    names: list[str] = []
    rows: dict[SegmentKey, dict[str, str]] = {}
    for m in measurements:
        if names_shown and m.name not in names_shown:
            continue
        title = column_title(m)
        if title not in names:
            names.append(title)
        rows.setdefault(m.key, {})[title] = m.value if isinstance(m.value, str) else plain(m.value)
    return ["segment", *names], [[known[key], *[row.get(n, "") for n in names]] for key, row in rows.items()]


def plain(value: float) -> str:
    """Return a number with about three digits, never in scientific notation."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.3g}"

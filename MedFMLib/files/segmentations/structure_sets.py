"""Read the contours of an RTSTRUCT as masks. Knows pydicom; matplotlib decides which voxels lie in a polygon.

A voxel belongs to a structure if its centre lies in an odd number of the structure's contours on that slice, so a
contour inside another is a hole (PS3.3 C.8.8.6.3). A centre exactly on a contour counts on one of two opposite sides only,
so that the area of a mask is that of the polygon on average; no voxel is added around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...core.geometry import BoxedMask
from ...errors import InputError
from ..dicom.headers import Header, numbers_of, read_complete, text_of
from .dicom_segmentations import code_of, items_of
from .found import ORIGINS, FoundSegment, Target
from .placing import ALIGNED, ALIGNED_FRACTION, ALIGNED_MM

STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR", "INTERPOLATED_PLANAR")

SPARSE = 1.5
"""Smallest distance between contours, in slices, at which slices are missing between them."""

HALF_OPEN = 1e-6
"""Voxels by which centres are moved, so that one on a contour lies on a definite side of it, whatever the library's rule."""

FLAT = 0.1
"""Largest extent of a contour across its slice, in slices."""


def read_structure_set(path: Path, target: Target) -> list[FoundSegment]:
    """Return the structures of an RTSTRUCT as masks on the image's grid.

    Args:
        path: the file.
        target: where they are placed.

    Raises:
        InputError: if it can't be read, matplotlib is missing, or contours don't lie in slices of the image.
    """
    header, shown = read_complete(path), f"'{path.name}'"
    contours = {_number(item): item for item in items_of(header.dataset, "ROIContourSequence")}
    observed = {_number(item): item for item in items_of(header.dataset, "RTROIObservationsSequence")}
    found, points = [], []
    for roi in items_of(header.dataset, "StructureSetROISequence"):
        number = numbers_of(roi, "ROINumber")
        name = text_of(roi, "ROIName") or f"structure {len(found) + 1}"
        item = contours.get(None if number is None else int(number[0]))
        polygons = list(_polygons(header, item, name)) if item is not None else []
        if item is not None and not polygons and len(items_of(item, "ContourSequence")):
            points.append(name)
        mask = _rasterized(polygons, target, f"{shown}, structure '{name}',")
        category, code, side = _codes(observed.get(None if number is None else int(number[0])))
        made = text_of(roi, "ROIGenerationAlgorithm")
        voxels = int(np.count_nonzero(mask.inside))
        found.append(
            FoundSegment(
                name, mask, voxels * target.geometry.voxel_volume, voxels, _color(item), category, code, side,
                made if made in ORIGINS else "",
            )
        )  # fmt: skip
    if points:
        target.tell(f"{shown} has points or open lines, which enclose no voxels: {', '.join(points[:5])}; left out.")
    return found


def _number(item) -> int | None:
    found = numbers_of(item, "ReferencedROINumber")
    return None if found is None else int(found[0])


def _polygons(header: Header, item, name: str) -> Iterator[np.ndarray]:
    """Yield the closed contours of a structure, (n, 3) RAS mm."""
    for contour in items_of(item, "ContourSequence"):
        kind = text_of(contour, "ContourGeometricType")
        points = numbers_of(contour, "ContourData")
        if points is None or len(points) % 3 or not np.isfinite(points).all():
            if not text_of(contour, "ContourData"):
                continue
            raise InputError(
                f"'{header.path.name}' has a contour of '{name}' whose ContourData (3006,0050) are no triples of numbers; "
                "write it again with the program that made it."
            )
        if kind in CLOSED and len(points) >= 9:
            yield points.reshape(-1, 3) * (-1, -1, 1)


def _rasterized(polygons: list[np.ndarray], target: Target, subject: str) -> BoxedMask:
    """Return the mask of the voxels in an odd number of a structure's contours, on the image's grid."""
    geometry = target.geometry
    if not polygons:
        return target.empty()
    indices = [geometry.to_index(polygon) for polygon in polygons]
    flat = np.array([np.ptp(index, axis=0) for index in indices])
    axis = int(flat.max(axis=0).argmin())
    if flat[:, axis].max() > FLAT:
        raise InputError(
            f"{subject} has contours that lie in no slice of the image (up to "
            f"{flat[:, axis].max() * geometry.spacing[axis]:.3g} mm across one); give the image that they were drawn on."
        )
    spacing = float(geometry.spacing[axis])
    allowed = max(ALIGNED, min(ALIGNED_FRACTION, ALIGNED_MM / spacing))
    planes = _planes(indices, axis, allowed)
    furthest = max(abs(depth - round(depth)) for depth in planes)
    if furthest > allowed:
        if not target.resample:
            raise InputError(
                f"{subject} has contours between the slices of the image, up to {furthest * spacing:.3g} mm from the nearest; "
                "give the image that they were drawn on, or take for each slice its nearest contours with --resample (in Python "
                "resample=True)."
            )
        target.tell(f"{subject} has contours between the slices of the image; each slice got the nearest, up to "
                    f"{furthest * spacing:.3g} mm away.")  # fmt: skip
    gaps = np.diff(sorted(planes))
    if len(gaps) > 1 and gaps.min() > SPARSE:
        target.tell(f"{subject} has contours {gaps.min():.3g} slices apart; the slices between them are left empty.")
    nearest: dict[int, float] = {}
    for depth in planes:
        number = round(depth)
        if number not in nearest or abs(depth - number) < abs(nearest[number] - number):
            nearest[number] = depth
    return _filled({number: planes[depth] for number, depth in nearest.items()}, axis, target, subject)


def _planes(indices: list[np.ndarray], axis: int, allowed: float) -> dict[float, list[np.ndarray]]:
    """Return depth → the contours of one plane, (n, 2) continuous indices of the other two axes.

    Programs round the positions of the contours of one slice differently, so nearly equal depths are one plane; otherwise
    a hole and its outline could come apart.

    Args:
        indices: (n, 3) continuous indices of each contour.
        axis: which of them is across the slices.
        allowed: largest distance, in slices, of a contour from the next one of its plane.
    """
    ordered = sorted(indices, key=lambda index: float(index[:, axis].mean()))
    depths = np.array([index[:, axis].mean() for index in ordered])
    starts = np.flatnonzero(np.diff(depths, prepend=-np.inf) > allowed)
    return {
        float(depths[first:last].mean()): [np.delete(index, axis, axis=1) for index in ordered[first:last]]
        for first, last in zip(starts, [*starts[1:], len(ordered)], strict=True)
    }


def _filled(slices: dict[int, list[np.ndarray]], axis: int, target: Target, subject: str) -> BoxedMask:
    """Fill the contours of each slice, (n, 2) continuous indices of the other two axes."""
    geometry = target.geometry
    plane = [n for n in range(3) if n != axis]
    sizes = np.array([geometry.shape[n] for n in plane])
    beyond = [number for number in slices if not 0 <= number < geometry.shape[axis]]
    inside = {number: polygons for number, polygons in slices.items() if number not in beyond}
    every = np.concatenate([point for polygons in slices.values() for point in polygons])
    cut = bool(beyond) or (every < -1).any() or (every > sizes).any()
    if cut and not target.resample:
        raise InputError(
            f"{subject} has contours outside of the image, which would be cut off; give the image that they were drawn on, or "
            "cut them off with --resample (in Python resample=True)."
        )
    if cut:
        target.tell(f"{subject} has contours outside of the image; they were cut off.")
    if not inside:
        return target.empty()
    low = np.clip(np.floor(every.min(axis=0)).astype(int), 0, sizes - 1)
    high = np.clip(np.ceil(every.max(axis=0)).astype(int) + 1, low + 1, sizes)
    first, last = min(inside), max(inside)
    mask = np.zeros((last - first + 1, *(high - low)), bool)
    for number, polygons in inside.items():
        for polygon in polygons:
            mask[number - first] ^= _inside(polygon, low, high)
    start = np.insert(low, axis, first)
    return BoxedMask.of(np.moveaxis(mask, 0, axis), geometry.shape, start)


def _inside(polygon: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return (high − low) bool: the centres within a polygon of continuous indices."""
    try:
        from matplotlib.path import Path as Polygon
    except ImportError:
        raise InputError(
            "Contours (RTSTRUCT) are filled by matplotlib, which is missing; install it with `pip install matplotlib`."
        ) from None
    a = np.clip(np.floor(polygon.min(axis=0)).astype(int), low, high)
    b = np.clip(np.ceil(polygon.max(axis=0)).astype(int) + 1, a, high)
    found = np.zeros(high - low, bool)
    grid = np.stack(np.meshgrid(*(np.arange(s, e) for s, e in zip(a, b, strict=True)), indexing="ij"), axis=-1)
    if grid.size:
        part = tuple(slice(s - o, e - o) for s, e, o in zip(a, b, low, strict=True))
        found[part] = Polygon(polygon).contains_points(grid.reshape(-1, 2) + HALF_OPEN).reshape(grid.shape[:2])
    return found


def _color(item) -> tuple[float, float, float] | None:
    found = numbers_of(item, "ROIDisplayColor") if item is not None else None
    if found is None or len(found) != 3:
        return None
    red, green, blue = (np.clip(found, 0, 255) / 255).tolist()
    return red, green, blue


def _codes(observation):
    """Return (category, type, modifier) of a structure's identification codes, each None if it is missing."""
    for item in items_of(observation, "RTROIIdentificationCodeSequence") if observation is not None else ():
        code = code_of([item])
        category = code_of(items_of(item, "SegmentedPropertyCategoryCodeSequence"))
        side = code_of(items_of(item, "SegmentedPropertyTypeModifierCodeSequence"))
        return category, code, side
    return None, None, None

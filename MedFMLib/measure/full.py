"""Compute all measurements of a segmentation, for reports, exports and research."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.findings import Measurement, Segment, Segmentation
from ..core.geometry import Geometry
from ..core.image import Image
from ..core.measurements import by_segment
from .basic import body_span, has_intensity, intensity_unit, measure
from .plausibility import center_of
from .position import METHOD, position_words
from .shape import border_points, in_plane, longest_diameter, surface_area

EVERYDAY = (
    "volume", "area", "extent left-right", "extent front-back", "extent head-foot", "mean intensity", "intensity SD", "side",
    "cut off",
)  # fmt: skip
"""Names of the measurements in narrow tables."""

PERCENTILES = (10, 50, 90)
NAMES = {10: "10th percentile", 50: "median intensity", 90: "90th percentile"}


def measure_fully(
    segmentation: Segmentation, image: Image, within: Sequence[slice] | None = None
) -> tuple[Measurement, ...]:
    """Return the measurements of `measure`, then diameters, surface, centroid and percentiles of each segment.

    What the image can't tell is left out: sides, positions and centroids without a place in the patient, lengths
    without a pixel size, intensities of colours.

    Args:
        segmentation: on the image's grid.
        image: the image.
        within: three slices, the part of the grid that was examined; all by default.
    """
    basic = by_segment(measure(segmentation, image, within))
    placed = image.geometry.oriented and has_intensity(image)
    spans = [body_span(image, world) for world in range(3)] if placed else None
    results: list[Measurement] = []
    for number, segment in enumerate(segmentation.segments, 1):
        if own := basic.get((number, segment.label)):
            side = str(own["side"].value) if "side" in own else ""
            first = next(iter(own.values()))
            more = _more(segment, number, segmentation, image, side, spans)
            if any(check.rule == "edge" for check in first.checks):
                method = "it reaches the edge of what was imaged or examined, so sizes are lower bounds"
                more.append(Measurement(segment.label, "cut off", "at the image's edge", "", method, number))
            results += [*own.values(), *(replace(m, verdict=first.verdict, checks=first.checks) for m in more)]
    return tuple(results)


def _more(
    segment: Segment, number: int, segmentation: Segmentation, image: Image, side: str, spans
) -> list[Measurement]:
    geometry = segmentation.geometry
    rows: list[tuple[str, float | str, str, str]] = []
    if geometry.metric:
        rows += _lengths(segment, geometry)
    if has_intensity(image):
        rows += _intensities(segment, image)
    if geometry.oriented:
        start, inside = segment.boxed.start, segment.boxed.inside
        center = geometry.to_world(center_of(inside) + np.asarray(start))
        rows += [
            (f"centroid {letter}", value, "mm", "mean of voxel centres, RAS")
            for letter, value in zip("RAS", center, strict=True)
        ]
        if spans is not None:
            rows.append(("position", position_words(center, side, spans), "", METHOD))
    return [
        Measurement(segment.label, name, value if isinstance(value, str) else float(value), unit, method, number)
        for name, value, unit, method in rows
    ]


def _lengths(segment: Segment, geometry: Geometry) -> list[tuple[str, float | str, str, str]]:
    """Return (name, value, unit, method) of diameters and surface; of pictures only of those within a picture."""
    start, inside = segment.boxed.start, segment.boxed.inside
    plane = in_plane(inside, geometry, geometry.index_axis(geometry.acquisition_plane), start)
    name = "picture" if geometry.is_picture else f"{geometry.acquisition_plane} slice" if geometry.oriented else "slice"
    where = f"in {name} {plane.slice + geometry.is_picture}, edge to edge"
    axes = [
        ("long axis", plane.long, "mm", f"longest diameter {where} (RECIST 1.1)"),
        ("short axis", plane.short, "mm", f"longest diameter across the long axis, {where} (RECIST 1.1)"),
    ]
    if geometry.is_picture:
        return axes
    longest, _ = longest_diameter(border_points(inside, geometry, start))
    area = surface_area(inside, geometry)
    return [
        ("longest diameter", longest, "mm", "farthest pair of border points in 3D"),
        *axes,
        ("surface", area, "mm2", "crossings of lines in 13 directions (Cauchy–Crofton)"),
    ]


def _intensities(segment: Segment, image: Image) -> list[tuple[str, float | str, str, str]]:
    """Return (name, value, unit, method) of minimum, percentiles and maximum."""
    values, unit = image.scalars[segment.boxed.box][segment.boxed.inside], intensity_unit(image)
    percentiles = zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)
    return [
        ("minimum", values.min(), unit, "over voxels"),
        *((NAMES[p], value, unit, f"{p}th percentile over voxels") for p, value in percentiles),
        ("maximum", values.max(), unit, "over voxels"),
    ]

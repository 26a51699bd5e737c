"""Compute all measurements of a segmentation, for reports, exports and research."""

from __future__ import annotations

import numpy as np

from ..core.findings import Measurement, Segment, Segmentation
from ..core.image import Image
from .basic import HU, body_span, measure
from .position import METHOD, position_words
from .shape import border_points, in_plane, longest_diameter, surface_area, touches_edge

EVERYDAY = (
    "volume", "extent left-right", "extent front-back", "extent head-foot", "mean intensity", "intensity SD", "side", "cut off",
)  # fmt: skip
"""Names of the measurements in narrow tables."""

PERCENTILES = (10, 50, 90)
NAMES = {10: "10th percentile", 50: "median intensity", 90: "90th percentile"}


def measure_fully(segmentation: Segmentation, image: Image) -> tuple[Measurement, ...]:
    """Return the measurements of `measure`, then diameters, surface, centroid and percentiles of each segment.

    Args:
        segmentation: on the image's grid.
        image: scalar volume.
    """
    basic = measure(segmentation, image)
    spans = [body_span(image, world) for world in range(3)]
    results: list[Measurement] = []
    for segment in segmentation.segments:
        own = [m for m in basic if m.segment == segment.label]
        if own:
            results += [*own, *_more(segment, segmentation, image, own[-1].value, spans)]
    return tuple(results)


def _more(segment: Segment, segmentation: Segmentation, image: Image, side: str, spans) -> list[Measurement]:
    geometry, start, inside = segmentation.geometry, segment.boxed.start, segment.boxed.inside
    values = image.scalars[segment.boxed.box][inside]
    unit = HU if image.modality == "CT" else ""
    axis = geometry.index_axis(geometry.acquisition_plane)
    plane = in_plane(inside, geometry, axis, start)
    longest, _ = longest_diameter(border_points(inside, geometry, start))
    where = f"in {geometry.acquisition_plane} slice {plane.slice}, edge to edge"
    center = geometry.to_world(_center(inside) + np.asarray(start))

    def result(name: str, value, unit: str, method: str) -> Measurement:
        return Measurement(segment.label, name, value if isinstance(value, str) else float(value), unit, method)

    made = [
        result("longest diameter", longest, "mm", "farthest pair of border points in 3D"),
        result("long axis", plane.long, "mm", f"longest diameter {where} (RECIST 1.1)"),
        result("short axis", plane.short, "mm", f"longest diameter across the long axis, {where} (RECIST 1.1)"),
        result(
            "surface", surface_area(inside, geometry), "mm2", "crossings of lines in 13 directions (Cauchy–Crofton)"
        ),
        result("minimum", values.min(), unit, "over voxels"),
        *(
            result(NAMES[p], v, unit, f"{p}th percentile over voxels")
            for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)
        ),
        result("maximum", values.max(), unit, "over voxels"),
        *(
            result(f"centroid {letter}", value, "mm", "mean of voxel centres, RAS")
            for letter, value in zip("RAS", center, strict=True)
        ),
    ]
    made.append(result("position", position_words(center, side, spans), "", METHOD))
    if touches_edge(segment.mask):
        made.append(result("cut off", "at the image's edge", "", "a voxel lies on the edge, so sizes are lower bounds"))
    return made


def _center(inside: np.ndarray) -> np.ndarray:
    """Return the mean index of true voxels."""
    count = np.count_nonzero(inside)
    return np.array(
        [
            np.arange(n) @ inside.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.int64) / count
            for axis, n in enumerate(inside.shape)
        ]
    )

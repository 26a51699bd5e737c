"""Numbers from geometry: volume, extent, intensity, side. Never asks a model.

Units are UCUM: mL, mm, [hnsf'U] for HU, "" for arbitrary MR units.
"""

from __future__ import annotations

import numpy as np

from .findings import Measurement, Segment, Segmentation
from .geometry import Geometry
from .image import Image

HU = "[hnsf'U]"
MIDLINE_SHARE = 0.1
"""A structure is 'midline' when its sides' volumes differ by less than this share of the whole."""


def measure(segmentation: Segmentation, image: Image) -> tuple[Measurement, ...]:
    """All measurements of all segments that have at least one voxel.

    Args:
        segmentation: on the image's grid.
        image: scalar volume.
    """
    results: list[Measurement] = []
    midline = body_midline(image)
    for segment in segmentation.segments:
        if segment.mask.any():
            results += measure_segment(segment, segmentation.geometry, image, midline)
    return tuple(results)


def measure_segment(segment: Segment, geometry: Geometry, image: Image, midline: float) -> list[Measurement]:
    """Volume (mL), extent (mm along R, A, S), mean and SD of the intensity, side.

    Args:
        segment: at least one voxel set.
        geometry: the mask's grid, the image's too.
        midline: RAS x of the body's middle, mm.
    """
    start, inside = segment.cropped
    index = np.argwhere(inside) + start
    world = geometry.to_world(index)
    values = image.scalars[tuple(slice(a, a + n) for a, n in zip(start, inside.shape, strict=True))][inside.view(bool)]
    half = np.abs(geometry.affine[:3, :3]).sum(axis=1) / 2
    extent = world.max(axis=0) - world.min(axis=0) + 2 * half
    unit = HU if image.modality == "CT" else ""

    def result(name: str, value, unit: str, method: str) -> Measurement:
        return Measurement(segment.label, name, value if isinstance(value, str) else float(value), unit, method)

    return [
        result("volume", len(index) * geometry.voxel_volume / 1000, "mL", "voxel count × voxel volume"),
        result("extent left-right", extent[0], "mm", "bounding box of the voxels along patient axes"),
        result("extent front-back", extent[1], "mm", "bounding box of the voxels along patient axes"),
        result("extent head-foot", extent[2], "mm", "bounding box of the voxels along patient axes"),
        result("mean intensity", values.mean(), unit, "mean over voxels"),
        result("intensity SD", values.std(), unit, "standard deviation over voxels"),
        result("side", side_of(world[:, 0], midline), "", f"volume on either side of x = {midline:.0f} mm (RAS)"),
    ]


def side_of(x: np.ndarray, midline: float) -> str:
    """'right', 'left' or 'midline' from RAS x of a structure's voxels; RAS x grows to the patient's right."""
    balance = float(np.mean(x > midline) - np.mean(x < midline))
    if abs(balance) < MIDLINE_SHARE or (np.mean(x > midline) > 0.25 and np.mean(x < midline) > 0.25):
        return "midline"
    return "right" if balance > 0 else "left"


def body_midline(image: Image) -> float:
    """RAS x of the middle of what is not air, mm: the median of the foreground's centre over slices.

    Falls back on the grid's centre when nothing stands out.
    """
    values = image.scalars
    step = max(1, round((values.size / 1e6) ** (1 / 3)))
    coarse = values[::step, ::step, ::step]
    if image.modality == "CT":
        threshold = -300.0
    else:
        low, high = np.percentile(coarse, (1, 99.5))
        threshold = low + 0.1 * (high - low)
    index = np.argwhere(coarse > threshold) * step
    if len(index) < 50:
        return float(image.geometry.center[0])
    x = image.geometry.to_world(index)[:, 0]
    low, high = np.percentile(x, (1, 99))
    return float((low + high) / 2)


def as_table(measurements: tuple[Measurement, ...] | list[Measurement]) -> tuple[list[str], list[list[str]]]:
    """(column titles, rows), one row a segment, for tables in scenes, reports and terminals."""
    names: list[str] = []
    rows: dict[str, dict[str, str]] = {}
    for m in measurements:
        unit = "HU" if m.unit == HU else m.unit
        title = f"{m.name} ({unit})" if unit else m.name
        if title not in names:
            names.append(title)
        rows.setdefault(m.segment, {})[title] = m.value if isinstance(m.value, str) else plain(m.value)
    return ["segment", *names], [[label, *[row.get(n, "") for n in names]] for label, row in rows.items()]


def plain(value: float) -> str:
    """A number with about three digits, never in powers of ten."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.3g}"

"""Read segmentations from files: `.seg.nrrd` of 3D Slicer and MedFM, or a plain labelmap."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.findings import Segment, Segmentation
from ..core.geometry import Geometry
from ..core.terminology import structure
from ..errors import InputError
from .sitk import geometry_of

ALIGNED = 0.02
"""Largest shift between two grids, in voxels, that is accepted; a larger shift would move borders."""


def read_segmentation(path: Path, geometry: Geometry) -> Segmentation:
    """Read segments onto the grid of an image.

    Slicer stores only the part of the grid with segments; it is placed on the full grid. Codes and colours follow from
    the names;
    a plain labelmap's values are named "label 1" and so on.

    Args:
        path: a `.seg.nrrd` or a labelmap.
        geometry: the image's grid.

    Raises:
        InputError: if it can't be read, has no segment, or lies on another grid.
    """
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        picture = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise InputError(f"'{path.name}' can't be read as a segmentation; give a .seg.nrrd or a labelmap.") from error
    array = sitk.GetArrayFromImage(picture)
    if array.dtype.kind == "f" and np.array_equal(array, np.rint(array)):  # some tools store labelmaps as floats
        array = array.astype(np.int32)
    layers = array[..., None] if picture.GetNumberOfComponentsPerPixel() == 1 else array
    if layers.ndim != 4 or layers.dtype.kind not in "iu":
        raise InputError(f"'{path.name}' has no labels in three dimensions; give a .seg.nrrd or a labelmap.")
    place = _place(geometry_of(picture), geometry, path)
    tags = {key: picture.GetMetaData(key) for key in picture.GetMetaDataKeys()}
    segments = []
    for name, layer, value, color in _listed(tags, layers):
        mask = np.zeros(geometry.shape, bool)
        mask[place] = layers[..., layer].transpose(2, 1, 0) == value
        known = structure(name)
        segments.append(Segment(name, mask, color or known.color, known.category, known.code, known.side))
    if not segments:
        raise InputError(f"'{path.name}' has no segment; segment something first.")
    return Segmentation(tuple(segments), geometry)


def _place(own: Geometry, geometry: Geometry, path: Path) -> tuple[slice, ...]:
    """Return the slices of the image's grid that the file's voxels occupy."""
    start = geometry.to_index(own.to_world((0, 0, 0)))
    end = geometry.to_index(own.to_world(np.array(own.shape) - 1))
    first = np.round(start).astype(int)
    fits = np.abs(start - first).max() < ALIGNED and np.abs(end - first - (np.array(own.shape) - 1)).max() < ALIGNED
    if not fits or (first < 0).any() or (first + own.shape > geometry.shape).any():
        raise InputError(
            f"'{path.name}' lies on another grid ({own}) than the image ({geometry}); give the image that it was made on."
        )
    return tuple(slice(a, a + n) for a, n in zip(first.tolist(), own.shape, strict=True))


def _listed(tags: dict[str, str], layers: np.ndarray) -> list[tuple[str, int, int, tuple[float, float, float] | None]]:
    """Return (name, layer, value, colour) of each segment."""
    numbers = sorted(
        {int(key[7:].partition("_")[0]) for key in tags if key.startswith("Segment") and key[7:8].isdigit()}
    )
    if not numbers:
        return [(f"label {value}", 0, int(value), None) for value in np.unique(layers[..., 0]) if value]
    found = []
    for n in numbers:
        color = tuple(float(part) for part in tags.get(f"Segment{n}_Color", "").split())
        value = int(tags.get(f"Segment{n}_LabelValue", "1"))
        layer = int(tags.get(f"Segment{n}_Layer", "0"))
        found.append(
            (tags.get(f"Segment{n}_Name", f"segment {n + 1}"), layer, value, color if len(color) == 3 else None)
        )
    return found

"""Read segments from volume files: label maps, probability maps, and `.seg.nrrd` of 3D Slicer and MedFM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.geometry import Geometry, mask_box
from ...core.image import Image
from ...errors import InputError
from ..names import output_name
from ..sitk import geometry_of
from ..volumes import read_picture, read_volume_file, suffix_of
from .found import FoundSegment, Target
from .label_names import NamedValues, read_label_names
from .slicer_header import HeaderSegment, read_header

NEARLY = 1e-3
"""Largest distance of a label value from a whole number; files that scale their values store them inexactly."""

NEARLY_OF_LARGEST = 2e-5
"""The same as a part of the largest value, for labels that were scaled to 16 bits: half of 1/32767."""

IN_MEMORY = "The label map"
"""What messages call a label map that was given as an image of another library."""

LARGEST = 2.0**53
"""Whole numbers up to this are exact in every type that is read here."""


def read_label_volume(path: Path, target: Target, name: str = "") -> list[FoundSegment]:
    """Return the segments of a label map or a `.seg.nrrd`, in the order of the file or of their values.

    Args:
        path: a volume file; see `names.VOLUME_SUFFIXES`.
        target: where they are placed.
        name: of the segment, if the file holds only one; "" for the name that the file or a file beside it gives.

    Raises:
        InputError: if it can't be read, holds no labels, or lies on another grid.
    """
    shown = f"'{path.name}'"
    if suffix_of(path) in (".nrrd", ".nhdr"):
        layers, own, listed = _nrrd(path)
    else:
        image = _image(path)
        if len(image.voxels) != 1:
            raise InputError(f"{shown} is in colour; give a label map, one whole number a voxel.")
        layers, own, listed = [image.scalars], image.geometry, []
    layers = [_labels(layer, target, shown) for layer in layers]
    if not listed:
        return _by_value(layers, own, path, target, name)
    placed = [target.place(layer, own, shown) if layer.any() else None for layer in layers]
    target.note([layer for layer in placed if layer is not None], own, shown)
    found = []
    for number, item in enumerate(listed):
        if not 0 <= item.layer < len(layers):
            raise InputError(
                f"{shown} has {len(layers)} layer{'s' if len(layers) > 1 else ''} of labels, but its segment {number + 1} "
                f"('{item.name}') refers to layer {item.layer} (numbered from 0); write it again with the program that made it."
            )
        count = int(np.count_nonzero(layers[item.layer] == item.value)) if item.value else 0
        where = placed[item.layer]
        mask = target.empty() if where is None or not count else target.mask(where, where.labels == item.value)
        found.append(
            FoundSegment(
                item.name, mask, count * own.voxel_volume, count, item.color, item.category, item.code, item.side, item.origin,
                where is None or where.lossless,
            )
        )  # fmt: skip
    return found


def read_label_image(image: Image, target: Target) -> list[FoundSegment]:
    """Return the segments of a label map that is in memory, in the order of their values.

    Args:
        image: one whole number a voxel.
        target: where they are placed.

    Raises:
        InputError: if it holds no labels, or lies on another grid.
    """
    if len(image.voxels) != 1:
        raise InputError("A label map has one whole number a voxel, no colours.")
    return _by_value([_labels(image.scalars, target, IN_MEMORY)], image.geometry, None, target, "")


def _image(path: Path) -> Image:
    """Return a label map as an image."""
    try:
        return read_volume_file(path, output_name(path), modality="OT")
    except InputError as error:
        if "--frame" not in str(error):  # frames are chosen of images only
            raise
        raise InputError(
            f"'{path.name}' is 4D with several label maps; give one of them as a file of its own."
        ) from error


def _text(value: str) -> str:
    """Return a value without half characters, which stand for bytes that are no UTF-8."""
    return value.encode("utf-8", "replace").decode()


def _nrrd(path: Path) -> tuple[list[np.ndarray], Geometry, list[HeaderSegment]]:
    """Return ([(I, J, K) layers], their grid, the segments that the header describes)."""
    import SimpleITK as sitk

    picture = read_picture(path)
    try:
        tags = {key: _text(picture.GetMetaData(key)) for key in picture.GetMetaDataKeys()}
    except (TypeError, UnicodeDecodeError) as error:
        raise InputError(f"The header of '{path.name}' has keys that are no text; copy the file again.") from error
    array = sitk.GetArrayFromImage(picture)
    if picture.GetDimension() == 2:
        picture, array = sitk.JoinSeries(picture), array[None]
    if picture.GetDimension() == 4 and picture.GetSize()[3] == 1:
        picture, array = picture[..., 0], array[0]
    layered = picture.GetNumberOfComponentsPerPixel() > 1
    if picture.GetDimension() != 3:
        raise InputError(
            f"'{path.name}' has {picture.GetDimension()} dimensions; give one label map in three dimensions."
        )
    layers = list(np.moveaxis(array, -1, 0)) if layered else [array]
    listed = read_header(tags, len(layers), path.name)
    if layered and not listed:
        raise InputError(
            f"'{path.name}' has {len(layers)} values per voxel and names no segments; give a .seg.nrrd or a label map."
        )
    return [layer.transpose(2, 1, 0) for layer in layers], geometry_of(picture), listed


def _by_value(
    layers: Sequence[np.ndarray], own: Geometry, path: Path | None, target: Target, name: str
) -> list[FoundSegment]:
    """Return one segment for each value, or each named group of values, of a label map; `path` is None in memory."""
    (labels,) = layers
    values, shown = _values(labels), IN_MEMORY if path is None else f"'{path.name}'"
    placed = target.place(labels, own, shown) if values else None
    if placed is not None:
        target.note([placed], own, shown)
    if name and len(values) < 2:
        listed = [NamedValues(name, tuple(values))]
    elif name:
        listed = [NamedValues(f"{name} {value}", (value,)) for value in values]
    else:
        given = [NamedValues(text, (value,)) for value, text in target.names.items()]
        listed = _named(values, given or ([] if path is None else read_label_names(path)))
    found = []
    for item in listed:
        count = sum(int(np.count_nonzero(labels == value)) for value in item.values if value in values)
        mask = target.empty()
        if placed is not None and count:
            one = len(item.values) == 1
            mask = target.mask(placed, placed.labels == item.values[0] if one else np.isin(placed.labels, item.values))
        found.append(
            FoundSegment(
                item.name, mask, count * own.voxel_volume, count, item.color, lossless=placed is None or placed.lossless
            )
        )  # fmt: skip
    return found


def _named(values: list[int], names: Sequence[NamedValues]) -> list[NamedValues]:
    """Return the named groups that occur, and "label N" for values without a name."""
    named = [item for item in names if set(item.values) & set(values)]
    rest = [value for value in values if not any(value in item.values for item in named)]
    return named + [NamedValues(f"label {value}", (value,)) for value in rest]


def _values(labels: np.ndarray) -> list[int]:
    """Return the values other than 0, in order."""
    inside = labels[mask_box(labels != 0)].ravel(order="K")  # most of a volume is no label
    if inside.dtype == bool or inside.dtype.itemsize == 1 or (inside.dtype.kind in "iu" and inside.max() < 1 << 20):
        return [int(value) for value in np.flatnonzero(np.bincount(inside)) if value]
    return [int(value) for value in np.unique(inside) if value]


def _labels(values: np.ndarray, target: Target, shown: str) -> np.ndarray:
    """Return whole numbers of at least 0, made of the values of a file.

    Raises:
        InputError: if they are none, or fractions without a threshold.
    """
    if values.dtype == bool:
        return values
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = int(values.size - np.count_nonzero(np.isfinite(values)))
            raise InputError(f"{shown} has {bad} voxels that are NaN or infinite; replace them with 0, no label.")
        whole = np.rint(values)
        off = np.abs(values - whole)
        odd = off > max(NEARLY, NEARLY_OF_LARGEST * max(abs(float(low)), abs(float(high))))
        fraction = odd.any()
        shown_value = float(values[odd].min() if fraction else high)
        if (fraction or target.threshold is not None) and low >= 0 and high <= 1:
            if target.threshold is not None:
                return values >= target.threshold
            raise InputError(
                f"{shown} has the value {shown_value:.4g}, which is no label; of a probability map, give the smallest "
                "value that belongs to the structure with --threshold 0.5 (in Python threshold=0.5)."
            )
        if fraction or (high > 0 and not whole.any()):
            raise InputError(
                f"{shown} has the value {shown_value:.4g}, which is no label; write the labels as whole numbers (an image that "
                "was resampled or smoothed holds no labels)."
            )
        if high > LARGEST:
            raise InputError(f"{shown} has the value {float(high):.6g}, which is no label; number the labels from 1.")
        values = whole.astype(np.int64 if high > np.iinfo(np.int32).max else np.int32)
    if low < -NEARLY:
        raise InputError(
            f"{shown} has the value {low:.6g}, and labels are whole numbers from 1; write it without a sign."
        )
    return values

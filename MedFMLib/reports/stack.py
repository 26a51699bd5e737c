"""Make the slices that a report's page scrolls through: small pictures, each with its label image."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from ..core.findings import Segmentation, StackSlice
from ..core.image import Image
from ..core.view import edge_letters, make_view
from ..imaging.key_images import display_window, resize, shown_size
from ..imaging.slices import display_mask, slice_reference

MOST = 40
SIDE = 320
"""Largest number of slices, and pixels along the longer side: about 1.5 MB in all."""


def make_stack(
    image: Image, segmentation: Segmentation, plane: str, chosen: Sequence[int] = ()
) -> tuple[StackSlice, ...]:
    """Return evenly spaced slices through the segments and slightly beyond, and those that were chosen.

    Args:
        image: scalar volume.
        segmentation: on the image's grid.
        plane: axial, coronal or sagittal.
        chosen: slice numbers that must be included, such as those of key images.
    """
    geometry = image.geometry
    axis = geometry.index_axis(plane)
    count = geometry.shape[axis]
    boxes = [segment.boxed.box[axis] for segment in segmentation.segments if segment.boxed.inside.any()]
    first = min((box.start for box in boxes), default=0)
    last = max((box.stop for box in boxes), default=count) - 1
    beyond = max(1, (last - first) // 20)
    first, last = max(0, first - beyond), min(count - 1, last + beyond)
    step = max(1, -(-(last - first + 1) // max(1, MOST - len(set(chosen)))))
    numbers = sorted({*range(first, last + 1, step), *(n for n in chosen if 0 <= n < count)})
    window = display_window(image, segmentation)
    return tuple(_slice(image, segmentation, plane, number, axis, window) for number in numbers)


def _slice(image: Image, segmentation: Segmentation, plane: str, number: int, axis: int, window) -> StackSlice:
    view = make_view(image, plane, number, window)
    rows, columns, _ = shown_size(view, SIDE)
    labels = np.zeros((rows, columns), np.uint8)
    for n, segment in enumerate(segmentation.segments[:255], start=1):
        box = segment.boxed.box[axis]
        if box.start <= number < box.stop:
            mask = display_mask(segment.mask, image.geometry, plane, number)[
                : view.pixels.shape[0], : view.pixels.shape[1]
            ]
            if mask.any():
                labels[_nearest(mask, rows, columns)] = n
    return StackSlice(
        slice_reference(view), _encode(resize(view.pixels, rows, columns), "JPEG", quality=82), _encode(labels, "PNG"),
        edge_letters(image.geometry, plane, image.facts),
    )  # fmt: skip


def _nearest(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Resample a mask by nearest neighbour."""
    at = [((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip((rows, columns), mask.shape, strict=True)]
    return mask[np.ix_(*at)]


def _encode(pixels: np.ndarray, kind: str, **options) -> bytes:
    from PIL import Image as Picture

    stream = io.BytesIO()
    Picture.fromarray(np.ascontiguousarray(pixels)).save(stream, kind, optimize=True, **options)
    return stream.getvalue()

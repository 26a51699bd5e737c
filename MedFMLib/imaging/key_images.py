"""Render key images: slices with outlines, side letters and a scale bar, as PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from ..core.findings import KeyImage, Segment, Segmentation
from ..core.image import Image
from ..core.view import View, Window, edge_letters, make_view, window_for
from ..core.windows import hu_range
from .slices import display_mask, slice_reference

DISPLAY_CT, LUNG_CT = Window((hu_range("soft tissue"),)), Window((hu_range("lung"),))


def choose_slices_to_show(segmentation: Segmentation, plane: str, count: int = 3) -> list[tuple[int, tuple[str, ...]]]:
    """Return the slices that together show every segment well, in anatomical order.

    Greedy: each next slice is the one that increases most the sum over segments of (best area shown ÷ largest area).

    Args:
        segmentation: the segments.
        plane: sagittal, coronal or axial.
        count: largest number of slices.

    Returns:
        [(slice number, labels on it)]
    """
    axis = segmentation.geometry.index_axis(plane)
    others = tuple(a for a in range(3) if a != axis)
    areas = np.array([s.mask.sum(axis=others) for s in segmentation.segments if s.mask.any()], dtype=float)
    labels = [s.label for s in segmentation.segments if s.mask.any()]
    if not labels:
        return [(segmentation.geometry.shape[axis] // 2, ())]
    shares = areas / areas.max(axis=1, keepdims=True)
    best = np.zeros(len(labels))
    chosen: list[int] = []
    while len(chosen) < count:
        gain = np.maximum(shares, best[:, None]).sum(axis=0) - best.sum()
        number = int(gain.argmax())
        if chosen and gain[number] < 0.05:
            break
        chosen.append(number)
        best = np.maximum(best, shares[:, number])
    return [(n, tuple(lab for lab, row in zip(labels, areas, strict=True) if row[n] > 0)) for n in sorted(chosen)]


def key_image(image: Image, plane: str, number: int, segments: Sequence[Segment] = (), size: int = 448) -> KeyImage:
    """Return one slice as two PNGs, plain and with outlined segments.

    Args:
        image: scalar volume.
        plane: sagittal, coronal or axial.
        number: slice number along the plane's index axis.
        segments: segments to outline.
        size: pixels along the longer side.
    """
    window = window_for(image) if image.modality != "CT" else _ct_window(segments, number, image, plane)
    view = make_view(image, plane, number, window)
    rows, columns, mm_per_pixel = shown_size(view, size)
    plain = resize(view.pixels, rows, columns)
    overlay = plain.astype(np.float32)
    for segment in segments:
        inside = display_mask(segment.mask, image.geometry, plane, number)
        mask = _resize_mask(inside[: view.pixels.shape[0], : view.pixels.shape[1]], rows, columns)
        if mask.any():
            color = np.array(segment.color) * 255
            overlay[mask] = 0.78 * overlay[mask] + 0.22 * color
            overlay[mask & ~_eroded(mask)] = color
    where = slice_reference(view)
    names = ", ".join(s.label for s in segments)
    caption = str(where)[0].upper() + str(where)[1:] + (f": {names}" if names else "")
    edges = edge_letters(image.geometry, plane, image.facts)
    return KeyImage(
        caption,
        where,
        _annotate(plain, edges, mm_per_pixel),
        _annotate(np.rint(overlay).clip(0, 255).astype(np.uint8), edges, mm_per_pixel),
    )


def painted(image: Image, plane: str, number: int, colors: np.ndarray, cover: np.ndarray, size: int = 448) -> bytes:
    """Return one slice as PNG with a colour overlay.

    Args:
        image: scalar volume.
        plane: sagittal, coronal or axial.
        number: slice number along the plane's index axis.
        colors: (H, W, 3) uint8, in the orientation of the displayed slice.
        cover: (H, W) opacity of the colours, 0…1.
        size: pixels along the longer side.
    """
    window = DISPLAY_CT if image.modality == "CT" else window_for(image)
    view = make_view(image, plane, number, window)
    rows, columns, mm_per_pixel = shown_size(view, size)
    height, width = view.pixels.shape[:2]  # a picture may be smaller than the grid that it shares with others
    colors, cover = colors[:height, :width], cover[:height, :width]
    mixed = view.pixels * (1 - cover[..., None]) + colors * cover[..., None]
    edges = edge_letters(image.geometry, plane, image.facts)
    return _annotate(resize(np.rint(mixed).astype(np.uint8), rows, columns), edges, mm_per_pixel)


def shown_size(view: View, size: int) -> tuple[int, int, float]:
    """Return (rows, columns, mm per pixel) of a slice whose longer side has `size` pixels; 0 mm where they are unknown.

    Args:
        view: the slice.
        size: pixels along the longer side.
    """
    height, width = view.height_and_width
    longest = max(height, width)
    rows, columns = max(1, round(size * height / longest)), max(1, round(size * width / longest))
    return rows, columns, longest / size if view.geometry.metric else 0.0


def _ct_window(segments: Sequence[Segment], number: int, image: Image, plane: str) -> Window:
    lung = sum(
        int(np.take(s.mask, number, image.geometry.index_axis(plane)).sum()) for s in segments if "lung" in s.label
    )
    other = sum(
        int(np.take(s.mask, number, image.geometry.index_axis(plane)).sum()) for s in segments if "lung" not in s.label
    )
    return LUNG_CT if lung > other else DISPLAY_CT


def display_window(image: Image, segmentation: Segmentation) -> Window:
    """Return one window for all slices of a volume: the lung window if most segmented voxels of a CT are lung.

    Args:
        image: scalar volume.
        segmentation: on the image's grid.
    """
    if image.modality != "CT":
        return window_for(image)
    voxels = {s.label: int(s.boxed.inside.sum()) for s in segmentation.segments}
    lung = sum(count for label, count in voxels.items() if "lung" in label)
    return LUNG_CT if 2 * lung > sum(voxels.values()) else DISPLAY_CT


def resize(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return a picture at another sampling, (rows, columns, 3) uint8, interpolated bicubically.

    Args:
        pixels: (H, W, 3) uint8.
        rows: new height.
        columns: new width.
    """
    from PIL import Image as Picture

    return np.asarray(
        Picture.fromarray(np.ascontiguousarray(pixels)).resize((columns, rows), Picture.Resampling.BICUBIC)
    )


def _resize_mask(mask: np.ndarray, rows: int, columns: int) -> np.ndarray:
    from PIL import Image as Picture

    grey = Picture.fromarray(np.ascontiguousarray(mask, dtype=np.uint8) * 255)
    return np.asarray(grey.resize((columns, rows), Picture.Resampling.BILINEAR)) > 127


def _eroded(mask: np.ndarray) -> np.ndarray:
    inner = mask.copy()
    for shift in (1, -1):
        inner &= np.roll(mask, shift, axis=0) & np.roll(mask, shift, axis=1)
    return inner


def _annotate(pixels: np.ndarray, edges: Sequence[str], mm_per_pixel: float) -> bytes:
    """Return a PNG with edge letters where directions are known, and a scale bar of 1, 2, 5 or 10 cm where mm are."""
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    margin = 22
    canvas = Picture.new("RGB", (pixels.shape[1] + 2 * margin, pixels.shape[0] + 2 * margin), (0, 0, 0))
    canvas.paste(Picture.fromarray(np.ascontiguousarray(pixels)), (margin, margin))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=15)
    width, height = canvas.size
    top, bottom, left, right = edges
    ink = (235, 235, 235)
    draw.text((width / 2, 11), top, fill=ink, font=font, anchor="mm")
    draw.text((width / 2, height - 11), bottom, fill=ink, font=font, anchor="mm")
    draw.text((11, height / 2), left, fill=ink, font=font, anchor="mm")
    draw.text((width - 11, height / 2), right, fill=ink, font=font, anchor="mm")
    if mm_per_pixel:
        _scale_bar(draw, pixels.shape[1], (width - margin - 6, height - margin - 8), mm_per_pixel, ink)
    stream = io.BytesIO()
    canvas.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _scale_bar(draw, columns: int, end: tuple[float, float], mm_per_pixel: float, ink) -> None:
    """Draw a bar that ends at a place (x, y) of the picture."""
    from PIL import ImageFont

    bar = max((mm for mm in (5, 10, 20, 50, 100) if mm / mm_per_pixel <= 0.35 * columns), default=5)
    length = bar / mm_per_pixel
    x, y = end[0] - length, end[1]
    draw.rectangle([(x - 5, y - 20), (x + length + 5, y + 6)], fill=(0, 0, 0))  # readable on bright tissue, too
    draw.line([(x, y), (x + length, y)], fill=ink, width=3)
    draw.text((x + length / 2, y - 5), f"{bar / 10:g} cm", fill=ink, font=ImageFont.load_default(size=12), anchor="ms")

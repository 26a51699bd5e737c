"""Write the plain names of structures on a report's slices. Depends on small pictures; knows no volumes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..core.findings import StackSlice

LARGER = 2
"""Enlargement of the stack's slices, so that names are legible."""

LEAST_SHARE = 0.002
"""Smallest fraction of a picture that a structure with a name must cover."""


def without(part: StackSlice, numbers: Sequence[int]) -> StackSlice:
    """Return a slice without some structures.

    Args:
        part: slice of the report's stack.
        numbers: numbers in the labels that are removed.
    """
    from PIL import Image as Picture

    if not numbers:
        return part
    labels = _labels(part).copy()
    labels[np.isin(labels, list(numbers))] = 0
    stream = io.BytesIO()
    Picture.fromarray(labels).save(stream, "PNG", optimize=True)
    return replace(part, labels_png=stream.getvalue())


def most_telling(stack: Sequence[StackSlice], count: int = 2) -> list[StackSlice]:
    """Return the slices that together show the most structures, in order.

    Args:
        stack: the report's slices.
        count: largest number of slices.
    """
    shown = []
    for part in stack:
        numbers, sizes = np.unique(_labels(part), return_counts=True)
        shown.append({int(n) for n, size in zip(numbers, sizes, strict=True) if n and size >= LEAST_SHARE * sum(sizes)})
    chosen: list[int] = []
    seen: set[int] = set()
    while len(chosen) < count and stack:
        best = max(range(len(stack)), key=lambda n: (len(shown[n] - seen), len(shown[n])))
        if chosen and not shown[best] - seen:
            break
        chosen.append(best)
        seen |= shown[best]
    return [stack[n] for n in sorted(chosen)]


def named(part: StackSlice, names: Mapping[int, str], colors: Mapping[int, tuple[int, int, int]]) -> bytes:
    """Return a PNG of a slice with outlines and the name next to each structure.

    Args:
        part: slice of the report's stack.
        names: number in the labels → name.
        colors: number in the labels → red, green, blue in 0…255.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    picture = Picture.open(io.BytesIO(part.jpeg)).convert("RGB")
    size = (picture.width * LARGER, picture.height * LARGER)
    canvas = np.asarray(picture.resize(size, Picture.Resampling.BICUBIC)).copy()
    labels = np.kron(_labels(part), np.ones((LARGER, LARGER), np.uint8))
    for number, color in colors.items():
        mask = labels == number
        canvas[mask & ~_eroded(mask)] = color
    drawn = Picture.fromarray(canvas)
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(size=17)
    taken: list[tuple[float, float, float, float]] = []
    for number, name in names.items():
        mask = labels == number
        if mask.sum() < LEAST_SHARE * mask.size:
            continue
        box = _free_place(pen, name, font, _middle(mask), drawn.size, taken)
        if box is not None:
            taken.append(box)
            pen.text(box[:2], name, fill=(255, 255, 255), font=font, stroke_width=2, stroke_fill=(0, 0, 0))
    stream = io.BytesIO()
    drawn.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _labels(part: StackSlice) -> np.ndarray:
    from PIL import Image as Picture

    return np.asarray(Picture.open(io.BytesIO(part.labels_png)))


def _middle(mask: np.ndarray) -> tuple[float, float]:
    """Return (x, y) of the mask's pixel nearest to its centroid."""
    places = np.argwhere(mask)
    y, x = places[np.abs(places - places.mean(axis=0)).sum(axis=1).argmin()]
    return float(x), float(y)


def _free_place(pen, name: str, font, middle, size, taken) -> tuple[float, float, float, float] | None:
    """Return (left, top, right, bottom) of a name near a point, inside the picture and without overlap.

    None if impossible.
    """
    _, _, width, height = pen.textbbox((0, 0), name, font=font)
    for down in (0, 1, -1, 2, -2, 3, -3):
        left = min(max(2.0, middle[0] - width / 2), size[0] - width - 2)
        top = middle[1] - height / 2 + down * (height + 2)
        box = (left, top, left + width, top + height)
        clear = all(box[2] < t[0] or t[2] < box[0] or box[3] < t[1] or t[3] < box[1] for t in taken)
        if 2 <= top <= size[1] - height - 2 and clear:
            return box
    return None


def _eroded(mask: np.ndarray) -> np.ndarray:
    inner = mask.copy()
    for shift in (1, 2, -1, -2):
        inner &= np.roll(mask, shift, axis=0) & np.roll(mask, shift, axis=1)
    return inner

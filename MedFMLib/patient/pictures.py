"""Write the plain names of structures on a report's slices. Depends on small pictures; knows no volumes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..core.findings import StackSlice
from ..storage import resources
from .naming import stacked

LARGER = 2
"""Enlargement of the stack's slices, so that names are legible."""

LETTERS, GAP = 17, 14
"""Height of the letters, and the space around a name, in pixels."""

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
    """Return a PNG of a slice with outlines, and beside it the names with lines that lead to their structures.

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
    font = ImageFont.truetype(str(resources.path("fonts", "DejaVuSans.ttf")), LETTERS)
    masks = {number: labels == number for number in names}
    anchors = {n: _middle(mask) for n, mask in masks.items() if mask.sum() >= LEAST_SHARE * mask.size}
    width = max((round(font.getlength(names[n])) for n in anchors), default=0) + 2 * GAP if names else 0
    drawn = Picture.new("RGB", (size[0] + 2 * width, size[1]))
    drawn.paste(Picture.fromarray(canvas), (width, 0))
    pen = ImageDraw.Draw(drawn)
    for on_left in (True, False):
        side = [n for n, (x, _) in anchors.items() if (x < size[0] / 2) == on_left]
        for number, top in zip(*_spread(side, anchors, size[1]), strict=True):
            x, y = anchors[number][0] + width, anchors[number][1]
            text = round(font.getlength(names[number]))
            left = width - GAP - text if on_left else width + size[0] + GAP
            end = (width - GAP + 4 if on_left else left - 4, top + LETTERS / 2)
            for shade, thick in (((0, 0, 0), 4), (colors.get(number, (255, 255, 255)), 2)):
                pen.line([end, (x, y)], fill=shade, width=thick)
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colors.get(number, (255, 255, 255)), outline=(0, 0, 0))
            pen.text(
                (left, top - 2), names[number], fill=(255, 255, 255), font=font, stroke_width=1, stroke_fill=(0, 0, 0)
            )
    stream = io.BytesIO()
    drawn.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _spread(side: list[int], anchors: Mapping[int, tuple[float, float]], height: int) -> tuple[list[int], list[float]]:
    """Return the numbers from top to bottom and the tops of their names, which do not overlap; what has no room is left out.

    Args:
        side: numbers of the structures with names on one side.
        anchors: number → (x, y) of its structure.
        height: of the picture in pixels.
    """
    step = LETTERS + 6
    order = sorted(side, key=lambda n: anchors[n][1])[: height // step]
    wanted = [anchors[number][1] - LETTERS / 2 for number in order]
    return order, stacked(wanted, [step] * len(order), height)


def _labels(part: StackSlice) -> np.ndarray:
    from PIL import Image as Picture

    return np.asarray(Picture.open(io.BytesIO(part.labels_png)))


def _middle(mask: np.ndarray) -> tuple[float, float]:
    """Return (x, y) of the mask's pixel nearest to its centroid."""
    places = np.argwhere(mask)
    y, x = places[np.abs(places - places.mean(axis=0)).sum(axis=1).argmin()]
    return float(x), float(y)


def _eroded(mask: np.ndarray) -> np.ndarray:
    inner = mask.copy()
    for shift in (1, 2, -1, -2):
        inner &= np.roll(mask, shift, axis=0) & np.roll(mask, shift, axis=1)
    return inner

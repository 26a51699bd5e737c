"""Find text that is burned into a picture, and black it out.

Depends on pixels only; knows no DICOM, models or endpoints.

Method (our own): letters are thin, brighter (or darker) than their surroundings, of one grey value on a uniform
background, small,
and adjacent in rows. Thin structures come from a top-hat of two sizes, thresholded at two contrasts; adjacent
structures in
a row form one candidate; a candidate is text if, for the row or a piece of it, a line crosses enough strokes, the
strokes have
one grey value, strokes and background are two separate groups of values, and it does not lie entirely in the picture's
inner
half.

**It can miss text**: letters below 6 pixels in height, faint, rotated or handwritten, over structures as bright as they
are,
fewer than three together, larger than 8 % of the picture, or in its middle; pictures below 128 pixels are not searched.
It can also black out what only looks like text. It is an aid, not a guarantee: the user must inspect images before they
are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CONTRASTS = (60, 30)
"""Thresholds, in grey values of 255, between strokes and background: letters are connected at one and separate at the other."""

LEAST_HEIGHT, MOST_SHARE = 5, 0.08
"""Smallest height of a row of letters in pixels, and its largest share of the picture's shorter side."""

STROKES = (3, 8)
"""Radii of the top-hats in pixels; strokes up to twice as wide are found."""

PART = 3
"""Length of a row's pieces, in multiples of its height."""

LEAST_LENGTH, LETTERS = 2.0, 4
"""Smallest ratio of a row's length to its height, and smallest number of strokes that a line along it crosses."""

SEPARATION = 0.78
"""Smallest share of the variance that lies between strokes and background (Otsu's criterion)."""

SAME, ONE_INK = 12, 0.2
"""Grey value tolerance, and smallest share of a row's strokes within it; the others are the blurred edges of letters."""

CALM = 0.35
"""Largest spread of the background around letters, as a fraction of the contrast."""

LEAST_SIDE = 128
"""Smallest length in pixels of a picture's shorter side; no name is legible in a smaller picture."""

MIDDLE = 0.5
"""A row entirely inside this central fraction of the picture, in both directions, is not blacked out."""


@dataclass(frozen=True)
class Area:
    """A rectangle of a picture: rows top…bottom − 1, columns left…right − 1."""

    top: int
    left: int
    bottom: int
    right: int


def mask(pixels: np.ndarray, meanwhile: Callable[[], None] = lambda: None) -> tuple[np.ndarray, tuple[Area, ...]]:
    """Black out the text in a picture.

    Args:
        pixels: (H, W, 3) uint8.
        meanwhile: called repeatedly during the search; may raise an exception to stop it.

    Returns:
        (a copy, the areas that were blacked out); the picture itself if there are none.
    """
    areas = find(pixels, meanwhile)
    if not areas:
        return pixels, ()
    clean = pixels.copy()
    for area in areas:
        clean[area.top : area.bottom, area.left : area.right] = 0
    return clean, areas


def find(pixels: np.ndarray, meanwhile: Callable[[], None] = lambda: None) -> tuple[Area, ...]:
    """Return the areas that may be text.

    Args:
        pixels: (H, W, 3) uint8; of the three CT windows the darkest value is used, which is bright only if all are
            bright.
        meanwhile: called repeatedly during the search; may raise an exception to stop it.
    """
    grey = pixels.min(axis=2)
    found: list[Area] = []
    for values in (grey, 255 - grey):
        for radius in STROKES:
            meanwhile()
            found += _rows(values, radius)
    return tuple(_merged(found))


def _rows(grey: np.ndarray, radius: int) -> list[Area]:
    """Return rows of bright letters with strokes up to twice `radius` wide."""
    import SimpleITK as sitk

    height, width = grey.shape
    if min(height, width) < LEAST_SIDE:
        return []
    padded = np.pad(grey, 2 * radius, mode="edge")
    hat = sitk.GetArrayFromImage(sitk.WhiteTopHat(sitk.GetImageFromArray(padded), (radius, radius), sitk.sitkBox))
    found: list[Area] = []
    for contrast in CONTRASTS:
        thin = hat[2 * radius : -2 * radius, 2 * radius : -2 * radius] > contrast
        letters = [box for box in _boxes(thin) if _may_be_letters(box, radius)]
        rows = _chained(letters)
        found += [row for row in rows if any(_is_text(grey, thin, part) for part in (row, *_parts(row)))]
    return found


def _parts(row: Area) -> list[Area]:
    """Return half-overlapping pieces of a long row, so that some lie on a uniform part of its background."""
    length = PART * (row.bottom - row.top)
    starts = range(row.left, row.right - length + 1, max(1, length // 2))
    return [Area(row.top, left, row.bottom, left + length) for left in starts]


def _boxes(mask_: np.ndarray) -> list[Area]:
    """Return the bounding boxes of 8-connected components."""
    import SimpleITK as sitk

    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(mask_.astype(np.uint8)), True))
    rows, columns = np.nonzero(mask_)
    part = parts[rows, columns] - 1
    count = int(part.max()) + 1 if len(part) else 0
    low, high = np.full((2, count), np.iinfo(np.int64).max), np.full((2, count), -1)
    for axis, places in enumerate((rows, columns)):
        np.minimum.at(low[axis], part, places)
        np.maximum.at(high[axis], part, places)
    return [Area(*box) for box in np.stack([*low, *(high + 1)], axis=1).tolist()]


def _may_be_letters(box: Area, radius: int) -> bool:
    height, width = box.bottom - box.top, box.right - box.left
    return 3 <= height <= 8 * radius and width <= 30 * height


def _chained(boxes: list[Area]) -> list[Area]:
    """Join adjacent boxes of a row."""
    done: list[Area] = []
    rows: list[Area] = []  # rows that the next box may still belong to
    tallest = max((box.bottom - box.top for box in boxes), default=0)
    reach = 1.2 * (1.7 * max(tallest, LEAST_HEIGHT) + 2)
    for number, box in enumerate(sorted(boxes, key=lambda b: b.left)):
        if number % 64 == 0:
            done += [row for row in rows if box.left - row.right > reach]
            rows = [row for row in rows if box.left - row.right <= reach]
        for place, row in enumerate(rows):
            least = min(row.bottom - row.top, box.bottom - box.top)
            if min(row.bottom, box.bottom) - max(row.top, box.top) < 0.5 * least:  # skips most rows early
                continue
            tall = max(row.bottom - row.top, box.bottom - box.top)
            whole = max(row.bottom, box.bottom) - min(row.top, box.top)
            if box.left - row.right <= 1.2 * tall and whole <= 1.7 * max(least, LEAST_HEIGHT) + 2:
                rows[place] = _union(row, box)
                break
        else:
            rows.append(box)
    return done + rows


def _is_text(grey: np.ndarray, thin: np.ndarray, row: Area) -> bool:
    height, width = row.bottom - row.top, row.right - row.left
    if (
        not LEAST_HEIGHT <= height <= MOST_SHARE * min(grey.shape)
        or width < LEAST_LENGTH * height
        or _in_the_middle(row, grey.shape)
    ):
        return False
    inside = (slice(row.top, row.bottom), slice(row.left, row.right))
    strokes, values = thin[inside], grey[inside]
    if not 0.1 <= strokes.mean() <= 0.75 or _letters(strokes) < LETTERS or _separation(values) < SEPARATION:
        return False
    counts = np.convolve(np.bincount(values[strokes], minlength=256), np.ones(2 * SAME + 1), "same")
    if counts.max() < ONE_INK * np.count_nonzero(strokes):
        return False
    # there is background around the letters, and it is uniform
    around = (slice(max(row.top - 3, 0), row.bottom + 3), slice(max(row.left - 3, 0), row.right + 3))
    wide = np.pad(thin[around], 1)
    near = wide[1:-1, 1:-1] | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    ground = grey[around][~near]
    if ground.size < 20:
        return False
    low, middle, high = np.percentile(ground, (15, 50, 85))
    return high - low <= CALM * max(float(np.median(values[strokes])) - middle, 1.0)


def _letters(strokes: np.ndarray) -> int:
    """Count the strokes that a line through a row crosses: about one or two per letter, also where letters touch."""
    begins = (np.diff(strokes.astype(np.int8), axis=1) > 0).sum(axis=1) + strokes[:, 0]
    return int(np.sort(begins)[len(begins) // 2 :].mean())


def _in_the_middle(row: Area, shape: tuple[int, ...]) -> bool:
    (height, width), edge = shape[:2], (1 - MIDDLE) / 2
    return (
        row.top > edge * height
        and row.bottom < (1 - edge) * height
        and row.left > edge * width
        and row.right < (1 - edge) * width
    )


def _separation(values: np.ndarray) -> float:
    """Return Otsu's criterion (IEEE Trans. SMC 9:62, 1979): largest share of the variance between two groups, 0…1."""
    counts = np.bincount(values.astype(np.uint8).ravel(), minlength=256).astype(np.float64)
    share = counts / counts.sum()
    low = share.cumsum()
    mean = (share * np.arange(256)).cumsum()
    variance = (share * np.arange(256) ** 2).sum() - mean[-1] ** 2
    inner = low * (1 - low)
    between = np.where(inner > 1e-9, (mean[-1] * low - mean) ** 2 / np.maximum(inner, 1e-9), 0)
    return float(between.max() / variance) if variance > 1 else 0.0


def _union(a: Area, b: Area) -> Area:
    return Area(min(a.top, b.top), min(a.left, b.left), max(a.bottom, b.bottom), max(a.right, b.right))


def _merged(areas: list[Area]) -> list[Area]:
    """Return the areas with a margin, overlapping ones merged."""
    left = [_wider(area) for area in areas]
    done: list[Area] = []
    while left:
        area = left.pop()
        touching = [other for other in left + done if _same(area, other)]
        if touching:
            left = [other for other in left if other not in touching]
            done = [other for other in done if other not in touching]
            for other in touching:
                area = _union(area, other)
            left.append(area)
        else:
            done.append(area)
    return sorted(done, key=lambda a: (a.top, a.left))


def _wider(area: Area) -> Area:
    margin = 2 + (area.bottom - area.top) // 4
    return Area(max(area.top - margin, 0), max(area.left - margin, 0), area.bottom + margin, area.right + margin)


def _same(a: Area, b: Area) -> bool:
    """Return whether two areas overlap so that one rectangle for both covers little else."""
    overlap = a.top < b.bottom and b.top < a.bottom and a.left < b.right and b.left < a.right
    return overlap and _size(_union(a, b)) <= 1.2 * (_size(a) + _size(b))


def _size(area: Area) -> int:
    return (area.bottom - area.top) * (area.right - area.left)

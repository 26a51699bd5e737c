"""Place the names of structures on a plane of a picture. Pure geometry: no glossary, no scene, no views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.findings import Segmentation
from .touching import is_container

STEP = 4
"""Distance in pixels of the places that are looked at."""

LEAST = 8
"""Smallest number of such places that a structure with a name covers."""


@dataclass(frozen=True)
class Anchor:
    """Where a structure lies on a plane.

    Args:
        label: of the segment.
        x: pixels from the left edge.
        y: pixels from the lower edge.
        size: number of places, `STEP` pixels apart, that it covers.
    """

    label: str
    x: float
    y: float
    size: int


class NamedVoxels:
    """Which structure each voxel belongs to; where several do, the smallest.

    Args:
        segmentation: the segments; those that contain others, such as the head, are left out.
    """

    def __init__(self, segmentation: Segmentation):
        kept = [s for s in segmentation.segments if not is_container(s.label)]
        kept.sort(key=lambda segment: -int(segment.boxed.inside.sum()))
        self.labels = tuple(segment.label for segment in kept[:255])
        self.geometry = segmentation.geometry
        self._numbers = np.zeros(segmentation.geometry.shape, np.uint8)
        for number, segment in enumerate(kept[:255], start=1):
            mask = segment.boxed
            box = tuple(slice(a, a + n) for a, n in zip(mask.start, mask.inside.shape, strict=True))
            self._numbers[box][mask.inside] = number

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return (…,) the number of the structure at each position, 0 for none.

        Args:
            points: (…, 3) R, A, S in mm.
        """
        index = np.floor(self.geometry.to_index(points) + 0.5).astype(int)
        inside = ((index >= 0) & (index < np.array(self._numbers.shape))).all(axis=-1)
        index[~inside] = 0
        return np.where(inside, self._numbers[tuple(np.moveaxis(index, -1, 0))], 0)

    def anchors(self, to_world: np.ndarray, width: int, height: int) -> list[Anchor]:
        """Return where each structure lies on a plane, the largest first.

        Args:
            to_world: 4×4, pixel (x, y, 0, 1) from the lower left corner → (R, A, S, 1) in mm.
            width: of the picture in pixels.
            height: of the picture in pixels.
        """
        x, y = np.meshgrid(np.arange(STEP / 2, width, STEP), np.arange(STEP / 2, height, STEP), indexing="ij")
        pixels = np.stack([x, y, np.zeros_like(x), np.ones_like(x)], axis=-1).reshape(-1, 4)
        numbers = self.at((pixels @ np.asarray(to_world, float).T)[:, :3])
        found = []
        for number in np.unique(numbers[numbers > 0]):
            places = pixels[numbers == number, :2]
            if len(places) >= LEAST:
                middle = places[np.abs(places - places.mean(axis=0)).sum(axis=1).argmin()]  # inside, also of a ring
                found.append(Anchor(self.labels[number - 1], float(middle[0]), float(middle[1]), len(places)))
        return sorted(found, key=lambda anchor: -anchor.size)


def stacked(wanted: Sequence[float], heights: Sequence[float], room: float) -> list[float]:
    """Return the tops of boxes one below the other, each near where it is wanted, without overlap.

    Args:
        wanted: top of each box, ascending.
        heights: of the boxes, with the space between them; together at most `room`.
        room: height of the column.
    """
    tops: list[float] = []
    for top, before in zip(wanted, [0.0, *heights], strict=False):
        tops.append(max(top, tops[-1] + before if tops else 0.0))
    lowest = float(room)
    for n in range(len(tops) - 1, -1, -1):
        tops[n] = max(0.0, min(tops[n], lowest - heights[n]))
        lowest = tops[n]
    return tops

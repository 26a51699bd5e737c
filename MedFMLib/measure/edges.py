"""Tell whether an outline is cut by the edge of the image: by a face of the grid, or by padding that some programs add.

A grid's first and last voxels are its edge. Where an image was resampled or padded, voxels of one constant value fill the rest of
the grid, and the edge lies between; such an edge is flat, whereas a brain without its skull also ends at constant voxels, but is
round. Depends on grids and masks only.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from ..core.findings import Segment
from ..core.geometry import Geometry
from ..core.image import Image

CONTACT_SHARE = 0.05
"""A structure is cut if this share of its largest section across an axis lies on the edge; less is the tip of one that ends."""

LEAST_CONTACT = 2
"""Voxels on the edge from which a structure is cut."""

LINES = 128
"""Largest number of lines along either side that are followed to the padding."""

LEAST_LINES, LINE_SHARE = 20, 0.1
"""Number of lines that must end at padding, and their share of a structure's lines in that direction."""

FLAT = 0.75
"""Distance from a plane (root mean square), in voxels, up to which padding ends flat."""

_PADDING: WeakKeyDictionary[Image, _Padding | None] = WeakKeyDictionary()


def is_cut(
    segment: Segment, geometry: Geometry, image: Image | None = None, within: Sequence[slice] | None = None
) -> bool:
    """Return whether the structure may extend beyond what was imaged, or examined.

    Args:
        segment: at least one voxel set.
        geometry: grid of its mask.
        image: on that grid, in which padding is looked for; None if only the grid counts.
        within: three slices, the part of the grid that was examined; all by default.
    """
    start, inside = segment.boxed.start, segment.boxed.inside
    for axis in (0, 1) if geometry.is_picture else (0, 1, 2):
        low, high = (within[axis].start or 0, within[axis].stop) if within else (0, geometry.shape[axis])
        if high - low == 1:
            return True  # one slice of it
        if start[axis] > low and start[axis] + inside.shape[axis] < high:
            continue
        sections = inside.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.int64)
        touching = max(
            sections[0] if start[axis] <= low else 0, sections[-1] if start[axis] + len(sections) >= high else 0
        )
        if touching >= max(LEAST_CONTACT, CONTACT_SHARE * sections.max()) or inside.size == 1:
            return True
    padding = _padding_of(image) if image is not None and not geometry.is_picture else None
    return padding is not None and padding.cuts(segment, geometry)


def _padding_of(image: Image) -> _Padding | None:
    """Return the padding of an image, None if its corners show none; looked for once."""
    if image not in _PADDING:
        _PADDING[image] = _Padding.of(image)
    return _PADDING[image]


class _Padding:
    """Number of voxels of one value before the first and after the last other voxel, along lines in six directions.

    Args:
        values: (I, J, K).
        value: of the padding.
    """

    def __init__(self, values: np.ndarray, value):
        self.steps = [max(1, n // LINES) for n in values.shape]
        self.first, self.last = [], []
        for axis in range(3):
            lines = values[tuple(slice(None) if a == axis else slice(None, None, s) for a, s in enumerate(self.steps))]
            solid = np.moveaxis(lines != value, axis, 0)
            n, empty = len(solid), ~solid.any(axis=0)
            self.first.append(np.where(empty, n, solid.argmax(axis=0)))
            self.last.append(np.where(empty, -1, n - 1 - solid[::-1].argmax(axis=0)))

    @classmethod
    def of(cls, image: Image) -> _Padding | None:
        if image.voxels.shape[0] != 1 or min(image.geometry.shape) < 8:
            return None
        values = image.scalars
        corners = [values[i, j, k] for i in _ENDS for j in _ENDS for k in _ENDS]
        flat = [block.flat[0] for block in corners if block.min() == block.max()]
        if not flat:
            return None
        found, counts = np.unique(flat, return_counts=True)
        return cls(values, found[counts.argmax()])

    def cuts(self, segment: Segment, geometry: Geometry) -> bool:
        """Return whether a flat part of the structure's border lies on the padding."""
        start, inside = segment.boxed.start, segment.boxed.inside
        for axis in range(3):
            others = [a for a in range(3) if a != axis]
            offsets = {a: -start[a] % self.steps[a] for a in others}
            lines = inside[
                tuple(slice(None) if a == axis else slice(offsets[a], None, self.steps[a]) for a in range(3))
            ]
            lines = np.moveaxis(lines, axis, 0)
            there = np.argwhere(lines.any(axis=0))
            if len(there) < LEAST_LINES:
                continue
            rows, columns = there.T
            place = tuple(
                (start[a] + offsets[a]) // self.steps[a] + n for a, n in zip(others, (rows, columns), strict=True)
            )
            low = start[axis] + lines.argmax(axis=0)[rows, columns]
            high = start[axis] + len(lines) - 1 - lines[::-1].argmax(axis=0)[rows, columns]
            size = geometry.shape[axis]
            at_start = (self.first[axis][place] >= low - 1) & (low >= 3)
            at_end = (self.last[axis][place] <= high + 1) & (high < size - 3)
            for chosen, ends in ((at_start, low), (at_end, high)):
                if np.count_nonzero(chosen) < max(LEAST_LINES, LINE_SHARE * len(there)):
                    continue
                index = np.empty((np.count_nonzero(chosen), 3))
                index[:, axis] = ends[chosen]
                for a, n in zip(others, (rows, columns), strict=True):
                    index[:, a] = start[a] + offsets[a] + n[chosen] * self.steps[a]
                centred = index - index.mean(axis=0)
                rough = np.sqrt(max(np.linalg.eigvalsh(centred.T @ centred / len(centred))[0], 0.0))
                if rough < FLAT:
                    return True
        return False


_ENDS = (slice(0, 3), slice(-3, None))

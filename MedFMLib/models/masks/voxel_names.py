"""Assign each voxel of a volume to its most probable part, interpolated from probabilities on a coarser grid.

Knows probabilities and grids; nothing of pictures or models. Linear interpolation keeps the order of probabilities
where it is the same at all eight corners, so that a part can be the most probable only next to a corner where it
exceeds "none of them". Only the box around such corners is interpolated, and only the excess over "none": one
interpolation for each part, none for the rest of the volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...core.geometry import Geometry, mask_box
from .resampling import index_box, sample

LEAST_CHANCE = 0.02
"""A part less probable than this is not assigned, even if nothing is more probable."""

Box = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class BoxScores:
    """Probabilities of parts in a box.

    The axes run Left, Posterior, Inferior, as do the rows and columns of radiological pictures, so that nothing needs
    to be flipped.

    Args:
        chances: (parts, X, Y, Z) float16.
        geometry: grid of the probabilities.
    """

    chances: torch.Tensor
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class NamedVoxels:
    """Parts of all voxels.

    Args:
        parts: (I, J, K) uint8 numbers of parts, 0 for none.
        boxes: for each part a box that contains all its voxels.
    """

    parts: np.ndarray
    boxes: dict[int, Box]

    def structure(self, numbers: Sequence[int]) -> tuple[Box, np.ndarray] | None:
        """Return (box, (i, j, k) bool inside it) of the union of some parts; None if none of them is present."""
        boxes = [self.boxes[number] for number in numbers if number in self.boxes]
        if not boxes:
            return None
        box = hull(boxes)
        inside = self.parts[box] == numbers[0]
        for number in numbers[1:]:
            inside |= self.parts[box] == number
        return box, inside

    def on_axes(self, order: Sequence[int], flips: Sequence[bool]) -> NamedVoxels:
        """Return the parts on an image's original axes.

        Args:
            order: axis n was axis order[n] of the image.
            flips: whether axis n was flipped after that.
        """
        back = np.argsort(order)
        turn = tuple(slice(None, None, -1 if flip else None) for flip in flips)
        shape = self.parts.shape
        boxes = {
            number: tuple(slice(shape[a] - box[a].stop, shape[a] - box[a].start) if flips[a] else box[a] for a in back)
            for number, box in self.boxes.items()
        }
        return NamedVoxels(self.parts[turn].transpose(back), boxes)


def hull(boxes: Sequence[Box]) -> Box:
    """Return the smallest box that contains all boxes."""
    return tuple(slice(min(s.start for s in along), max(s.stop for s in along)) for along in zip(*boxes, strict=True))


def name(looked: BoxScores, geometry: Geometry, numbers: Sequence[int], on_fraction, order: str = "C") -> NamedVoxels:
    """Return the most probable of `numbers` at every voxel of `geometry`.

    Args:
        looked: the probabilities.
        geometry: grid of the result.
        numbers: one for each channel of the probabilities; the first is 0, none of the others.
        on_fraction: receives 0…1.
        order: memory order of the voxels, "C" or "F" as in numpy.
    """
    named = np.zeros(geometry.shape, np.uint8, order=order)
    names = torch.from_numpy(named)
    matrix = np.linalg.inv(looked.geometry.affine) @ geometry.affine
    none = looked.chances[0].clamp(min=LEAST_CHANCE)
    least = none.view(torch.int16)  # non-negative floats compare like their bits
    boxes: dict[int, Box] = {}
    earlier: list[tuple[Box, torch.Tensor]] = []
    for position, number in enumerate(numbers[1:], start=1):
        chances = looked.chances[position]
        found = _where((chances.view(torch.int16) > least).numpy(), looked.geometry, geometry)
        if found is not None:
            corners, box = found
            shift, back = np.eye(4), np.eye(4)
            shift[:3, 3] = [s.start for s in box]
            back[:3, 3] = [-s.start for s in corners]
            excess = _in_order(chances[corners].float() - none[corners].float(), order)
            excess = sample(excess, back @ matrix @ shift, tuple(s.stop - s.start for s in box))
            likeliest = excess > 0
            for other, more in earlier:
                if both := _common(box, other):
                    mine, theirs = _inside(both, box), _inside(both, other)
                    likeliest[mine] &= excess[mine] > more[theirs]
            names[box].masked_fill_(likeliest, int(number))
            earlier.append((box, excess))
            boxes[int(number)] = box
        on_fraction(position / len(numbers))
    on_fraction(1.0)
    return NamedVoxels(named, boxes)


def _common(one: Box, other: Box) -> Box | None:
    """Return the intersection of two boxes; None if it is empty."""
    box = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return box if all(along.start < along.stop for along in box) else None


def _inside(box: Box, around: Box) -> Box:
    """Return a box relative to the start of one that contains it."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, around, strict=True))


def _where(there: np.ndarray, source: Geometry, target: Geometry) -> tuple[Box, Box] | None:
    """Return (box of the source with a margin of one voxel, box of the target) around true voxels, or None."""
    if not there.any():
        return None
    box = mask_box(there)
    first = np.array([max(0, s.start - 1) for s in box])
    stop = np.array([min(n, s.stop + 1) for s, n in zip(box, there.shape, strict=True)])
    # a voxel at the edge also represents the half voxel beyond it, which no other voxel covers
    near = np.maximum([s.start - 1.0 for s in box], -0.5)
    far = np.minimum([float(s.stop) for s in box], np.array(there.shape) - 0.5)
    low, high = index_box(source, near, far, target)
    if (high <= low).any():
        return None
    return tuple(map(slice, first, stop)), tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _in_order(array: torch.Tensor, order: str) -> torch.Tensor:
    """Return the array in C or F memory order."""
    return array.contiguous() if order == "C" else array.permute(2, 1, 0).contiguous().permute(2, 1, 0)


def rename(
    named: NamedVoxels, looked: BoxScores, geometry: Geometry, numbers: Sequence[int], world: np.ndarray
) -> NamedVoxels:
    """Return the parts with the voxels inside a (2, 3) RAS mm box assigned anew; the array is changed in place.

    Args:
        named: parts so far.
        looked: probabilities of a finer pass.
        geometry: grid of the parts.
        numbers: see `name`.
        world: (2, 3) RAS mm, corners of the box.
    """
    again = name(looked, geometry, numbers, lambda _: None)
    corners = [[world[(corner >> axis) & 1, axis] for axis in range(3)] for corner in range(8)]
    index = geometry.to_index(np.array(corners))
    low, stop = np.floor(index.min(0)).astype(int), np.ceil(index.max(0)).astype(int) + 1
    where = tuple(
        slice(max(0, int(a)), min(n, max(0, int(b)))) for a, b, n in zip(low, stop, geometry.shape, strict=True)
    )
    i, j, k = np.ogrid[where]
    inside = np.ones(named.parts[where].shape, bool)
    for axis in range(3):
        a, b, c, d = geometry.affine[axis].astype(np.float32)
        along = a * i + b * j + (c * k + d)
        inside &= (along >= world[0, axis]) & (along <= world[1, axis])
    np.copyto(named.parts[where], again.parts[where], where=inside)
    boxes = {n: hull([b[n] for b in (named.boxes, again.boxes) if n in b]) for n in {*named.boxes, *again.boxes}}
    return NamedVoxels(named.parts, boxes)

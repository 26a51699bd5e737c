"""Which part each voxel of a volume belongs to, read between the voxels of a coarser grid on which the parts' chances stand.

Knows chances and grids; nothing of pictures or models. Chances read linearly between voxels keep their order where it is the
same at all eight corners, so that a part can be the likeliest only beside a corner where it exceeds "none of them". It is read
in the box around such corners alone, as what it exceeds that by: one reading for each part, none for the rest of the volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...core.geometry import Geometry, mask_box
from .resampling import index_box, sample

LEAST_CHANCE = 0.02
"""What is less likely than this has no name, even if nothing is likelier."""

Box = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class BoxScores:
    """What was seen of a box: `chances` (parts, X, Y, Z) float16 on `geometry`, whose axes run Left, Posterior, Inferior.

    So do the rows and columns of radiological pictures: nothing need be flipped.
    """

    chances: torch.Tensor
    geometry: Geometry


@dataclass(frozen=True, eq=False)
class NamedVoxels:
    """(I, J, K) uint8 numbers of parts, 0 where it is none, and for each part a box outside of which it is nowhere."""

    parts: np.ndarray
    boxes: dict[int, Box]

    def structure(self, numbers: Sequence[int]) -> tuple[Box, np.ndarray] | None:
        """(box, (i, j, k) bool inside it) of the union of some parts; None if there can be none of them."""
        boxes = [self.boxes[number] for number in numbers if number in self.boxes]
        if not boxes:
            return None
        box = hull(boxes)
        inside = self.parts[box] == numbers[0]
        for number in numbers[1:]:
            inside |= self.parts[box] == number
        return box, inside

    def on_axes(self, order: Sequence[int], flips: Sequence[bool]) -> NamedVoxels:
        """The same where axis n was axis order[n] of an image, and then was flipped if flips[n]: back on the image's axes."""
        back = np.argsort(order)
        turn = tuple(slice(None, None, -1 if flip else None) for flip in flips)
        shape = self.parts.shape
        boxes = {
            number: tuple(slice(shape[a] - box[a].stop, shape[a] - box[a].start) if flips[a] else box[a] for a in back)
            for number, box in self.boxes.items()
        }
        return NamedVoxels(self.parts[turn].transpose(back), boxes)


def hull(boxes: Sequence[Box]) -> Box:
    """The smallest box around boxes."""
    return tuple(slice(min(s.start for s in along), max(s.stop for s in along)) for along in zip(*boxes, strict=True))


def name(looked: BoxScores, geometry: Geometry, numbers: Sequence[int], on_fraction, order: str = "C") -> NamedVoxels:
    """Which of `numbers` is likeliest at every voxel of `geometry`.

    Args:
        numbers: one for each channel of the chances; the first stands for none of the others and is 0.
        on_fraction: told 0…1.
        order: of the voxels in memory, as numpy says it.
    """
    named = np.zeros(geometry.shape, np.uint8, order=order)
    names = torch.from_numpy(named)
    matrix = np.linalg.inv(looked.geometry.affine) @ geometry.affine
    none = looked.chances[0].clamp(min=LEAST_CHANCE)
    least = none.view(torch.int16)  # chances are no less than 0: their bits are in the order of what they mean
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
    """Where two boxes overlap, if they do."""
    box = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return box if all(along.start < along.stop for along in box) else None


def _inside(box: Box, around: Box) -> Box:
    """A box, counted from the start of one around it."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, around, strict=True))


def _where(there: np.ndarray, source: Geometry, target: Geometry) -> tuple[Box, Box] | None:
    """(box of the source with a voxel of margin, box of the target) around true voxels; None if there are none."""
    if not there.any():
        return None
    box = mask_box(there)
    first = np.array([max(0, s.start - 1) for s in box])
    stop = np.array([min(n, s.stop + 1) for s, n in zip(box, there.shape, strict=True)])
    # a place at the edge stands for half a step beyond it: nothing else looked at what lies there
    near = np.maximum([s.start - 1.0 for s in box], -0.5)
    far = np.minimum([float(s.stop) for s in box], np.array(there.shape) - 0.5)
    low, high = index_box(source, near, far, target)
    if (high <= low).any():
        return None
    return tuple(map(slice, first, stop)), tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def _in_order(array: torch.Tensor, order: str) -> torch.Tensor:
    """The same with its voxels in C or F order."""
    return array.contiguous() if order == "C" else array.permute(2, 1, 0).contiguous().permute(2, 1, 0)


def rename(
    named: NamedVoxels, looked: BoxScores, geometry: Geometry, numbers: Sequence[int], world: np.ndarray
) -> NamedVoxels:
    """The same with the voxels of `geometry` inside a (2, 3) RAS mm box named anew; the array is written into."""
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

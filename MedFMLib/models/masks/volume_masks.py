"""Segment a whole volume: along several planes, in up to three passes, combined in three dimensions.

Knows images, pictures and a function that segments pictures; nothing of architectures or files.

1. The volume is brought into RAS order and resampled on cubes along the *patient's* axes, so that oblique, flipped and
    anisotropic volumes look the same to the model.
2. A first pass over axial slices of the whole body finds what the head was trained for ("focus", e.g. the brain).
3. A second pass at a finer resolution uses every plane of the head; the probabilities of each part are averaged. A
    sagittal slice can't distinguish left from right: its probability of a pair is divided as the other planes see it
    there.
4. A third pass is finer still, around small structures, and is averaged with the second.
5. Each voxel of the volume gets its most probable part, interpolated between the cubes.

Averaging orthogonal planes: Roy et al., QuickNAT, NeuroImage 2019; Henschel et al., FastSurfer, NeuroImage 2020.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ...core.geometry import Geometry
from ...core.image import Image
from ...core.view import window_for
from .resampling import resample, sample
from .voxel_names import BoxScores, NamedVoxels, name, rename

PLANES = ("axial", "coronal", "sagittal")
FIRST_STEP_MM = 6.0
FIRST_MARGIN, MARGIN = 1.04, 1.12
"""Ratio of a picture's side to its content, in the first and in the second pass."""

LEAST_FOCUS_ML = 40.0
"""If the first pass finds less of the focus than this, the focus is absent."""

LEAST_CLOSE_ML = 0.5
"""The same for the parts of the third pass."""

AIR_HU = -300.0
BATCH = 16
Draw = Callable[[np.ndarray, slice, slice], torch.Tensor]
"""(B, S, S, 3) uint8 pictures, slices of their rows and columns → (B, parts, rows, columns) probabilities there."""


def name_voxels(image: Image, draw: Draw, size: int, head, wanted, on_fraction=lambda _: None) -> NamedVoxels:
    """Return the number of the most probable part at every voxel; 0 where no named part is.

    Args:
        image: scalar volume.
        draw: see `Draw`.
        size: side of the pictures, pixels.
        head: a `mask_head.MaskHead`, for the meaning of its parts.
        wanted: requested parts; if none of them can be present, later passes are skipped.
        on_fraction: receives 0…1; may raise to end the work.
    """
    volume, order, flips = ras_ordered(image)
    window = window_for(volume)
    box = body_box(volume)
    named_parts = {part for parts in head.structures.values() for part in parts}
    pairs, focus, planes = head.pairs, set(head.focus), head.planes
    keep = sorted(named_parts)

    def masks_by_name(pictures: np.ndarray, rows: slice, columns: slice) -> torch.Tensor:
        """Return float16 probabilities, in some rows and columns, of no named part and of each part of `keep`."""
        chances = draw(pictures, rows, columns)
        named = torch.empty((1 + len(keep), len(chances), *chances.shape[2:]), dtype=torch.float16)
        named[0] = 1 - _channels(chances, sorted(named_parts)).sum(1)
        named[1:] = _channels(chances, keep).transpose(0, 1)
        return named.transpose(0, 1)

    if focus:
        side = float((box[1] - box[0]).max() * FIRST_MARGIN)
        first = _look(volume, window, masks_by_name, size, box, side, ("axial",), FIRST_STEP_MM, (),
                      lambda f: on_fraction(0.08 * f))  # fmt: skip
        near = _focus_box(first, [1 + keep.index(part) for part in focus])
        box = box if near is None else near
        keep = sorted(focus if near is not None else named_parts - focus)
        if not set(wanted) & set(keep):
            return NamedVoxels(np.zeros(image.geometry.shape, np.uint8), {})
    side = float((box[1] - box[0])[: 3 if near_cube(box) else 2].max() * MARGIN)
    used = tuple(p for p in planes if p == "axial" or _fits(box, p, side))
    closer = [part for part in head.closer if part in keep and part in wanted]
    together = [(1 + keep.index(a), 1 + keep.index(b)) for a, b in pairs if a in keep and b in keep]
    looked = _look(
        volume, window, masks_by_name, size, box, side, used, 0.0, together, lambda f: on_fraction(0.08 + 0.8 * f)
    )
    strides = np.abs(volume.scalars.strides)
    named = name(
        looked,
        volume.geometry,
        (0, *keep),
        lambda f: on_fraction(0.5 + 0.05 * f if closer else 0.88 + 0.12 * f),
        "F" if strides[0] < strides[2] else "C",
    )
    if closer:
        near = _focus_box(looked, [1 + keep.index(part) for part in closer], LEAST_CLOSE_ML)
        if near is not None:
            side = float((near[1] - near[0]).max() * MARGIN)
            third = _look(
                volume,
                window,
                masks_by_name,
                size,
                near,
                side,
                planes,
                0.0,
                together,
                lambda f: on_fraction(0.55 + 0.35 * f),
            )
            _blend(third, looked)
            named = rename(named, third, volume.geometry, (0, *keep), near)
        on_fraction(1.0)
    return named.on_axes(order, flips)


def _channels(chances: torch.Tensor, numbers: list[int]) -> torch.Tensor:
    """Return (B, numbers, …) of (B, parts, …), without a copy if the numbers are consecutive."""
    first, last = numbers[0], numbers[-1]
    return chances[:, first : last + 1] if last - first + 1 == len(numbers) else chances[:, numbers]


def near_cube(box: np.ndarray) -> bool:
    """Return whether the longest edge of a (2, 3) box is less than twice its shortest."""
    extent = box[1] - box[0]
    return float(extent.max()) < 2.0 * float(extent.min())


def _fits(box: np.ndarray, plane: str, side: float) -> bool:
    """Return whether the box's section along a plane fits in a picture of `side` mm, and fills enough of it."""
    extent = np.delete(box[1] - box[0], PLANES[::-1].index(plane))
    return extent.max() <= side and extent.min() >= 0.4 * side


def ras_ordered(image: Image) -> tuple[Image, list[int], list[bool]]:
    """Return (the image with axes permuted and flipped to run nearest to Right, Anterior, Superior; order; flips)."""
    order = [image.geometry.world_axes.index(axis) for axis in range(3)]
    affine = image.geometry.affine[:, [*order, 3]].copy()
    voxels = image.scalars.transpose(order)
    flips = [bool(affine[axis, axis] < 0) for axis in range(3)]
    for axis in range(3):
        if flips[axis]:
            voxels = np.flip(voxels, axis)
            affine[:3, 3] += affine[:3, axis] * (voxels.shape[axis] - 1)
            affine[:3, axis] *= -1
    geometry = Geometry(voxels.shape, affine)
    if min(voxels.strides) < 0:
        voxels = voxels.copy(order="K")  # torch needs positive strides; "K" keeps the memory order
    return Image(voxels[None], geometry, image.modality, image.name), order, flips


def body_box(image: Image) -> np.ndarray:
    """Return (2, 3) RAS mm, the lowest and highest corner of the body without noise; the whole grid if all is air."""
    values = image.scalars
    step = [max(1, int(4.0 / s)) for s in image.geometry.spacing]
    small = values[:: step[0], :: step[1], :: step[2]].astype(np.float32)
    if image.modality == "CT":
        there = small > AIR_HU
    else:
        low, high = np.percentile(small, (1, 99.5))
        there = small > low + 0.08 * (high - low)
    spans = []
    for axis in range(3):
        profile = there.mean(axis=tuple(a for a in range(3) if a != axis))
        along = np.flatnonzero(profile > max(0.004, 0.01 * float(profile.max())))
        first, last = (along[0], along[-1]) if len(along) else (0, small.shape[axis] - 1)
        spans.append((max(0, (first - 1) * step[axis]), min(values.shape[axis] - 1, (last + 1) * step[axis])))
    corners = [[spans[axis][(corner >> axis) & 1] for axis in range(3)] for corner in range(8)]
    world = image.geometry.to_world(np.array(corners, float))
    return np.stack([world.min(0), world.max(0)])


def _blend(near: BoxScores, far: BoxScores) -> None:
    """Average the probabilities of a finer pass with those of the pass before it, in place."""
    matrix = np.linalg.inv(far.geometry.affine) @ near.geometry.affine
    for closer, farther in zip(near.chances, far.chances, strict=True):
        closer.add_(sample(farther.float().contiguous(), matrix, near.geometry.shape).half()).div_(2)


def _focus_box(looked: BoxScores, focus, least_ml: float = LEAST_FOCUS_ML) -> np.ndarray | None:
    """Return (2, 3) RAS mm around the focus without stray voxels; None if there is too little of it."""
    there = looked.chances[list(focus)].float().sum(0).numpy() > 0.5
    if there.sum() * looked.geometry.voxel_volume < least_ml * 1000:
        return None
    low, high = [], []
    for axis in range(3):
        along = there.sum(axis=tuple(a for a in range(3) if a != axis)).cumsum() / there.sum()
        low.append(int(np.searchsorted(along, 0.002)))
        high.append(int(np.searchsorted(along, 0.998)))
    pad = (
        np.array([0.0, 0.0, 0.5]) * looked.geometry.spacing
    )  # slices of the first pass represent the gaps between them
    corners = np.sort([looked.geometry.to_world(np.array(low)), looked.geometry.to_world(np.array(high))], axis=0)
    return np.stack([corners[0] - pad, corners[1] + pad])


def _look(volume: Image, window, draw: Draw, size: int, box, side: float, planes, step_mm: float, pairs,
          on_fraction) -> BoxScores:  # fmt: skip
    """Return the probabilities of parts in a box, from pictures of `side` mm along some planes.

    `step_mm` is the smallest distance of slices, 0 for that of the voxels or pixels; `pairs` are the channel numbers of
    parts that sagittal slices can't distinguish.
    """
    mm = side / size
    middle = (box[0] + box[1]) / 2
    extent = box[1] - box[0]
    shape = np.minimum(np.ceil(extent * 1.06 / mm).astype(int) + 2, size)
    shape[2] = int(np.ceil(extent[2] * 1.03 / mm)) + 1 if planes == ("axial",) else shape[2]
    through = np.abs(volume.geometry.affine[:3, :3]).max(1)  # mm between voxels along Right, Anterior, Superior, nearly
    spacing, strides = np.full(3, mm), {}
    if planes == ("axial",):
        spacing[2] = max(mm, step_mm, float(through[2]) * 0.99)
        shape[2] = max(1, int(np.ceil(extent[2] * 1.03 / spacing[2])))
    for plane in planes:
        axis = PLANES[::-1].index(plane)
        strides[plane] = max(1, int(through[axis] / spacing[axis] + 0.3))
    affine = np.diag([*-spacing, 1.0])
    affine[:3, 3] = middle + (shape - 1) / 2 * spacing
    grid = Geometry(tuple(int(n) for n in shape), affine)
    values = resample(volume.scalars, volume.geometry, grid, -1024.0 if volume.modality == "CT" else None)
    values = np.ascontiguousarray(values.T)  # (Z, Y, X): axial and coronal pictures are rows of it
    pictures = window.apply(values.reshape(len(values), -1)).reshape(*values.shape, 3)
    total = sum(len(range(0, grid.shape[PLANES[::-1].index(p)], strides[p])) for p in planes)
    done, sums, weight = 0, None, 0.0
    lone = None
    for plane in planes:
        axis = PLANES[::-1].index(plane)
        numbers = list(range(0, grid.shape[axis], strides[plane]))
        seen = None
        for start in range(0, len(numbers), BATCH):
            some = numbers[start : start + BATCH]
            sections = np.moveaxis(pictures, 2 - axis, 0)[some]
            chances = draw(*_squares(sections, size))
            if seen is None:
                seen = torch.empty((chances.shape[1], len(numbers), *chances.shape[2:]), dtype=torch.float16)
            seen[:, start : start + len(some)] = chances.transpose(0, 1)
            done += len(some)
            on_fraction(done / total)
        if strides[plane] > 1:
            seen = _between(seen, numbers, grid.shape[axis])
        seen = seen.movedim(1, 3 - axis).permute(0, 3, 2, 1)
        if plane == "sagittal" and pairs:
            lone = seen
        else:
            sums = seen if sums is None else sums.add_(seen)
            weight += 1.0
    if lone is not None:
        sums = _with_sagittal(sums, weight, lone, pairs)
    elif weight > 1:
        sums.div_(weight)
    return BoxScores(sums, grid)


def _with_sagittal(sums, weight: float, lone, pairs) -> torch.Tensor:
    """Return the mean over planes, the sagittal one without sides; `sums` is None if it is the only plane."""
    if sums is None:
        return lone
    for left, right in pairs:
        both = (lone[left] + lone[right]).float()
        a, b = sums[left].float(), sums[right].float()
        share = (a + 1e-4) / (a + b + 2e-4)
        lone[left], lone[right] = (both * share).half(), (both * (1 - share)).half()
    return sums.add_(lone).div_(weight + 1.0)


def _between(seen, numbers: list[int], count: int) -> torch.Tensor:
    """Interpolate (parts, n, rows, columns) at slices `numbers` linearly to (parts, count, rows, columns)."""
    position = np.interp(np.arange(count), numbers, np.arange(len(numbers)))
    away = np.abs(position[:, None] - np.arange(len(numbers)))
    weights = torch.from_numpy(np.maximum(0.0, 1.0 - away).astype(np.float32))
    filled = torch.empty((len(seen), count, *seen.shape[2:]), dtype=torch.float16)
    for part, known in enumerate(seen):
        filled[part] = torch.tensordot(weights, known.float(), 1)
    return filled


def _squares(sections: np.ndarray, size: int) -> tuple[np.ndarray, slice, slice]:
    """Return (n, S, S, 3) black squares with the (n, rows, columns, 3) uint8 sections in the middle; rows; columns."""
    count, rows, columns, _ = sections.shape
    where = [slice((size - length) // 2, (size - length) // 2 + length) for length in (rows, columns)]
    out = np.zeros((count, size, size, 3), np.uint8)
    out[:, where[0], where[1]] = sections
    return out, *where

"""Masks of a whole volume: looked at along several planes, twice, and put together in three dimensions.

Knows images, pictures and a function that names their pixels; nothing of architectures or files.

1. The volume is brought into RAS order and sampled on cubes of the *patient's* axes, so that oblique, flipped and
   anisotropic volumes look the same to the model.
2. A first look, at axial slices of the whole body, finds what the head is made for ("focus", e.g. the brain).
3. A second look goes closer, and along every plane of the head; the chances of each part are averaged. A sagittal slice
   can't tell left from right: what it says of a pair is shared out as the other planes see it there.
4. A third look goes closer still to small structures, and is averaged with the second.
5. Each voxel of the volume gets its likeliest part, read between the cubes.

Averaging orthogonal planes: Roy et al., QuickNAT, NeuroImage 2019; Henschel et al., FastSurfer, NeuroImage 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ...geometry import Geometry
from ...image import Image
from ...view import window_for

PLANES = ("axial", "coronal", "sagittal")
FIRST_STEP_MM = 6.0
FIRST_MARGIN, MARGIN = 1.04, 1.12
"""How much larger than its content a picture is, at the first and at the second look."""

LEAST_FOCUS_ML = 40.0
"""Less than this of the focus at the first look means that it isn't there."""

LEAST_CLOSE_ML = 0.5
"""The same for what is looked at a third time."""

AIR_HU = -300.0
BATCH = 16
CHUNK = 4_000_000
"""Voxels of the volume that are named at a time."""

Draw = Callable[[np.ndarray, slice, slice], torch.Tensor]
"""(B, S, S, 3) uint8 pictures, rows and columns of them → (B, parts, rows, columns) chances there."""


@dataclass(frozen=True, eq=False)
class Looked:
    """What was seen of a box: `chances` (parts, X, Y, Z) float16 on `geometry`, whose axes run Left, Posterior, Inferior.

    So do the rows and columns of radiological pictures: nothing need be flipped.
    """

    chances: torch.Tensor
    geometry: Geometry


def name_voxels(image: Image, draw: Draw, size: int, head, wanted, on_fraction=lambda _: None) -> np.ndarray:
    """(I, J, K) uint8 number of the likeliest part at every voxel; 0 where it is none that has a name.

    Args:
        draw: see `Draw`. size: pixels along a picture's side.
        head: a `mask_head.MaskHead`, for what its parts mean.
        wanted: parts that are asked for; if none of them can be there, nothing more is looked at.
        on_fraction: told 0…1; may raise to end the work.
    """
    volume, order, flips = _in_ras_order(image)
    window = window_for(volume)
    box = body_box(volume)
    named_parts = {part for parts in head.structures.values() for part in parts}
    nameless = [part for part in range(head.parts) if part not in named_parts]
    pairs, focus, planes = head.pairs, set(head.focus), head.planes
    keep = sorted(named_parts)

    def draw_named(pictures: np.ndarray, rows: slice, columns: slice) -> torch.Tensor:
        """float16 chances, in some rows and columns, of no named part at all and then of each part of `keep`."""
        chances = draw(pictures, rows, columns)
        named = torch.empty((len(chances), 1 + len(keep), *chances.shape[2:]), dtype=torch.float16)
        named[:, 0] = chances[:, nameless].sum(1)
        for position, part in enumerate(keep, start=1):
            named[:, position] = chances[:, part]
        return named

    if focus:
        side = float((box[1] - box[0]).max() * FIRST_MARGIN)
        first = _look(volume, window, draw_named, size, box, side, ("axial",), FIRST_STEP_MM, (),
                      lambda f: on_fraction(0.08 * f))  # fmt: skip
        near = _focus_box(first, [1 + keep.index(part) for part in focus])
        box = box if near is None else near
        keep = sorted(focus if near is not None else named_parts - focus)
        if not set(wanted) & set(keep):
            return np.zeros(image.geometry.shape, np.uint8)
    side = float((box[1] - box[0])[: 3 if near_cube(box) else 2].max() * MARGIN)
    used = tuple(p for p in planes if p == "axial" or _fits(box, p, side))
    closer = [part for part in head.closer if part in keep and part in wanted]
    together = [(1 + keep.index(a), 1 + keep.index(b)) for a, b in pairs if a in keep and b in keep]
    looked = _look(
        volume, window, draw_named, size, box, side, used, 0.0, together, lambda f: on_fraction(0.08 + 0.8 * f)
    )
    named = _name(
        looked, volume.geometry, (0, *keep), lambda f: on_fraction(0.5 + 0.05 * f if closer else 0.88 + 0.12 * f)
    )
    if closer:
        near = _focus_box(looked, [1 + keep.index(part) for part in closer], LEAST_CLOSE_ML)
        if near is not None:
            side = float((near[1] - near[0]).max() * MARGIN)
            third = _look(
                volume,
                window,
                draw_named,
                size,
                near,
                side,
                planes,
                0.0,
                together,
                lambda f: on_fraction(0.55 + 0.35 * f),
            )
            _blend(third, looked)
            _rename(named, third, volume.geometry, (0, *keep), near)
        on_fraction(1.0)
    for axis in range(3):
        if flips[axis]:
            named = np.flip(named, axis)
    return np.ascontiguousarray(named.transpose(np.argsort(order)))


def near_cube(box: np.ndarray) -> bool:
    """Is the longest edge of a (2, 3) box less than twice its shortest?"""
    extent = box[1] - box[0]
    return float(extent.max()) < 2.0 * float(extent.min())


def _fits(box: np.ndarray, plane: str, side: float) -> bool:
    """Does the box's section along a plane fill a picture of `side` mm well enough, and fit in it?"""
    extent = np.delete(box[1] - box[0], PLANES[::-1].index(plane))
    return extent.max() <= side and extent.min() >= 0.4 * side


def _in_ras_order(image: Image) -> tuple[Image, list[int], list[bool]]:
    """(the image with its axes permuted and flipped to run nearest to Right, Anterior, Superior; the order; the flips)."""
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
    return Image(np.ascontiguousarray(voxels)[None], geometry, image.modality, image.name), order, flips


def body_box(image: Image) -> np.ndarray:
    """(2, 3) RAS mm: lowest and highest corner of what isn't air, noise left aside; the whole grid if all is air."""
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


def _blend(near: Looked, far: Looked) -> None:
    """Average a closer look with what the one before it said of the same places, in place."""
    matrix = np.linalg.inv(far.geometry.affine) @ near.geometry.affine
    for closer, farther in zip(near.chances, far.chances, strict=True):
        closer.add_(_sample(farther.float().contiguous(), matrix, near.geometry.shape).half()).div_(2)


def _rename(named: np.ndarray, looked: Looked, geometry: Geometry, numbers, box: np.ndarray) -> None:
    """Name the voxels of `geometry` inside a (2, 3) RAS mm box anew, in place."""
    again = _name(looked, geometry, numbers, lambda _: None)
    corners = [[box[(corner >> axis) & 1, axis] for axis in range(3)] for corner in range(8)]
    index = geometry.to_index(np.array(corners))
    low, stop = np.floor(index.min(0)).astype(int), np.ceil(index.max(0)).astype(int) + 1
    where = tuple(slice(max(0, int(a)), min(n, max(0, int(b)))) for a, b, n in zip(low, stop, named.shape, strict=True))
    i, j, k = np.ogrid[where]
    inside = np.ones(named[where].shape, bool)
    for axis in range(3):
        a, b, c, d = geometry.affine[axis].astype(np.float32)
        along = a * i + b * j + (c * k + d)
        inside &= (along >= box[0, axis]) & (along <= box[1, axis])
    named[where] = np.where(inside, again[where], named[where])


def _focus_box(looked: Looked, focus, least_ml: float = LEAST_FOCUS_ML) -> np.ndarray | None:
    """(2, 3) RAS mm around the focus, stray voxels left aside; None if there is too little of it."""
    there = looked.chances[list(focus)].float().sum(0).numpy() > 0.5
    if there.sum() * looked.geometry.voxel_volume < least_ml * 1000:
        return None
    low, high = [], []
    for axis in range(3):
        along = there.sum(axis=tuple(a for a in range(3) if a != axis)).cumsum() / there.sum()
        low.append(int(np.searchsorted(along, 0.002)))
        high.append(int(np.searchsorted(along, 0.998)))
    pad = np.array([0.0, 0.0, 0.5]) * looked.geometry.spacing  # slices of the first look stand for what lies between
    corners = np.sort([looked.geometry.to_world(np.array(low)), looked.geometry.to_world(np.array(high))], axis=0)
    return np.stack([corners[0] - pad, corners[1] + pad])


def _look(volume: Image, window, draw: Draw, size: int, box, side: float, planes, step_mm: float, pairs,
          on_fraction) -> Looked:  # fmt: skip
    """Chances of parts in a box, from pictures of `side` mm along some planes.

    Args:
        step_mm: at most so far apart are slices; 0: as near as the voxels are, or the pixels.
        pairs: positions, among the parts, of those that sagittal slices can't tell apart.
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
    return Looked(sums, grid)


def _with_sagittal(sums, weight: float, lone, pairs) -> torch.Tensor:
    """Mean over planes, the sagittal one without sides; `sums` may be None if it is the only plane."""
    if sums is None:
        return lone
    for left, right in pairs:
        both = (lone[left] + lone[right]).float()
        a, b = sums[left].float(), sums[right].float()
        share = (a + 1e-4) / (a + b + 2e-4)
        lone[left], lone[right] = (both * share).half(), (both * (1 - share)).half()
    return sums.add_(lone).div_(weight + 1.0)


def _between(seen, numbers: list[int], count: int) -> torch.Tensor:
    """(parts, n, rows, columns) at `numbers` → (parts, count, rows, columns), linear between and constant beyond."""
    position = np.interp(np.arange(count), numbers, np.arange(len(numbers)))
    away = np.abs(position[:, None] - np.arange(len(numbers)))
    weights = torch.from_numpy(np.maximum(0.0, 1.0 - away).astype(np.float32))
    filled = torch.empty((len(seen), count, *seen.shape[2:]), dtype=torch.float16)
    for part, known in enumerate(seen):
        filled[part] = torch.tensordot(weights, known.float(), 1)
    return filled


def _squares(sections: np.ndarray, size: int) -> tuple[np.ndarray, slice, slice]:
    """(n, rows, columns, 3) uint8 → (n, S, S, 3) with them in the middle of black squares; the rows and columns there."""
    count, rows, columns, _ = sections.shape
    where = [slice((size - length) // 2, (size - length) // 2 + length) for length in (rows, columns)]
    out = np.zeros((count, size, size, 3), np.uint8)
    out[:, where[0], where[1]] = sections
    return out, *where


def resample(values: np.ndarray, source: Geometry, target: Geometry, outside: float | None = None) -> np.ndarray:
    """float32 values at the target's voxels, linear between the source's; averaged first where the target is coarser.

    Args:
        values: (I, J, K) on `source`.
        outside: value beyond the source; None for its least value.
    """
    array = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
    outside = float(array.min()) if outside is None else outside
    ratio = [max(1, int(min(target.spacing) / s + 0.25)) for s in source.spacing]
    affine = source.affine
    if max(ratio) > 1:
        array = torch.nn.functional.avg_pool3d(array[None, None], ratio, ratio, ceil_mode=True)[0, 0]
        affine = affine.copy()
        affine[:3, 3] += affine[:3, :3] @ ((np.array(ratio) - 1) / 2)
        affine[:3, :3] = affine[:3, :3] * ratio
    matrix = np.linalg.inv(affine) @ target.affine  # target index → source index
    return _sample(array - outside, matrix, target.shape).numpy() + outside


def _sample(array: torch.Tensor, matrix: np.ndarray, shape) -> torch.Tensor:
    """(I, J, K) float32 at `matrix` @ (target index), 0 beyond; trilinear."""
    shear = np.abs(matrix[:3, :3] - np.diag(np.diag(matrix[:3, :3]))) * np.array(shape)
    if (
        shear.max() < 1e-4
    ):  # voxels: the axes are parallel, so that each can be read by itself, as a product of matrices
        for axis in np.argsort([n / m for n, m in zip(shape, array.shape, strict=True)]):
            weights = _between_voxels(array.shape[axis], shape[axis], matrix[axis, axis], matrix[axis, 3])
            if axis == 0:
                array = (weights @ array.reshape(len(array), -1)).view(-1, *array.shape[1:])
            else:
                array = torch.matmul(weights, array) if axis == 1 else torch.matmul(array, weights.T)
        return array
    out = torch.empty(tuple(shape), dtype=torch.float32)
    last = np.maximum(1, np.array(array.shape) - 1)
    scale = torch.from_numpy((matrix[:3] / last[:, None] * 2).astype(np.float32))
    i, j, k = (torch.arange(n, dtype=torch.float32) for n in shape)
    step = max(1, CHUNK // max(1, shape[1] * shape[2]))
    for start in range(0, shape[0], step):
        some = i[start : start + step]
        place = torch.empty((1, len(some), *shape[1:], 3))
        for axis in range(3):
            a, b, c, d = scale[axis]
            place[0, ..., 2 - axis] = (a * some + (d - 1))[:, None, None] + (b * j)[:, None] + c * k
        sampled = torch.nn.functional.grid_sample(array[None, None], place, align_corners=True, padding_mode="zeros")
        out[start : start + step] = sampled[0, 0]
    return out


def _between_voxels(source: int, target: int, scale: float, shift: float) -> torch.Tensor:
    """(target, source) weights that read a line of voxels at `scale` · n + `shift`, linear between, 0 beyond."""
    place = np.arange(target) * scale + shift
    away = np.abs(place[:, None] - np.arange(source))
    return torch.from_numpy(np.maximum(0.0, 1.0 - away).astype(np.float32))


def _name(looked: Looked, geometry: Geometry, numbers, on_fraction) -> np.ndarray:
    """(I, J, K) uint8: which of `numbers` (one for each channel) is likeliest at every voxel of `geometry`."""
    named = np.zeros(geometry.shape, np.uint8)
    matrix = np.linalg.inv(looked.geometry.affine) @ geometry.affine
    low, high = _index_box(looked.geometry, np.zeros(3), np.array(looked.geometry.shape) - 1, geometry)
    if (high <= low).any():
        return named
    best = torch.full(tuple(high - low), 0.02)
    which = torch.zeros(tuple(high - low), dtype=torch.uint8)
    for position, number in enumerate(numbers):
        chances = looked.chances[position]
        there = chances > 0.04
        if not bool(there.any()):
            continue
        spans = [there.any(dim=tuple(a for a in range(3) if a != axis)).nonzero()[:, 0] for axis in range(3)]
        first = np.array([max(0, int(s[0]) - 1) for s in spans])
        stop = np.array([min(n, int(s[-1]) + 2) for s, n in zip(spans, chances.shape, strict=True)])
        a, b = _index_box(looked.geometry, first, stop - 1, geometry)
        a, b = np.maximum(a, low), np.minimum(b, high)
        if (b <= a).any():
            continue
        shift = np.eye(4)
        shift[:3, 3] = a
        back = np.eye(4)
        back[:3, 3] = -first
        part = chances[tuple(slice(f, s) for f, s in zip(first, stop, strict=True))].float().contiguous()
        sampled = _sample(part, back @ matrix @ shift, tuple(b - a))
        where = tuple(slice(f, s) for f, s in zip(a - low, b - low, strict=True))
        better = sampled > best[where]
        best[where] = torch.where(better, sampled, best[where])
        which[where] = torch.where(better, torch.tensor(int(number), dtype=torch.uint8), which[where])
        on_fraction((position + 1) / len(numbers))
    named[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = which.numpy()
    return named


def _index_box(source: Geometry, first, last, target: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """(low, stop) indices of `target` that cover the index box first…last (inclusive) of `source`."""
    corners = [[(first, last)[(corner >> axis) & 1][axis] for axis in range(3)] for corner in range(8)]
    index = target.to_index(source.to_world(np.array(corners, float)))
    low = np.clip(np.floor(index.min(0)).astype(int), 0, target.shape)
    stop = np.clip(np.ceil(index.max(0)).astype(int) + 1, 0, target.shape)
    return low, stop

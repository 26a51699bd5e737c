"""Values of one grid read at the voxels of another: averaged where that is coarser, linear between.

Knows grids and arrays, either order in memory; nothing of pictures or parts.
"""

from __future__ import annotations

import numpy as np
import torch

from ...core.geometry import Geometry

CHUNK = 4_000_000
"""Voxels that are read at a time where the axes of two grids are not parallel."""

READ_AS_THEY_ARE = ("uint8", "int8", "int16", "int32", "float32")
"""Types of voxels that torch adds to float32 without a copy of the whole volume."""


def resample(values: np.ndarray, source: Geometry, target: Geometry, outside: float | None = None) -> np.ndarray:
    """float32 values at the target's voxels, linear between the source's; averaged first where the target is coarser.

    Args:
        values: (I, J, K) on `source`.
        outside: value beyond the source; None for its least value.
    """
    outside = float(values.min()) if outside is None else outside
    ratio = [max(1, int(min(target.spacing) / s + 0.25)) for s in source.spacing]
    affine = source.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((np.array(ratio) - 1) / 2)
    affine[:3, :3] = affine[:3, :3] * ratio
    matrix = np.linalg.inv(affine) @ target.affine  # target index → source index
    return sample(block_means(values, ratio).sub_(outside), matrix, target.shape, hold=True).numpy() + outside


def block_means(values: np.ndarray, ratio) -> torch.Tensor:
    """(I, J, K) → float32 means of blocks of `ratio` voxels, at the end of an axis of those that are left; a copy.

    The axis that lies farthest apart in memory goes first: whole planes are added, and what is left is smaller.
    """
    if values.dtype.name not in READ_AS_THEY_ARE or min(values.strides) < 0:
        values = values.astype(np.float32)
    order = sorted(range(3), key=lambda axis: -values.strides[axis])
    array = torch.from_numpy(values).permute(order)
    for axis in range(3):
        step = ratio[order[axis]]
        if step > 1:
            count = array.shape[axis]
            sums = torch.empty([-(-n // step) if a == axis else n for a, n in enumerate(array.shape)])
            for offset in range(min(step, count)):
                some = array.movedim(axis, 0)[offset::step]
                into = sums.movedim(axis, 0)[: len(some)]
                into.copy_(some) if offset == 0 else into.add_(some)
            if count % step:
                sums.movedim(axis, 0)[-1] *= step / (count % step)
            array = sums
    means = array.float() / float(np.prod(ratio)) if max(ratio) > 1 else array.to(torch.float32, copy=True)
    return means.permute(*np.argsort(order))


def sample(array: torch.Tensor, matrix: np.ndarray, shape, hold: bool = False) -> torch.Tensor:
    """(I, J, K) float32 at `matrix` @ (target index), 0 beyond; trilinear. The result keeps the array's order in memory.

    Args:
        hold: voxels at an edge hold their value for the half step beyond their middle that is theirs, in place of fading.
    """
    if array.stride(0) < array.stride(2):
        back = [2, 1, 0, 3]
        return sample(array.permute(2, 1, 0), matrix[back][:, back], tuple(shape)[::-1], hold).permute(2, 1, 0)
    shear = np.abs(matrix[:3, :3] - np.diag(np.diag(matrix[:3, :3]))) * np.array(shape)
    if shear.max() < 1e-4:  # voxels: the axes are parallel, so that each is read by itself
        for axis in np.argsort([n / m for n, m in zip(shape, array.shape, strict=True)]):
            array = _read_axis(array, int(axis), shape[axis], matrix[axis, axis], matrix[axis, 3], hold)
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
            along = (a * some + (d - 1))[:, None, None] + (b * j)[:, None] + c * k
            if hold:  # half a voxel is 1 / last here
                theirs = along.abs() <= 1 + 1 / float(last[axis])
                along = torch.where(theirs, along.clamp(-1, 1), along)
            place[0, ..., 2 - axis] = along
        sampled = torch.nn.functional.grid_sample(array[None, None], place, align_corners=True, padding_mode="zeros")
        out[start : start + step] = sampled[0, 0]
    return out


def index_box(source: Geometry, first, last, target: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """(low, stop) indices of `target` that cover the index box first…last (inclusive) of `source`."""
    corners = [[(first, last)[(corner >> axis) & 1][axis] for axis in range(3)] for corner in range(8)]
    index = target.to_index(source.to_world(np.array(corners, float)))
    low = np.clip(np.floor(index.min(0)).astype(int), 0, target.shape)
    stop = np.clip(np.ceil(index.max(0)).astype(int) + 1, 0, target.shape)
    return low, stop


def _read_axis(array: torch.Tensor, axis: int, count: int, scale: float, shift: float, hold: bool) -> torch.Tensor:
    """An (I, J, K) array read along one axis at `scale` · n + `shift` for n in 0…count − 1, linear between, 0 beyond."""
    place = np.arange(count) * scale + shift
    length = array.shape[axis]
    if hold:
        place = np.where((place >= -0.5) & (place <= length - 0.5), place.clip(0, length - 1), place)
    if axis == 2:  # neighbours in memory: a product of matrices takes half the time
        away = np.abs(place[:, None] - np.arange(length))
        return torch.matmul(array, torch.from_numpy(np.maximum(0.0, 1.0 - away).astype(np.float32)).T)
    below = np.floor(place).astype(int)
    read = None
    for line, weight in ((below, below + 1 - place), (below + 1, place - below)):
        weight = torch.from_numpy(np.where((line >= 0) & (line < length), weight, 0.0).astype(np.float32))
        weight = weight.view(-1, 1, 1) if axis == 0 else weight.view(-1, 1)
        lines = array.index_select(axis, torch.from_numpy(np.clip(line, 0, length - 1)))
        read = lines.mul_(weight) if read is None else read.addcmul_(lines, weight)
    return read

"""Resample values of one grid at the voxels of another: averaged where that is coarser, linear between voxels.

Knows grids and arrays, in either memory order; nothing of pictures or parts.
"""

from __future__ import annotations

import numpy as np
import torch

from ...core.geometry import Geometry

CHUNK = 4_000_000
"""Number of voxels that are resampled at a time if the axes of the two grids are not parallel."""

READ_AS_THEY_ARE = ("uint8", "int8", "int16", "int32", "float32")
"""Types of voxels that torch adds to float32 without a copy of the whole volume."""


def resample(values: np.ndarray, source: Geometry, target: Geometry, outside: float | None = None) -> np.ndarray:
    """Return float32 values at the target's voxels, interpolated linearly.

    Where the target is coarser, the values are averaged first.

    Args:
        values: (I, J, K) on `source`.
        source: grid of the values.
        target: grid of the result.
        outside: value beyond the source; the smallest value if None.
    """
    outside = float(values.min()) if outside is None else outside
    ratio = [max(1, int(min(target.spacing) / s + 0.25)) for s in source.spacing]
    affine = source.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((np.array(ratio) - 1) / 2)
    affine[:3, :3] = affine[:3, :3] * ratio
    matrix = np.linalg.inv(affine) @ target.affine  # target index → source index
    return sample(block_means(values, ratio).sub_(outside), matrix, target.shape, hold=True).numpy() + outside


def block_means(values: np.ndarray, ratio) -> torch.Tensor:
    """Return the float32 means of blocks of an (I, J, K) array; a block at the end of an axis may be smaller.

    The axis with the largest stride in memory is averaged first: whole planes are added, and the remaining array is
    smaller.

    Args:
        values: (I, J, K).
        ratio: (3,) voxels per block along each axis.
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
    """Return float32 values at `matrix` @ (target index), trilinear, 0 outside; the memory order is the array's.

    Args:
        array: (I, J, K) float32.
        matrix: (4, 4) target index → source index.
        shape: (3,) of the target.
        hold: voxels at an edge keep their value for the half voxel beyond their centre, instead of fading to 0.
    """
    if array.stride(0) < array.stride(2):
        back = [2, 1, 0, 3]
        return sample(array.permute(2, 1, 0), matrix[back][:, back], tuple(shape)[::-1], hold).permute(2, 1, 0)
    shear = np.abs(matrix[:3, :3] - np.diag(np.diag(matrix[:3, :3]))) * np.array(shape)
    if shear.max() < 1e-4:  # voxels: the axes are parallel, so that each is resampled separately
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
    """Return (low, stop) indices of `target` that cover the index box first…last (inclusive) of `source`.

    Args:
        source: grid of the box.
        first: (3,) first index.
        last: (3,) last index.
        target: grid of the result.
    """
    corners = [[(first, last)[(corner >> axis) & 1][axis] for axis in range(3)] for corner in range(8)]
    index = target.to_index(source.to_world(np.array(corners, float)))
    low = np.clip(np.floor(index.min(0)).astype(int), 0, target.shape)
    stop = np.clip(np.ceil(index.max(0)).astype(int) + 1, 0, target.shape)
    return low, stop


def _read_axis(array: torch.Tensor, axis: int, count: int, scale: float, shift: float, hold: bool) -> torch.Tensor:
    """Resample an (I, J, K) array along one axis at `scale` · n + `shift`, n in 0…count − 1, linearly, 0 outside."""
    place = np.arange(count) * scale + shift
    length = array.shape[axis]
    if hold:
        place = np.where((place >= -0.5) & (place <= length - 0.5), place.clip(0, length - 1), place)
    if axis == 2:  # contiguous in memory: a matrix product takes half the time
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

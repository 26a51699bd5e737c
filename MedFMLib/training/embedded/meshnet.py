"""Run MeshNet "subcortical" (MIT, 0.2 million parameters): a published baseline of the embedded model, and its teacher.

    net = MeshNet(pretrained / "subcortical")
    classes = net.segment(image)          # (I, J, K) numbers of `CLASSES` on the image's grid
    parts = teacher_parts(image, net)     # (I, J, K) part numbers with sides, UNKNOWN_PART where it isn't certain

Knows the network's input (T1, 1 mm, array axes L, I, A, intensities between the 2 and 98 % quantiles scaled to 0…1),
its
classes and their relation to the parts here; not the embedded model. MeshNet doesn't distinguish left from right:
`teacher_parts` derives sides from a midsagittal plane, about which the predicted structures are as symmetric as
possible.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ...core.geometry import Geometry
from ...core.image import Image
from . import labels

CLASSES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("", ()),
    ("cerebral white matter", (2, 41, 77, 251, 252, 253, 254, 255)),
    ("cerebral cortex", (3, 42)),
    ("lateral ventricle", (4, 43)),
    ("lateral ventricle", (5, 44)),
    ("cerebellum", (7, 46)),
    ("cerebellum", (8, 47)),
    ("thalamus", (10, 49)),
    ("caudate", (11, 50)),
    ("putamen", (12, 51)),
    ("pallidum", (13, 52)),
    ("third ventricle", (14,)),
    ("fourth ventricle", (15,)),
    ("brainstem", (16,)),
    ("hippocampus", (17, 53)),
    ("amygdala", (18, 54)),
    ("accumbens", (26, 58)),
    ("ventral diencephalon", (28, 60)),
)
"""Class number → (part name without its side, FreeSurfer values that the class was trained on)."""

MERGED = tuple(dict.fromkeys(name for name, _ in CLASSES if name))
"""The 15 structures that MeshNet and the embedded model share once sides are merged."""

FOLDER = "subcortical"
_MARGIN = 12
_ROWS = 24


class MeshNet:
    """The network with its weights.

    Args:
        folder: has `model.json` and `model.safetensors`.
    """

    def __init__(self, folder: Path):
        import torch
        from safetensors.torch import load_file

        weights = load_file(str(Path(folder) / "model.safetensors"))
        layers = json.loads((Path(folder) / "model.json").read_text())["layers"]
        self._layers = [
            (
                weights[f"model.{2 * n}.weight"].to(memory_format=torch.channels_last_3d),
                weights[f"model.{2 * n}.bias"],
                int(layer["dilation"]) if layer["kernel_size"] > 1 else 0,
            )
            for n, layer in enumerate(layers)
        ]

    def segment(self, image: Image) -> np.ndarray:
        """Return the (I, J, K) uint8 class numbers on the image's grid."""
        voxels, grid = conformed(image)
        return _to_grid(self.classes(voxels), grid, image.geometry)

    def classes(self, voxels: np.ndarray) -> np.ndarray:
        """Return the uint8 class numbers of (L, I, A) float32 at 1 mm in 0…1.

        Outside the head's box everything is class 0.
        """
        import torch

        box = _head_box(voxels)
        x = torch.from_numpy(np.ascontiguousarray(voxels[box])).float()[None, None]
        x = x.contiguous(memory_format=torch.channels_last_3d)
        with torch.inference_mode():
            for weight, bias, dilation in self._layers[:-1]:
                x = _by_slabs(x, weight, bias, dilation)
            weight, bias, _ = self._layers[-1]
            found = [
                torch.nn.functional.conv3d(part, weight, bias).argmax(1)[0].to(torch.uint8)
                for part in x.split(_ROWS, dim=2)
            ]
        result = np.zeros(voxels.shape, np.uint8)
        result[box] = torch.cat(found).numpy()
        return result


def _by_slabs(x, weight, bias, dilation: int):
    """Compute one layer with its ELU a few rows at a time, so that memory holds at most the values of two layers."""
    import torch
    from torch.nn import functional

    n = x.shape[2]
    out = torch.empty((1, len(bias), *x.shape[2:]), memory_format=torch.channels_last_3d)
    for start in range(0, n, _ROWS):
        stop = min(n, start + _ROWS)
        low, high = max(0, start - dilation), min(n, stop + dilation)
        before, after = dilation - (start - low), dilation - (high - stop)
        slab = functional.pad(x[:, :, low:high], (0, 0, 0, 0, before, after))
        slab = slab.contiguous(memory_format=torch.channels_last_3d)
        slab = functional.conv3d(slab, weight, bias, padding=(0, dilation, dilation), dilation=max(1, dilation))
        out[:, :, start:stop] = functional.elu_(slab)
    return out


def _head_box(voxels: np.ndarray) -> tuple[slice, slice, slice]:
    """Return the box of everything brighter than air, with a margin; the network skips the rest."""
    bright = voxels > 0.1
    box = []
    for axis in range(3):
        counts = bright.sum(axis=tuple(a for a in range(3) if a != axis))
        along = np.flatnonzero(counts > 0.002 * bright[0].size)
        first, last = (along[0], along[-1] + 1) if len(along) else (0, voxels.shape[axis])
        box.append(slice(max(0, first - _MARGIN), min(voxels.shape[axis], last + _MARGIN)))
    return tuple(box)


# -- grids ---------------------------------------------------------------------------------------


def conformed(image: Image) -> tuple[np.ndarray, Geometry]:
    """Return ((L, I, A) float32 in 0…1 at 1 mm, its grid): the image in the network's input format.

    A grid that already has 1 mm voxels along the patient's axes is only permuted and flipped; any other is sampled
    linearly.
    """
    geometry = image.geometry
    corners = geometry.corners()
    low, high = corners.min(0) - geometry.spacing.max() / 2, corners.max(0) + geometry.spacing.max() / 2
    if np.allclose(geometry.spacing, 1, atol=0.02) and np.allclose(np.abs(geometry.directions).max(0), 1, atol=1e-3):
        low, high = corners.min(0) - 0.5, corners.max(0) + 0.5
    x, y, z = np.maximum(1, np.rint(high - low)).astype(int)
    affine = np.zeros((4, 4))
    affine[:, 0], affine[:, 1], affine[:, 2] = (-1, 0, 0, 0), (0, 0, -1, 0), (0, 1, 0, 0)
    affine[:, 3] = (high[0] - 0.5, low[1] + 0.5, high[2] - 0.5, 1)
    grid = Geometry((x, z, y), affine)
    voxels = _resampled(image.scalars.astype(np.float32), geometry, grid, linear=True)
    bottom, top = np.quantile(voxels[::2, ::2, ::2], (0.02, 0.98))
    return np.clip((voxels - bottom) / max(float(top - bottom), 1e-6), 0, 1).astype(np.float32), grid


def _to_grid(classes: np.ndarray, source: Geometry, target: Geometry) -> np.ndarray:
    return _resampled(classes, source, target, linear=False)


def _resampled(array: np.ndarray, source: Geometry, target: Geometry, linear: bool) -> np.ndarray:
    """Return (I, J, K) of one grid on another; 0 outside."""
    from scipy import ndimage

    matrix = np.linalg.inv(source.affine) @ target.affine
    order = 1 if linear else 0
    return ndimage.affine_transform(array, matrix[:3, :3], matrix[:3, 3], target.shape, order=order, mode="constant")


# -- classes and parts ----------------------------------------------------------------------------


def merged_mask(classes: np.ndarray, name: str) -> np.ndarray:
    """Return bool: where MeshNet found a structure.

    Args:
        classes: class numbers.
        name: one of `MERGED`.
    """
    return np.array([name == own for own, _ in CLASSES])[classes]


def merged_parts(name: str) -> tuple[str, ...]:
    """Return the parts of one of `MERGED`: both sides, or the single one."""
    return (name,) if name in labels.PARTS else (f"left {name}", f"right {name}")


# -- teacher -------------------------------------------------------------------------------------


def teacher_parts(image: Image, net: MeshNet) -> np.ndarray:
    """Return the (I, J, K) uint8 part numbers of an unlabelled T1, on its own grid.

    The network processes the volume and its left–right mirror image; a voxel keeps its class where both agree, and is
    `labels.UNKNOWN_PART` where they don't, in brain tissue apart from the largest component, and in structures with a
    side nearer
    than 1 mm to the midsagittal plane. Outside the brain, air is background and everything else head tissue.

    Args:
        image: T1.
        net: the network.
    """
    from scipy import ndimage

    voxels, grid = conformed(image)
    classes = net.classes(voxels)
    agreed = classes == net.classes(np.ascontiguousarray(voxels[::-1]))[::-1]
    islands, count = ndimage.label(classes > 0)
    if count:
        brain = islands == 1 + int(np.argmax(np.bincount(islands.ravel())[1:]))
        agreed &= brain | (classes == 0)
    parts = _with_sides(classes, _midsagittal_distance(np.where(agreed, classes, 0)))
    head = ndimage.binary_fill_holes(ndimage.binary_closing(voxels > 0.1, iterations=2))
    parts[(classes == 0) & head] = labels.part_number("head tissue")
    parts[~agreed] = labels.UNKNOWN_PART
    return _to_grid(parts, grid, image.geometry)


def _with_sides(classes: np.ndarray, distance: np.ndarray) -> np.ndarray:
    parts = np.zeros(classes.shape, np.uint8)
    for number, (name, _) in enumerate(CLASSES):
        if not name:
            continue
        there = classes == number
        if name in labels.PARTS:
            parts[there] = labels.part_number(name)
            continue
        parts[there & (distance > 0)] = labels.part_number(f"left {name}")
        parts[there & (distance <= 0)] = labels.part_number(f"right {name}")
        parts[there & (np.abs(distance) < 1)] = labels.UNKNOWN_PART
    return parts


def _midsagittal_distance(classes: np.ndarray) -> np.ndarray:
    """Return the (L, I, A) float32 signed distance in mm from the plane of best left–right symmetry of the brain's classes.

    It is positive on the patient's left, where the first index grows.
    """
    from scipy import ndimage, optimize

    points = np.argwhere(classes > 0)
    if not len(points):
        return np.ones(classes.shape, np.float32)
    middle = points.mean(0)
    points = points[:: max(1, len(points) // 40_000)].astype(float)
    own = classes[tuple(points.astype(int).T)]

    def plane(turns: np.ndarray) -> tuple[np.ndarray, float]:
        normal = np.array([1.0, turns[1] / 50, turns[2] / 50])
        return normal / np.linalg.norm(normal), turns[0]

    def disagreement(turns: np.ndarray) -> float:
        normal, offset = plane(turns)
        mirrored = points - 2 * ((points - middle) @ normal - offset)[:, None] * normal
        return -float(np.mean(ndimage.map_coordinates(classes, mirrored.T, order=0) == own))

    start = np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3]], float)
    found = optimize.minimize(disagreement, start[0], method="Nelder-Mead",
                              options={"initial_simplex": start, "xatol": 0.05, "fatol": 1e-5, "maxiter": 200})  # fmt: skip
    normal, offset = plane(found.x)
    axes = np.ogrid[tuple(slice(n) for n in classes.shape)]
    distance = sum((axis - m) * n for axis, m, n in zip(axes, middle, normal, strict=True)) - offset
    return np.broadcast_to(distance, classes.shape).astype(np.float32)

"""Place the labels of one grid on another: the one rule for files, scenes and training data. Knows no files.

Two grids *fit* if the axes of one run along the axes of the other, in any order and direction, and each voxel of the
image is exactly one voxel of the labels, or a block of a whole number of them. Then no voxel changes by placing it.
Other grids are resampled only if that is asked for, since borders and volumes change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import permutations

import numpy as np

from ...core.geometry import Geometry, mask_box
from ...errors import InputError

ALIGNED = 0.02
"""Largest misfit of two grids, in voxels of the image, that is always accepted; headers hold rounded numbers."""

ALIGNED_MM = 0.1
"""Largest misfit in mm that is accepted where it is also less than `ALIGNED_FRACTION` of a voxel. GE writes the positions
of MR slices to 0.1 mm, which moves a corner by up to 0.09 mm, and a quaternion in single precision (NIfTI's qform) turns
a grid by up to 6e-4 rad if it is close to half a turn, 0.1 mm at a distance of 170 mm."""

ALIGNED_FRACTION = 0.1

ADVICE = "give the image that it was made on, or resample it with --resample (in Python resample=True)."

SLAB = 1 << 22
"""Voxels that are resampled at a time."""


@dataclass(frozen=True, eq=False)
class Fit:
    """How the axes of a label grid run along those of an image's grid.

    *Fine* indices count the label voxels along the image's axes: there are `factors` of them in each image voxel.

    Args:
        axes: (3,) axis of the labels that runs along each axis of the image.
        signs: (3,) 1 if both grow in the same direction, else −1.
        factors: (3,) label voxels in one image voxel along each axis of the image.
        start: (3,) fine index of the first label voxel.
        misfit: largest distance between a label voxel and where it is placed, in voxels of the image.
        misfit_mm: the same in mm.
    """

    axes: tuple[int, int, int]
    signs: tuple[int, int, int]
    factors: tuple[int, int, int]
    start: tuple[int, int, int]
    misfit: float
    misfit_mm: float

    @property
    def aligned(self) -> bool:
        """Whether labels can be placed without moving them by more than headers are rounded."""
        return self.misfit <= ALIGNED or (self.misfit <= ALIGNED_FRACTION and self.misfit_mm <= ALIGNED_MM)


@dataclass(frozen=True, eq=False)
class Placed:
    """Labels on a part of an image's grid.

    Args:
        start: (3,) index of the part's first voxel in the image.
        labels: (i, j, k) values.
        outside: number of labelled voxels, of the label grid, that lie outside of the image and were cut off.
        mixed: number of image voxels with several values, of which the most frequent was taken.
        resampled: whether the grids don't fit, so that each image voxel got the value of the nearest label voxel.
    """

    start: tuple[int, int, int]
    labels: np.ndarray = field(repr=False)
    outside: int = 0
    mixed: int = 0
    resampled: bool = False

    @property
    def lossless(self) -> bool:
        """Whether every labelled voxel is where it was."""
        return not (self.outside or self.mixed or self.resampled)


def place_labels(
    labels: np.ndarray, own: Geometry, geometry: Geometry, subject: str, advice: str = ADVICE, *, resample: bool = False
) -> Placed:
    """Place labels on the grid of an image.

    Args:
        labels: (I, J, K) bool or numbers; 0 is no label.
        own: their grid.
        geometry: the image's grid.
        subject: what they are, for the error message, e.g. "'labels.nii.gz'".
        advice: next step, for the error message; by default to give the right image or to resample.
        resample: take the nearest label voxel on grids that don't fit, the most frequent value of a block with several,
            and cut off what lies outside; otherwise these are errors.

    Raises:
        InputError: if something would be lost and `resample` is false.
    """
    fit = fit_grids(own, geometry)
    if fit.aligned:
        placed = _exactly(labels, fit, geometry)
    elif resample:
        placed = _nearest(labels, own, geometry)
    else:
        raise InputError(
            f"{subject} lies on another grid than the image, by up to {fit.misfit_mm:.3g} mm; {advice} (Its grid: {own}; the "
            f"image's: {geometry}.)"
        )
    if not resample:
        refuse_loss([placed], own, geometry, subject, advice)
    return placed


def refuse_loss(parts: Sequence[Placed], own: Geometry, geometry: Geometry, subject: str, advice: str = ADVICE) -> None:
    """Raise an error if voxels were cut off, or several labels share an image voxel.

    Args:
        parts: placed labels.
        own: the grid that they were placed from; one of them, of several.
        geometry: the image's grid.
        subject: as in `place_labels`.
        advice: as in `place_labels`.

    Raises:
        InputError: with the number of voxels.
    """
    outside, mixed = sum(part.outside for part in parts), sum(part.mixed for part in parts)
    if outside:
        volume = outside * own.voxel_volume / 1000
        raise InputError(
            f"{subject} has {outside} labelled voxels ({volume:.3g} mL) outside of the image, which would be cut off; {advice}"
        )
    if mixed:
        factors = "×".join(map(str, fit_grids(own, geometry).factors))
        raise InputError(
            f"{subject} is finer than the image ({factors} voxels in one), and {mixed} voxels of the image hold several labels; "
            f"{advice}"
        )


@lru_cache(maxsize=1024)
def fit_grids(own: Geometry, geometry: Geometry) -> Fit:
    """Return how the axes of a label grid run along those of an image's grid, and how far they are from fitting.

    Args:
        own: the grid of the labels.
        geometry: the grid of the image.
    """
    to_image = np.linalg.inv(geometry.affine) @ own.affine
    weight = np.abs(to_image[:3, :3]) * geometry.spacing[:, None] / own.spacing
    axes = max(permutations(range(3)), key=lambda p: sum(weight[a, p[a]] for a in range(3)))
    sizes = np.array([own.shape[c] for c in axes])
    steps = np.array([to_image[a, axes[a]] for a in range(3)])
    signs = np.where(steps < 0, -1, 1)
    with np.errstate(divide="ignore"):
        factors = np.maximum(1, np.rint(np.minimum(1 / np.abs(steps), 1e6))).astype(int)
    factors[sizes == 1] = 1  # one slice has its place, but its thickness is not that of a voxel
    to_fine = to_image.copy()
    to_fine[:3] *= factors[:, None]
    to_fine[:3, 3] += (factors - 1) / 2
    turn = np.zeros((3, 3))
    turn[range(3), axes] = signs
    middle = (np.array(own.shape) - 1) / 2
    offset = np.rint(to_fine[:3, :3] @ middle + to_fine[:3, 3] - turn @ middle)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in own.shape], indexing="ij")).reshape(3, -1)
    apart = (to_fine[:3, :3] @ corners + to_fine[:3, 3:] - turn @ corners - offset[:, None]) / factors[:, None]
    start = np.where(signs > 0, offset, offset - sizes + 1).astype(int)
    return Fit(
        axes, tuple(signs.tolist()), tuple(factors.tolist()), tuple(start.tolist()), float(np.abs(apart).max()),
        float(np.linalg.norm(geometry.affine[:3, :3] @ apart, axis=0).max()),
    )  # fmt: skip


def _exactly(labels: np.ndarray, fit: Fit, geometry: Geometry) -> Placed:
    """Place labels on a grid that fits."""
    turned = labels.transpose(fit.axes)[tuple(slice(None, None, sign) for sign in fit.signs)]
    start, factors = np.array(fit.start), np.array(fit.factors)
    low = np.clip(start, 0, factors * geometry.shape)
    high = np.clip(start + turned.shape, low, factors * geometry.shape)
    kept = turned[tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))]
    outside = 0 if kept.size == turned.size else int(np.count_nonzero(turned) - np.count_nonzero(kept))
    if not kept.size:
        return Placed((0, 0, 0), np.zeros((1, 1, 1), labels.dtype), outside)
    if (factors == 1).all():
        return Placed(tuple(low.tolist()), kept, outside)
    first = low // factors
    count = -(-high // factors) - first
    around = [
        (int(a - f * c), int((c + n) * f - b)) for a, b, c, n, f in zip(low, high, first, count, factors, strict=True)
    ]
    blocks = np.pad(kept, around).reshape([size for pair in zip(count, factors, strict=True) for size in pair])
    blocks = blocks.transpose(0, 2, 4, 1, 3, 5).reshape(*count, -1)
    values = blocks[..., 0].copy()
    mixed = (blocks != blocks[..., :1]).any(axis=-1)
    values[mixed] = _most_frequent(blocks[mixed])
    return Placed(tuple(first.tolist()), values, outside, int(mixed.sum()))


def _most_frequent(blocks: np.ndarray) -> np.ndarray:
    """Return the most frequent value of each row of (n, m); the smallest of several, so that a tie is no label."""
    values = np.unique(blocks)
    best, most = np.zeros(len(blocks), blocks.dtype), np.zeros(len(blocks), int)
    for value in values:
        count = (blocks == value).sum(axis=1)
        best[count > most] = value
        most = np.maximum(most, count)
    return best


def _nearest(labels: np.ndarray, own: Geometry, geometry: Geometry) -> Placed:
    """Give each image voxel the value of the label voxel in which its centre lies."""
    box = mask_box(labels != 0)
    ends = np.array(np.meshgrid(*[(s.start - 0.5, s.stop - 0.5) for s in box], indexing="ij")).reshape(3, -1).T
    index = geometry.to_index(own.to_world(ends))
    low = np.clip(np.floor(index.min(axis=0)).astype(int), 0, geometry.shape)
    high = np.clip(np.ceil(index.max(axis=0)).astype(int) + 1, low, geometry.shape)
    if (high == low).any():
        return Placed((0, 0, 0), np.zeros((1, 1, 1), labels.dtype), int(np.count_nonzero(labels)), resampled=True)
    found = np.zeros(high - low, labels.dtype)
    to_own = np.linalg.inv(own.affine) @ geometry.affine
    i, j = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]), indexing="ij")
    step = max(1, SLAB // i.size)
    for k in range(low[2], high[2], step):
        deep = np.arange(k, min(k + step, high[2]))
        at = [np.floor(row[0] * i[..., None] + row[1] * j[..., None] + row[2] * deep + row[3] + 0.5).astype(int)
              for row in to_own[:3]]  # fmt: skip
        inside = np.logical_and.reduce([(a >= 0) & (a < n) for a, n in zip(at, labels.shape, strict=True)])
        slab = found[:, :, k - low[2] : k - low[2] + len(deep)]
        slab[inside] = labels[tuple(a[inside] for a in at)]
    return Placed(tuple(low.tolist()), found, resampled=True)

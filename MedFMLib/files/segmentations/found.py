"""Collect segments as a file describes them, and make a `Segmentation` of them. Knows no file format.

A segment's identity is its place in the file, never its name: two segments of one name stay two.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...core.findings import Code, Segment, Segmentation
from ...core.geometry import BoxedMask, Geometry
from ...core.terminology import structure
from ...errors import InputError
from .placing import ALIGNED, Placed, fit_grids, place_labels

THRESHOLD = 0.5
PLACEHOLDERS = (("SCT", "85756007"), ("SRT", "T-D0050"))
"""“Tissue”, which 3D Slicer gives to every new segment, so that it says nothing about a segment with a known name."""

SHOWN = 5
"""Segments whose loss is listed one by one."""

Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class FoundSegment:
    """A segment of a file, placed on the image's grid.

    Args:
        name: as in the file.
        mask: on the image's grid.
        volume: mm³ in the file, before it was placed.
        voxels: number of its voxels in the file.
        color: red, green, blue, 0…1; None if the file has none.
        category: coded property category; None if the file has none.
        code: coded property type; None if the file has none.
        side: code that modifies the type, such as a laterality; None if the file has none.
        origin: how it was made, one of `ORIGINS`; "" if unknown.
        lossless: whether placing it changed no voxel.
    """

    name: str
    mask: BoxedMask
    volume: float
    voxels: int
    color: tuple[float, float, float] | None = None
    category: Code | None = None
    code: Code | None = None
    side: Code | None = None
    origin: str = ""
    lossless: bool = True


ORIGINS = ("MANUAL", "SEMIAUTOMATIC", "AUTOMATIC")
"""Segment Algorithm Type of DICOM (0062,0008)."""


@dataclass(frozen=True, eq=False)
class Target:
    """What the labels of a file are placed on, and how.

    Args:
        geometry: the image's grid.
        resample: see `place_labels`.
        threshold: smallest value, 0…1, at which a voxel of a probability map belongs to the segment; None for
            `THRESHOLD` where the file says that its values are fractions, and an error where it doesn't.
        names: value → name of label maps, which win over those of files.
        tell: receives notes.
    """

    geometry: Geometry
    resample: bool = False
    threshold: float | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    tell: Tell = field(default=warnings.warn, repr=False)

    def place(self, labels: np.ndarray, own: Geometry, subject: str) -> Placed:
        """Place labels.

        Args:
            labels: (I, J, K) values.
            own: their grid.
            subject: what they are, in messages.

        Raises:
            InputError: as `place_labels`.
        """
        return place_labels(labels, own, self.geometry, subject, resample=self.resample)

    def note(self, placed: Sequence[Placed], own: Geometry, subject: str) -> None:
        """Tell, once for all parts of a file, how its grid differs from the image's.

        Args:
            placed: the parts.
            own: their grid; of several, the one that fits worst.
            subject: what they are, in messages.
        """
        fit = fit_grids(own, self.geometry)
        if any(part.resampled for part in placed):
            self.tell(
                f"{subject} lies on another grid than the image ({own}); each voxel of the image got the nearest label."
            )
        elif placed and fit.misfit > ALIGNED:
            self.tell(
                f"{subject} lies {fit.misfit_mm:.2g} mm off the image's voxels, as rounded headers do; it was put on them."
            )
        sizes = tuple(own.shape[axis] for axis in fit.axes)
        if placed and fit.aligned and sizes == self.geometry.shape and any(fit.start):
            apart = float(np.linalg.norm(self.geometry.affine[:3, :3] @ fit.start))
            self.tell(
                f"{subject} has the image's size, but lies {apart:.3g} mm beside it; it was placed by its position."
            )

    def empty(self) -> BoxedMask:
        """Return a mask without a voxel on the image's grid."""
        return BoxedMask(self.geometry.shape, (0, 0, 0), np.zeros((1, 1, 1), bool))

    def mask(self, placed: Placed, inside: np.ndarray) -> BoxedMask:
        """Return a mask of placed labels on the image's grid.

        Args:
            placed: the labels.
            inside: (i, j, k) bool, of their shape.
        """
        return BoxedMask.of(inside, self.geometry.shape, placed.start)


def make_segmentation(found: Iterable[FoundSegment], target: Target, shown: str) -> Segmentation:
    """Return the segments that have voxels, with codes, sides and colours by name where the file has none.

    Args:
        found: the segments of a file, in its order.
        target: receives notes on segments that are empty or lost voxels.
        shown: name of the file, in messages.

    Raises:
        InputError: if no segment has a voxel.
    """
    kept, empty, lost = [], [], []
    for item in found:
        count = int(np.count_nonzero(item.mask.inside))
        after = count * target.geometry.voxel_volume
        if not item.lossless and not np.isclose(after, item.volume, rtol=1e-4, atol=1e-3):
            lost.append((abs(after - item.volume), item, count, after))
        if count:
            kept.append(_segment(item))
        elif not item.voxels:
            empty.append(item.name)
    if empty:
        names, more = ", ".join(f"'{name}'" for name in empty[:SHOWN]), len(empty) - SHOWN
        target.tell(f"{shown} has no voxels of {names}{f' and {more} others' if more > 0 else ''}; left out.")
    if lost:
        worst = sorted(lost, key=lambda entry: -entry[0])[:SHOWN]
        words = [f"'{item.name}' from {item.voxels} voxels ({item.volume / 1000:.4g} mL) to {count} ({after / 1000:.4g} mL)"
                 for _, item, count, after in worst]  # fmt: skip
        more = f"; {len(lost) - len(worst)} others changed less" if len(lost) > len(worst) else ""
        target.tell(f"Placing {shown} on the image's grid changed {', '.join(words)}{more}.")
    if not kept and any(item.voxels for _, item, _, _ in lost):
        raise InputError(f"{shown} has no label within the image; give the image that it was made on.")
    if not kept:
        raise InputError(f"{shown} has no label; segment something first.")
    return Segmentation(tuple(kept), target.geometry)


def _segment(item: FoundSegment) -> Segment:
    known = structure(item.name)
    if item.code is None or (known.code is not None and (item.code.scheme, item.code.value) in PLACEHOLDERS):
        codes = known.category, known.code, known.side
    else:
        codes = item.category, item.code, item.side
    return Segment(item.name, item.mask, item.color or known.color, *codes, origin=item.origin)

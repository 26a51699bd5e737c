"""Measure the outline of the body on every axial slice, and closed rings of bone. Knows voxels and mm; no labels or headers.

The volume is averaged to about 4 mm first, so that it takes well under a second, and no slice is left out. Nothing here
depends on which way an axis grows, nor on the scale of the values, except `bone_ring`, which needs HU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..core.image import Image

STEP_MM = 4.0
"""Distance in mm to which voxels are averaged."""

JOINT_MM = 30.0
"""Things that touch the body over less than twice this length are not part of it: tables, head rests, arms beside a head."""

EMPTY_AREA = 1.0
"""Area in cm² of bright voxels below which a slice is empty: padding, or air beyond the body."""

BONE_HU = 250
"""Lower limit of bone in HU, after averaging."""

FAR_BELOW = 0.25
"""Distance of a value that is no measurement from the others, as a fraction of the range of values."""

AIR_HU, TISSUE_HU = -900, (-200.0, 200.0)
"""A CT has values below the first, and the median of its body lies in the second; otherwise its values are no HU."""


@dataclass(frozen=True, eq=False)
class Averaged:
    """A volume averaged to about `STEP_MM`.

    Args:
        values: (R, A, S) float32; the axes are those most parallel to the patient's, in either direction.
        spacing: mm along the three axes.
        threshold: value that separates the body from its surroundings.
        is_hu: whether the values are HU.
    """

    values: np.ndarray
    spacing: np.ndarray
    threshold: float
    is_hu: bool

    @property
    def body(self) -> np.ndarray:
        """(R, A, S) bool: voxels brighter than the surroundings."""
        return self.values > self.threshold


@dataclass(frozen=True)
class SliceOutline:
    """Size of the body on one axial slice.

    Args:
        width: mm from right to left; 0 if there is no body.
        depth: mm from front to back.
        area: cm², holes filled.
        borders: number of the picture's four borders that the body reaches.
        corners: number of the picture's four corners that are as bright as the body.
    """

    width: float
    depth: float
    area: float
    borders: int
    corners: int


def to_axial(array: np.ndarray, image: Image) -> np.ndarray:
    """Return an array of the image's grid with its axes in the order right-left, front-back, up-down.

    Args:
        array: (I, J, K).
        image: the image that it belongs to.
    """
    return array.transpose([image.geometry.world_axes.index(axis) for axis in range(3)])


def axial_spacing(image: Image) -> np.ndarray:
    """Return the spacing in mm along the axes of `to_axial`."""
    return image.geometry.spacing[[image.geometry.world_axes.index(axis) for axis in range(3)]]


def averaged(image: Image) -> Averaged:
    """Return the volume averaged, with the threshold of its body.

    Args:
        image: scalar volume.
    """
    values, spacing = pooled(to_axial(image.scalars, image), axial_spacing(image))
    values = np.maximum(values, _floor(image.scalars))
    known = (
        np.clip(values, -1000, 400) if image.modality == "CT" else values
    )  # what lies outside of a CT's circle is −3024
    threshold = _between_groups(known)
    if (
        image.modality != "CT"
    ):  # fat and contrast agent are so bright that the other tissues would count as surroundings
        threshold = _between_groups(known[known < threshold])
    inside = values[values > threshold]
    is_hu = image.modality == "CT" and bool(
        image.scalars.min() < AIR_HU and inside.size and TISSUE_HU[0] < float(np.median(inside)) < TISSUE_HU[1]
    )
    return Averaged(values, spacing, threshold, is_hu)


def pooled(values: np.ndarray, spacing) -> tuple[np.ndarray, np.ndarray]:
    """Return (means over blocks of about `STEP_MM`, their spacing in mm); the last slices count as a block of their own.

    Args:
        values: (R, A, S) numbers or bool.
        spacing: mm along the three axes.
    """
    counts = [max(1, min(int(STEP_MM / mm), n)) for mm, n in zip(spacing, values.shape, strict=True)]
    wide, deep, tall = counts
    columns, rows = values.shape[0] // wide, values.shape[1] // deep
    found = []
    for start in range(0, values.shape[2], tall):  # block by block: a copy of the whole volume as float may not fit
        block = values[: columns * wide, : rows * deep, start : start + tall].astype(np.float32).mean(axis=2)
        found.append(block.reshape(columns, wide, rows, deep).mean(axis=(1, 3)))
    return np.stack(found, axis=2), np.asarray(spacing, float) * counts


def outlines(volume: Averaged) -> Iterator[SliceOutline]:
    """Yield the outline on each axial slice that isn't empty, from both ends to the middle, since a head lies at an end.

    Args:
        volume: an averaged volume.
    """
    body = volume.body
    last = body.shape[2] - 1
    least = EMPTY_AREA * 100 / (volume.spacing[0] * volume.spacing[1])
    for number in sorted(range(last + 1), key=lambda n: min(n, last - n)):
        if body[..., number].sum() >= least:
            yield outline_of(volume, number)


def outline_of(volume: Averaged, number: int) -> SliceOutline:
    """Return the outline on one axial slice.

    Args:
        volume: an averaged volume.
        number: of the slice, along its third axis.
    """
    reach = [max(1, round(JOINT_MM / mm)) for mm in volume.spacing[:2]]
    return _outline(volume.values[..., number] > volume.threshold, volume.spacing, reach)


def bone_ring(volume: Averaged) -> float:
    """Return the largest area in cm² that a closed ring of bone surrounds on an axial slice; 0 unless the values are HU.

    Args:
        volume: an averaged volume.
    """
    if not volume.is_hu:
        return 0.0
    bone = volume.values > BONE_HU
    areas = [_enclosed(bone[..., n]).sum() for n in range(bone.shape[2])]
    return float(max(areas) * volume.spacing[0] * volume.spacing[1] / 100)


def surroundings(volume: Averaged) -> np.ndarray:
    """Return (R, A, S) bool: dark voxels that are connected with a border of the volume, such as the air around a head."""
    import SimpleITK as sitk

    dark = np.pad(~volume.body, 1, constant_values=True)
    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(sitk.GetImageFromArray(dark.astype(np.uint8))))
    return (parts == parts[0, 0, 0])[1:-1, 1:-1, 1:-1]


def _floor(values: np.ndarray) -> float:
    """Return the lowest value that was measured: a scanner writes one far below all others outside of its round field of view."""
    lowest, highest = float(values.min()), float(values.max())
    above = values[values > lowest]
    if above.size and (second := float(above.min())) - lowest > FAR_BELOW * (highest - lowest):
        return second
    return lowest


def _outline(body: np.ndarray, spacing: np.ndarray, reach: list[int]) -> SliceOutline:
    corners = int(body[[0, 0, -1, -1], [0, -1, 0, -1]].sum())
    whole = _largest(_opened(_filled(body), reach))
    if not whole.any():
        return SliceOutline(0.0, 0.0, 0.0, 0, corners)
    across, down = np.nonzero(whole.any(axis=1))[0], np.nonzero(whole.any(axis=0))[0]
    borders = int(whole[0].any()) + int(whole[-1].any()) + int(whole[:, 0].any()) + int(whole[:, -1].any())
    return SliceOutline(
        float((across[-1] - across[0] + 1) * spacing[0]), float((down[-1] - down[0] + 1) * spacing[1]),
        float(whole.sum() * spacing[0] * spacing[1] / 100), borders, corners,
    )  # fmt: skip


def _enclosed(bone: np.ndarray) -> np.ndarray:
    """Return the largest area that bone surrounds; gaps of a pixel count as closed."""
    import SimpleITK as sitk

    padded = np.pad(bone, 2)
    closed = sitk.GetArrayFromImage(sitk.BinaryMorphologicalClosing(_picture(padded), [1, 1])) > 0
    return _largest(_filled(closed) & ~closed)


def _filled(mask: np.ndarray) -> np.ndarray:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.BinaryFillhole(_picture(mask))) > 0


def _opened(mask: np.ndarray, reach: list[int]) -> np.ndarray:
    import SimpleITK as sitk

    across, down = reach
    padded = np.pad(mask, ((across, across), (down, down)))
    done = sitk.GetArrayFromImage(sitk.BinaryMorphologicalOpening(_picture(padded), [down, across]))
    return done[across:-across, down:-down] > 0


def _largest(mask: np.ndarray) -> np.ndarray:
    import SimpleITK as sitk

    parts = sitk.GetArrayFromImage(sitk.ConnectedComponent(_picture(mask)))
    counts = np.bincount(parts.ravel())[1:]
    return parts == counts.argmax() + 1 if counts.size else np.zeros(mask.shape, bool)


def _picture(mask: np.ndarray):
    import SimpleITK as sitk

    return sitk.GetImageFromArray(mask.astype(np.uint8))


def _between_groups(values: np.ndarray) -> float:
    """Return Otsu's threshold (IEEE Trans. SMC 9:62, 1979) between 0.5 % and 99.5 % of the values."""
    if not values.size:
        return 0.0
    low, high = np.percentile(values, (0.5, 99.5))
    if low == high:
        return float(low)
    counts, edges = np.histogram(np.clip(values, low, high), 256)
    share, middle = counts / counts.sum(), (edges[1:] + edges[:-1]) / 2
    below, mean = share.cumsum(), (share * middle).cumsum()
    between = (mean[-1] * below - mean) ** 2 / np.maximum(below * (1 - below), 1e-9)
    return float(middle[between.argmax()])

"""Tell which structure is at a position in the patient, or nearest to it. Pure geometry: no glossary, no scene, no views.

A position is exact on every grid, oblique ones included: it is looked up in the voxel that contains it, and distances are
those of voxel centers in mm.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.findings import Segment, Segmentation
from ..core.geometry import BoxedMask
from ..core.image import Image
from ..core.terminology import normalize, split_side

REACH_MM = 3.0
"""Half of a finger's width on the picture of a head: nearest structures within this distance are meant, too."""

STRUCTURE, NOTHING, OUTSIDE = "structure", "nothing", "outside"
CONTAINERS = ("head", "body")
"""Structures that contain others: they answer only where nothing else is near."""

AIR_HU = -500.0
COARSE_MM = 3.0


@dataclass(frozen=True)
class Touched:
    """What is at a position.

    Args:
        kind: "structure", "nothing" (inside the body, without a segment), or "outside" of body or picture.
        label: of the segment; "" if there is none.
        distance: mm from the position to the nearest voxel center of the segment; 0 inside of it.
    """

    kind: str
    label: str = ""
    distance: float = 0.0


class BodyMask:
    """Where the body is in a picture, on a coarse grid: what is brighter than air, with the air that it encloses.

    Args:
        image: the picture.
    """

    def __init__(self, image: Image):
        import SimpleITK as sitk

        self._step = [max(1, int(COARSE_MM / mm)) for mm in image.geometry.spacing]
        i, j, k = self._step
        values = np.asarray(image.scalars[::i, ::j, ::k], np.float32)
        if image.modality == "CT":
            there = values > AIR_HU
        else:
            low, high = np.percentile(values, (1, 99.5))
            there = values > low + 0.08 * (high - low)
        mask = sitk.GetImageFromArray(there.astype(np.uint8))
        mask = sitk.BinaryMorphologicalClosing(mask, [min(2, n // 4) for n in there.shape[::-1]])
        parts = sitk.RelabelComponent(sitk.ConnectedComponent(mask))  # the largest first
        self._there = sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.Equal(parts, 1))).astype(bool)

    def contains(self, index: np.ndarray) -> bool:
        """Return whether a voxel lies in the body.

        Args:
            index: (3,) voxel (i, j, k) of the image.
        """
        coarse = [
            min(int(n) // step, size - 1) for n, step, size in zip(index, self._step, self._there.shape, strict=True)
        ]
        return bool(self._there[tuple(coarse)])


def structure_at(
    segmentation: Segmentation,
    position,
    image: Image | None = None,
    body: BodyMask | None = None,
    reach: float = REACH_MM,
) -> Touched:
    """Return the structure at a position: the smallest that contains it, else the nearest within reach.

    Args:
        segmentation: the segments, on any grid.
        position: (R, A, S) in mm.
        image: the picture, to tell outside of the body from a place without a segment.
        body: of the image, if it was computed before.
        reach: largest distance in mm.
    """
    point = np.asarray(position, dtype=float)
    inside, near = [], []
    for segment in segmentation.segments:
        distance = _distance(segment, segmentation.geometry, point, reach)
        if distance is not None:
            size = int(segment.boxed.inside.sum())
            (inside if distance == 0 else near).append((distance, size, segment.label))
    particular = [found for found in inside if not is_container(found[2])]
    others = [found for found in near if not is_container(found[2])]
    for found in (particular, others, inside):
        if found:
            distance, _, label = min(found)
            return Touched(STRUCTURE, label, distance)
    return Touched(OUTSIDE if _is_outside(segmentation, point, image, body) else NOTHING)


def _distance(segment: Segment, geometry, point: np.ndarray, reach: float) -> float | None:
    """Return 0 inside of a segment, else the distance in mm to its nearest voxel center; None beyond reach."""
    mask: BoxedMask = segment.boxed
    index = geometry.to_index(point) - mask.start
    voxel = np.floor(index + 0.5).astype(int)
    shape = np.array(mask.inside.shape)
    if ((voxel >= 0) & (voxel < shape)).all() and mask.inside[tuple(voxel)]:
        return 0.0
    extent = reach * np.linalg.norm(np.linalg.inv(geometry.affine[:3, :3]), axis=1)  # of a sphere, in voxels
    low = np.clip(np.ceil(index - extent).astype(int), 0, shape)
    high = np.clip(np.floor(index + extent).astype(int) + 1, 0, shape)
    if (high <= low).any():
        return None
    places = np.argwhere(mask.inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))])
    if not len(places):
        return None
    nearest = np.linalg.norm(geometry.to_world(places + low + mask.start) - point, axis=1).min()
    return float(nearest) if nearest <= reach else None


def is_container(label: str) -> bool:
    """Return whether a structure contains others, such as the head."""
    return split_side(normalize(label))[1] in CONTAINERS


def _is_outside(segmentation: Segmentation, point: np.ndarray, image: Image | None, body: BodyMask | None) -> bool:
    geometry = image.geometry if image is not None else segmentation.geometry
    if not bool(geometry.contains(point)):
        return True
    if image is None:
        return False
    index = np.floor(geometry.to_index(point) + 0.5).astype(int)
    return not (body or BodyMask(image)).contains(np.clip(index, 0, np.array(geometry.shape) - 1))

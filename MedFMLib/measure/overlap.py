"""Compare two masks or boxes: Dice coefficient, surface distances, intersection over union. The one place for all of them.

Definitions as in Maier-Hein, Reinke et al., "Metrics reloaded", Nature Methods 2024:

* Dice = 2·|A∩B| / (|A|+|B|); undefined where neither mask has a voxel, so that the caller decides what that is worth;
* a border voxel has a neighbour outside of the mask across a face (in 2D: an edge), the array's edge included;
* mean surface distance: over the border voxels of both masks, of the distance to the other's border;
* 95 % Hausdorff distance: the larger of the two directed 95th percentiles.

Checked against MedPy in `Testing/measure/test_overlap.py`. Knows arrays; no image and no model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def dice(found: np.ndarray, truth: np.ndarray, *, empty: float | None = None) -> float | None:
    """Return the Dice coefficient of two bool arrays.

    Args:
        found: result.
        truth: of the same shape.
        empty: what to return if both are empty.
    """
    return dice_of_counts(
        np.count_nonzero(found & truth), np.count_nonzero(found) + np.count_nonzero(truth), empty=empty
    )


def dice_of_counts(both: float, total: float, *, empty: float | None = None) -> float | None:
    """Return the Dice coefficient from numbers of voxels, which may be sums over slices or cases.

    Args:
        both: voxels in both masks.
        total: voxels of one mask plus voxels of the other.
        empty: what to return where `total` is 0.
    """
    return float(2 * both / total) if total else empty


def surface_distances(found: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> tuple[float, float] | None:
    """Return (mean symmetric surface distance, 95 % Hausdorff distance) in mm, None if a mask is empty.

    Args:
        found: bool, 2D or 3D, result.
        truth: bool, of the same shape.
        spacing: mm along each axis of the arrays.
    """
    import SimpleITK as sitk

    if not found.any() or not truth.any():
        return None
    box = []
    for axis in range(found.ndim):
        along = np.flatnonzero((found | truth).any(axis=tuple(a for a in range(found.ndim) if a != axis)))
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    borders, distances = [], []
    for mask in (found, truth):
        picture = sitk.GetImageFromArray(np.pad(mask[tuple(box)], 1).astype(np.uint8))
        picture.SetSpacing([float(s) for s in spacing][::-1])
        border = sitk.LabelContour(picture)
        borders.append(sitk.GetArrayViewFromImage(border).astype(bool))
        away = sitk.SignedMaurerDistanceMap(border, squaredDistance=False, useImageSpacing=True)
        distances.append(np.abs(sitk.GetArrayFromImage(away)))
    there, back = distances[1][borders[0]], distances[0][borders[1]]
    mean = (there.sum() + back.sum()) / (there.size + back.size)
    return float(mean), float(max(np.percentile(there, 95), np.percentile(back, 95)))


def box_iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection over union of two boxes, 0…1; 0 where both have no area.

    Args:
        one: (y0, x0, y1, x1).
        other: the same, in the same coordinates.
    """
    inside = [max(0.0, min(one[n + 2], other[n + 2]) - max(one[n], other[n])) for n in (0, 1)]
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    both = inside[0] * inside[1]
    return both / (area[0] + area[1] - both) if both else 0.0

"""Assemble a volume from slices: choose slices, resample masks, interpolate between slices.

Depends on views and masks; knows no models. All 2D arrays are in the order of the volume's remaining index axes
unless stated otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.findings import SliceReference
from ..core.geometry import Geometry, mask_box
from ..core.image import Image
from ..core.request import SliceChoice
from ..core.view import SeenObject, View, display_slice
from ..errors import InputError

AUTOMATIC_STEP_MM, FINE_STEP_MM = 4.0, 2.0
"""Largest automatic distance of slices, in mm: larger structures change little over it; the finer one is for fast models."""

ISLAND_SHARE = 0.05
"""3D components smaller than this fraction of a structure's largest component are removed."""


def choose_slices(geometry: Geometry, choice: SliceChoice, step_mm: float = AUTOMATIC_STEP_MM) -> tuple[str, list[int]]:
    """Return the plane and the slice numbers, which include the first and the last of the range.

    Args:
        geometry: the volume's grid.
        choice: plane, range and step.
        step_mm: largest distance of slices in mm if `choice` has no step.

    Returns:
        (plane, slice numbers)

    Raises:
        InputError: if the range lies outside the volume.
    """
    plane = choice.plane or geometry.acquisition_plane
    axis = geometry.index_axis(plane)
    n = geometry.shape[axis]
    first = 0 if choice.first < 0 else choice.first
    last = n - 1 if choice.last < 0 else choice.last
    if first >= n or last >= n or first > last:
        raise InputError(f"Slices {first} to {last} are not in this volume; its {plane} slices are 0 to {n - 1}.")
    step = choice.step or max(1, int(step_mm / geometry.spacing[axis]))
    numbers = list(range(first, last + 1, step))
    if numbers[-1] != last:
        numbers.append(last)
    return plane, numbers


def examined(geometry: Geometry, choice: SliceChoice) -> tuple[slice, slice, slice] | None:
    """Return the part of a grid that a choice of slices covers, as a slice along each index axis; None if that is all of it.

    Args:
        geometry: the volume's grid.
        choice: plane and range.

    Raises:
        InputError: if the range lies outside the volume.
    """
    plane, numbers = choose_slices(geometry, choice)
    axis = geometry.index_axis(plane)
    if (numbers[0], numbers[-1]) == (0, geometry.shape[axis] - 1):
        return None
    whole = [slice(0, n) for n in geometry.shape]
    whole[axis] = slice(numbers[0], numbers[-1] + 1)
    return tuple(whole)


def paint(view: View, seen: SeenObject) -> np.ndarray:
    """Return the object's mask at the slice's own voxels, 2D bool (bilinear in the box, threshold one half).

    Args:
        view: the slice.
        seen: box and mask in the view, 0…1.
    """
    y, x = view.positions()
    picture = np.zeros((len(y), len(x)), dtype=bool)
    y0, x0, y1, x1 = seen.box
    rows, columns = np.flatnonzero((y >= y0) & (y <= y1)), np.flatnonzero((x >= x0) & (x <= x1))
    if rows.size and columns.size:
        mask = np.ones((64, 64), np.float32) if seen.mask is None else np.asarray(seen.mask, np.float32)
        v = (y[rows] - y0) / max(y1 - y0, 1e-9) * mask.shape[0] - 0.5
        u = (x[columns] - x0) / max(x1 - x0, 1e-9) * mask.shape[1] - 0.5
        picture[np.ix_(rows, columns)] = _bilinear(mask, v, u) > 0.5
    return view.to_slice(picture)


def _bilinear(mask: np.ndarray, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return (len(v), len(u)) samples at all pairs of rows v and columns u, clamped to the border."""

    def weights(position: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        position = np.clip(position, 0, n - 1)
        low = np.minimum(position.astype(int), n - 2)
        return low, low + 1, (position - low).astype(np.float32)

    r0, r1, fr = weights(v, mask.shape[0])
    c0, c1, fc = weights(u, mask.shape[1])
    rows = mask[r0] * (1 - fr)[:, None] + mask[r1] * fr[:, None]
    return rows[:, c0] * (1 - fc) + rows[:, c1] * fc


def stack(geometry: Geometry, plane: str, numbers: Sequence[int], masks: Sequence[np.ndarray]) -> np.ndarray:
    """Return a volume from 2D masks of some slices; slices between two of them are interpolated by shape.

    Shape interpolation: the zero level of linearly blended signed distances (Raya and Udupa, IEEE TMI 1990).

    Args:
        geometry: the volume's grid.
        plane: sagittal, coronal or axial.
        numbers: ascending slice numbers.
        masks: 2D bool, one for each number.

    Returns:
        (I, J, K) bool
    """
    axis = geometry.index_axis(plane)
    volume = np.zeros(geometry.shape, dtype=bool)
    slices = np.moveaxis(volume, axis, 0)
    spacing = np.delete(geometry.spacing, axis)
    distances: dict[int, np.ndarray] = {}

    def distance(position: int) -> np.ndarray:
        if position not in distances:
            distances[position] = signed_distance(masks[position], spacing)
        return distances[position]

    for position, number in enumerate(numbers):
        slices[number] = masks[position]
        if position == 0 or number - numbers[position - 1] < 2:
            continue
        before, previous = masks[position - 1], numbers[position - 1]
        if not before.any() and not masks[position].any():
            continue
        if not before.any() or not masks[position].any():  # at its end a structure tapers to the middle of the gap
            filled, empty = (position, position - 1) if masks[position].any() else (position - 1, position)
            for between in range(previous + 1, number):
                away = abs(between - numbers[filled]) / abs(numbers[empty] - numbers[filled])
                if away < 0.5:
                    inside = distance(filled)
                    slices[between] = inside < 2 * away * inside.min()
            continue
        for between in range(previous + 1, number):
            t = (between - previous) / (number - previous)
            slices[between] = (1 - t) * distance(position - 1) + t * distance(position) < 0
    return volume


def signed_distance(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the distance to a mask's border in mm, (H, W) float32, negative inside.

    Args:
        mask: (H, W) bool; meaningful only with voxels both inside and outside.
        spacing: mm of rows and columns.
    """
    import SimpleITK as sitk

    picture = sitk.GetImageFromArray(np.ascontiguousarray(mask, dtype=np.uint8))
    picture.SetSpacing([float(spacing[1]), float(spacing[0])])
    distance = sitk.SignedMaurerDistanceMap(picture, squaredDistance=False, useImageSpacing=True)
    # ITK's distance is zero at the centres of the mask's border pixels; the border lies half a pixel further out
    return sitk.GetArrayFromImage(distance) - 0.5 * min(spacing)


def drop_islands(mask: np.ndarray, share: float = ISLAND_SHARE) -> np.ndarray:
    """Remove the 6-connected components of a mask smaller than a fraction of the largest one.

    Args:
        mask: (I, J, K) bool.
        share: fraction of the largest component's size, 0…1.

    Returns:
        (I, J, K) bool
    """
    import SimpleITK as sitk

    if not mask.any():
        return mask
    box = mask_box(mask)
    inside = mask[box]
    turned = inside.strides[0] < inside.strides[2]  # ITK's arrays are in C order
    inside = (inside.T if turned else inside).copy()
    find = sitk.ConnectedComponentImageFilter()
    found = find.Execute(sitk.GetImageFromArray(inside.view(np.uint8)))  # outlives the view of its voxels
    parts = sitk.GetArrayViewFromImage(found)
    if find.GetObjectCount() == 1:
        return mask
    there = np.flatnonzero(inside)
    numbers = parts.ravel()[there]
    sizes = np.bincount(numbers)
    inside.ravel()[there[sizes[numbers] < share * sizes.max()]] = False
    kept = np.zeros_like(mask)
    kept[box] = inside.T if turned else inside
    return kept


def refine_slice(mask: np.ndarray, values: np.ndarray, spacing: Sequence[float], band_mm: float = 3.0) -> np.ndarray:
    """Move a 2D mask's border, at most `band_mm`, to where the image changes.

    On either side of the border band, a normal distribution of the values near the band is estimated; voxels of the
    band
    are assigned to the likelier side, with a prior from their distance and a 3×3 median for a smooth border.
    Where the two sides look alike the mask is unchanged.

    Args:
        mask: (H, W) bool.
        values: (H, W) the image's values in the same order.
        spacing: mm of rows and columns.
        band_mm: half width of the band, mm.
    """
    import SimpleITK as sitk

    if mask.sum() < 30 or mask.all():
        return mask
    distance = signed_distance(mask, spacing)
    band = np.abs(distance) < band_mm
    inside = values[(distance <= -band_mm * 0.7) & (distance > -5 * band_mm)]
    outside = values[(distance >= band_mm * 0.7) & (distance < 5 * band_mm)]
    if inside.size < 20 or outside.size < 20:
        return mask
    mean_in, mean_out = float(np.mean(inside)), float(np.mean(outside))
    sd_in, sd_out = float(np.std(inside)) + 1e-6, float(np.std(outside)) + 1e-6
    if abs(mean_in - mean_out) < 0.75 * (sd_in + sd_out) / 2:
        return mask
    likelier_in = (
        0.5 * ((values - mean_out) / sd_out) ** 2
        + np.log(sd_out)
        - 0.5 * ((values - mean_in) / sd_in) ** 2
        - np.log(sd_in)
    )
    prior = -distance / band_mm * 2.0
    refined = np.where(band, np.clip(likelier_in, -4, 4) + prior > 0, mask)
    smooth = sitk.GetArrayFromImage(sitk.Median(sitk.GetImageFromArray(refined.astype(np.uint8)), (1, 1)))
    return np.where(band, smooth.astype(bool), mask)


def refine_slices(mask: np.ndarray, image: Image, plane: str) -> None:
    """Fit the border of a mask to the image in every slice of a plane, in place; see `refine_slice`.

    Args:
        mask: (I, J, K) bool, changed in place.
        image: scalar volume.
        plane: sagittal, coronal or axial.
    """
    axis = image.geometry.index_axis(plane)
    slices, spacing = np.moveaxis(mask, axis, 0), np.delete(image.geometry.spacing, axis)
    for number in np.flatnonzero(slices.any(axis=(1, 2))):
        slices[number] = refine_slice(slices[number], slice_values(image, plane, number).astype(np.float32), spacing)


def slice_values(image: Image, plane: str, number: int) -> np.ndarray:
    """Return the 2D values of a slice in the order of the remaining index axes.

    Args:
        image: scalar volume.
        plane: sagittal, coronal or axial.
        number: slice number along the plane's index axis.
    """
    return np.take(image.scalars, number, axis=image.geometry.index_axis(plane))


def largest_slice(mask: np.ndarray, geometry: Geometry, plane: str) -> int:
    """Return the number of the slice with the largest area of a mask.

    Args:
        mask: (I, J, K) bool.
        geometry: its grid.
        plane: sagittal, coronal or axial.
    """
    axis = geometry.index_axis(plane)
    return int(mask.sum(axis=tuple(a for a in range(3) if a != axis)).argmax())


def display_mask(mask: np.ndarray, geometry: Geometry, plane: str, number: int) -> np.ndarray:
    """Return a slice of a mask in radiological orientation, (H, W) bool, for overlays.

    Args:
        mask: (I, J, K) bool.
        geometry: its grid.
        plane: sagittal, coronal or axial.
        number: slice number along the plane's index axis.
    """
    return display_slice(mask, geometry, plane, number)


def slice_reference(view: View) -> SliceReference:
    """Return the plane, number and centre (mm, RAS) of a view's slice."""
    return SliceReference(view.plane, view.number, tuple(float(c) for c in view.to_world(0.5, 0.5)))

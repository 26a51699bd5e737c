"""Show a region to a model: its slice with an outline, an enlarged view, and its size in words.

Depends on images, prompts and geometry; knows no task and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.image import Image
from ..core.prompts import Box, Points, Prompt, Region, Scribble
from ..core.view import View, make_view, window_for
from ..errors import InputError
from ..measure import plane_from_image, side_of
from .slices import display_mask, largest_slice

MARGIN = 0.25
"""Margin around a region as a fraction of its size, so that its surroundings are visible."""

LEAST_MM = 48.0
"""Smallest width of the view in mm, so that a single click shows its neighbourhood."""

OUTLINE = (255, 220, 0)
"""Yellow, a colour that occurs in no windowed image."""


def region_mask(prompts: Sequence[Prompt], image: Image) -> np.ndarray:
    """Return the union of prompts on the image's grid, (I, J, K) bool.

    Args:
        prompts: in RAS mm.
        image: scalar volume.

    Raises:
        InputError: if it is empty.
    """
    mask = np.zeros(image.geometry.shape, dtype=bool)
    for prompt in prompts:
        mask |= _mask(prompt, image)
    if not mask.any():
        raise InputError("All prompts lie outside of the volume; move them onto the image and ask again.")
    return mask


def near_view(image: Image, mask: np.ndarray, plane: str) -> View:
    """Return the slice through the largest part of a region, cropped to it with a margin.

    Args:
        image: scalar volume.
        mask: (I, J, K) bool with at least one voxel.
        plane: sagittal, coronal or axial.
    """
    number = largest_slice(mask, image.geometry, plane)
    axis = image.geometry.index_axis(plane)
    index = np.argwhere(np.take(mask, [number], axis=axis))
    low, high = index.min(axis=0), index.max(axis=0) + 1
    margin = np.maximum((high - low) * MARGIN, (LEAST_MM / image.geometry.spacing - (high - low)) / 2)
    shape = np.array(image.geometry.shape)
    start = np.clip(np.floor(low - margin), 0, shape - 1).astype(int)
    stop = np.clip(np.ceil(high + margin), 1, shape).astype(int)
    start[axis], stop[axis] = 0, shape[axis]
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    cut = replace(
        image, voxels=image.voxels[(slice(None), *box)], geometry=image.geometry.crop(start, stop), extents=(),
        display=None if image.display is None else image.display[(slice(None), *box)],
    )  # fmt: skip
    return make_view(cut, plane, number, window_for(image))


def outlined_view(image: Image, mask: np.ndarray, plane: str) -> View:
    """Return the whole slice through the largest part of a region, with an outline just around the region.

    Args:
        image: scalar volume.
        mask: (I, J, K) bool with at least one voxel.
        plane: sagittal, coronal or axial.
    """
    number = largest_slice(mask, image.geometry, plane)
    view = make_view(image, plane, number, window_for(image))
    inside = display_mask(mask, image.geometry, plane, number)[: view.pixels.shape[0], : view.pixels.shape[1]]
    wide = np.pad(inside, 1)
    grown = wide[1:-1, 1:-1] | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    edge = grown & ~inside if (grown & ~inside).any() else inside
    pixels = view.pixels.copy()
    pixels[edge] = OUTLINE
    return replace(view, pixels=pixels)


def words_for(image: Image, mask: np.ndarray, plane: str) -> str:
    """Describe the two pictures of a region to the model: plane, size in mm, side of the patient's body.

    Args:
        image: scalar volume.
        mask: (I, J, K) bool with at least one voxel.
        plane: sagittal, coronal or axial.
    """
    index = np.argwhere(mask)
    extent = (index.max(axis=0) + 1 - index.min(axis=0)) * image.geometry.spacing
    axis = image.geometry.index_axis(plane)
    across = sorted(np.delete(extent, axis), reverse=True)
    if not image.geometry.oriented:
        size = f" It measures {across[0]:.0f} × {across[1]:.0f} mm." if image.geometry.metric else ""
        whole = "picture" if image.is_picture else f"{image.modality} slice"
        words = f"The first image is a whole {whole} with a region outlined in yellow; the second shows that region from near."
        return words + size
    side = side_of(image.geometry.to_world(index), plane_from_image(image))
    where = (
        ", and lies in the midline" if side == "midline" else f", and lies on the patient's {side} side" if side else ""
    )
    return (
        f"The first image is a whole {plane} {image.modality} slice with a region outlined in yellow; the second shows that "
        f"region from near. It measures {across[0]:.0f} × {across[1]:.0f} mm in this plane, {extent[axis]:.0f} mm across it"
        f"{where}."
    )


def _mask(prompt: Prompt, image: Image) -> np.ndarray:
    """Return the voxels of the image's grid that a prompt covers, (I, J, K) bool."""
    geometry = image.geometry
    if isinstance(prompt, Box):
        return prompt.mask(geometry)
    mask = np.zeros(geometry.shape, dtype=bool)
    if isinstance(prompt, Region):
        points = prompt.geometry.to_world(np.argwhere(prompt.mask))
    elif isinstance(prompt, Points):
        points = prompt.inside
    else:
        assert isinstance(prompt, Scribble)
        points = prompt.path
    index = np.rint(geometry.to_index(points)).astype(int).reshape(-1, 3)
    index = index[((index >= 0) & (index < geometry.shape)).all(axis=1)]
    mask[tuple(index.T)] = True
    return mask

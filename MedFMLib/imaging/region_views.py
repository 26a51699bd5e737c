"""What a person pointed at, as pictures and words for a model: its surroundings with an outline, itself from near, its size.

Knows images, prompts and geometry; no task and no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.image import Image
from ..core.prompts import Box, Points, Prompt, Region, Scribble
from ..core.view import View, make_view, window_for
from ..errors import InputError
from ..measure import body_midline, side_of
from .slices import display_mask, largest_slice

MARGIN = 0.25
"""A region is shown with this share of its size around it, so that its surroundings are seen."""

LEAST_MM = 48.0
"""At least so wide, so that a single click shows a neighbourhood."""

OUTLINE = (255, 220, 0)
"""Yellow, which no window of an image has."""


def region_mask(prompts: Sequence[Prompt], image: Image) -> np.ndarray:
    """(I, J, K) bool: what prompts cover on the image's grid, all together.

    Raises:
        InputError: if that is nothing.
    """
    mask = np.zeros(image.geometry.shape, dtype=bool)
    for prompt in prompts:
        mask |= _mask(prompt, image)
    if not mask.any():
        raise InputError("What was marked lies outside of the volume; move it onto the image and ask again.")
    return mask


def near_view(image: Image, mask: np.ndarray, plane: str) -> View:
    """The slice through the largest part of a region, cut to it with a margin."""
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
    cut = Image(
        image.voxels[(slice(None), *box)], image.geometry.crop(start, stop), image.modality, image.name, image.facts
    )
    return make_view(cut, plane, number, window_for(image))


def outlined_view(image: Image, mask: np.ndarray, plane: str) -> View:
    """The whole slice through the largest part of a region, with its outline drawn just around it."""
    number = largest_slice(mask, image.geometry, plane)
    view = make_view(image, plane, number, window_for(image))
    inside = display_mask(mask, image.geometry, plane, number)
    wide = np.pad(inside, 1)
    grown = wide[1:-1, 1:-1] | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    edge = grown & ~inside if (grown & ~inside).any() else inside
    pixels = view.pixels.copy()
    pixels[edge] = OUTLINE
    return replace(view, pixels=pixels)


def words_for(image: Image, mask: np.ndarray, plane: str) -> str:
    """What the two pictures of a region are: plane, size in mm, side of the patient's body. One sentence."""
    index = np.argwhere(mask)
    extent = (index.max(axis=0) + 1 - index.min(axis=0)) * image.geometry.spacing
    axis = image.geometry.index_axis(plane)
    across = sorted(np.delete(extent, axis), reverse=True)
    side = side_of(image.geometry.to_world(index)[:, 0], body_midline(image))
    where = "in the midline" if side == "midline" else f"on the patient's {side} side"
    return (
        f"The first image is a whole {plane} {image.modality} slice with a region outlined in yellow; the second shows that "
        f"region from near. It measures {across[0]:.0f} × {across[1]:.0f} mm in this plane, {extent[axis]:.0f} mm across it, "
        f"and lies {where}."
    )


def _mask(prompt: Prompt, image: Image) -> np.ndarray:
    """(I, J, K) bool: what a prompt covers on the image's grid."""
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

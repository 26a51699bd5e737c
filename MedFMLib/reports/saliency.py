"""What an answer rests on as a picture: the slice, and the same with the saliency in colours over it. Knows images; no model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.findings import KeyImage, Saliency
from ..core.image import Image
from ..core.view import display_slice
from ..errors import InputError
from .pictures import key_image, painted

COLORS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Dark to bright, equal steps apart to the eye: five colours of matplotlib's “inferno” (CC0)."""

STRONGEST = 0.65
"""How much of the picture the strongest colour covers; nothing where the answer does not rest on it."""


def color_table() -> np.ndarray:
    """(256, 3) uint8."""
    places = np.linspace(0, 255, len(COLORS))
    return np.stack([np.interp(np.arange(256), places, channel) for channel in np.array(COLORS).T], axis=1).astype(
        np.uint8
    )


def saliency_images(image: Image, saliency: Saliency) -> tuple[KeyImage, ...]:
    """One picture of each slice that was looked at, plain and with the saliency over it.

    Raises:
        InputError: if the saliency was made of another image.
    """
    start = np.rint(image.geometry.to_index(saliency.geometry.origin)).astype(int)
    stop = start + saliency.geometry.shape
    inside = (start >= 0).all() and (stop <= image.geometry.shape).all()
    if not inside or not image.geometry.crop(start, stop).matches(saliency.geometry):
        raise InputError("The saliency lies on another grid than the image; make it again for this image.")
    made = []
    for where in dict.fromkeys(saliency.evidence):
        axis = image.geometry.index_axis(where.plane)
        plain = key_image(image, where.plane, where.number)
        levels = display_slice(saliency.levels, saliency.geometry, where.plane, where.number - int(start[axis]))
        overlay = painted(image, where.plane, where.number, color_table()[levels], levels / 255 * STRONGEST)
        caption = f"{plain.caption}: what “{saliency.answer}” rests on ({saliency.method}; bright is more)"
        made.append(replace(plain, caption=caption, overlay_png=overlay))
    return tuple(made)

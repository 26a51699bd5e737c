"""Render a saliency map: the slice, and the same slice with the map as a colour overlay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.findings import KeyImage, Saliency
from ..core.image import Image
from ..core.view import display_slice
from ..errors import InputError
from ..imaging.key_images import key_image, painted

COLORS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""Dark to bright in perceptually equal steps: five colours of matplotlib's “inferno” (CC0)."""

STRONGEST = 0.65
"""Opacity of the strongest colour; zero saliency is transparent."""


def color_table() -> np.ndarray:
    """Return the colour table, (256, 3) uint8."""
    places = np.linspace(0, 255, len(COLORS))
    return np.stack([np.interp(np.arange(256), places, channel) for channel in np.array(COLORS).T], axis=1).astype(
        np.uint8
    )


def saliency_images(image: Image, saliency: Saliency) -> tuple[KeyImage, ...]:
    """Return one picture of each slice that the model received, plain and with the saliency overlay.

    Args:
        image: scalar volume.
        saliency: computed on this image.

    Raises:
        InputError: if the saliency was computed on another image.
    """
    start = np.rint(image.geometry.to_index(saliency.geometry.origin)).astype(int)
    stop = start + saliency.geometry.shape
    inside = (start >= 0).all() and (stop <= image.geometry.shape).all()
    if not inside or not image.geometry.crop(start, stop).matches(saliency.geometry):
        raise InputError("The saliency lies on another grid than the image; compute it again for this image.")
    made = []
    for where in dict.fromkeys(saliency.evidence):
        axis = image.geometry.index_axis(where.plane)
        plain = key_image(image, where.plane, where.number)
        levels = display_slice(saliency.levels, saliency.geometry, where.plane, where.number - int(start[axis]))
        overlay = painted(image, where.plane, where.number, color_table()[levels], levels / 255 * STRONGEST)
        caption = f"{plain.caption}: what “{saliency.answer}” rests on ({saliency.method}; bright is more)"
        made.append(replace(plain, caption=caption, overlay_png=overlay))
    return tuple(made)

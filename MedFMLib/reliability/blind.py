"""Pictures without the image, and whether an answer stands without it. Knows views; no model.

Two pictures take the image's place, since one alone is met by chance too often (half of all yes-or-no answers): one of middle
grey, and the image itself in shuffled tiles, which has its brightness but no anatomy; with another image given, its slice at
the same height takes the place of the shuffled one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.image import Image
from ..core.view import View, make_view, window_for
from .meaning import is_refusal, same

GREY, TILES, SEED = 128, 8, 20_261

STANDS = "The answer is the same without the image, so it did not come from the image."


def controls(views: Sequence[View], other: Image | None = None) -> dict[str, list[View]]:
    """What is shown → as many views as given, without the image.

    Args:
        other: another image, to be shown instead.
    """
    grey = [replace(view, pixels=np.full_like(view.pixels, GREY)) for view in views]
    if other is None:
        return {"grey": grey, "shuffled": [replace(view, pixels=shuffled(view.pixels)) for view in views]}
    return {"grey": grey, "another image": [swapped(view, other) for view in views]}


def shuffled(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) of the same tiles in another order, the same each time; what doesn't fill a tile stays."""
    height, width = (n // TILES for n in pixels.shape[:2])
    if not height or not width:
        return pixels[::-1, ::-1]
    inner = pixels[: height * TILES, : width * TILES].reshape(TILES, height, TILES, width, 3).swapaxes(1, 2)
    tiles = inner.reshape(TILES * TILES, height, width, 3)[np.random.default_rng(SEED).permutation(TILES * TILES)]
    made = pixels.copy()
    made[: height * TILES, : width * TILES] = (
        tiles.reshape(TILES, TILES, height, width, 3).swapaxes(1, 2).reshape(height * TILES, width * TILES, 3)
    )
    return made


def swapped(view: View, other: Image) -> View:
    """The slice of another image in the same plane, as far through it."""
    axis, count = other.geometry.index_axis(view.plane), view.geometry.shape[view.axis]
    share = (view.number + 0.5) / count
    if (view.geometry.affine[view.geometry.world_axes[view.axis], view.axis] > 0) != (
        other.geometry.affine[other.geometry.world_axes[axis], axis] > 0
    ):
        share = 1 - share  # the other volume's slices are counted from the other end
    number = min(int(share * other.geometry.shape[axis]), other.geometry.shape[axis] - 1)
    return make_view(other, view.plane, number, window_for(other))


def stands(answer: str, without: Sequence[str], lost: Sequence[float] = ()) -> str:
    """ "stands" if an answer is given without the image too, "changed" if not, "refused" if it only refuses.

    Args:
        without: answers to the same question about each of the controls.
        lost: by how much likelier the answer is with the image than with each control, in nats a token, where the model
            can tell: an answer that is the same by chance is less likely without the image.
    """
    if is_refusal(answer):
        return "refused"
    if not without or not all(same(answer, other) for other in without):
        return "changed"
    return "changed" if lost and max(lost) > LOST else "stands"


LOST = 0.02
"""Nats a token; an answer that loses more without the image rests on it."""

"""Make pictures without the image, and decide whether an answer is the same without it. Knows views; no model.

Two control pictures replace the image, since the answers agree with a single one by chance too often (half of all
yes-or-no answers): one of middle grey, and the image itself in shuffled tiles, which has its brightness but no anatomy.
If another image is given, its slice at the same height replaces the shuffled one.
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
    """Return control pictures by name, each as many views as given.

    Args:
        views: the slices shown.
        other: another image, shown instead of shuffled tiles.
    """
    grey = [replace(view, pixels=np.full_like(view.pixels, GREY)) for view in views]
    if other is None:
        return {"grey": grey, "shuffled": [replace(view, pixels=shuffled(view.pixels)) for view in views]}
    return {"grey": grey, "another image": [swapped(view, other) for view in views]}


def shuffled(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W, 3) with the tiles in another, fixed order; pixels outside complete tiles stay."""
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
    """Return the slice of another image in the same plane, at the same fraction of the way through it.

    Args:
        view: the slice to replace.
        other: the other image.
    """
    axis, count = other.geometry.index_axis(view.plane), view.geometry.shape[view.axis]
    share = (view.number + 0.5) / count
    if (view.geometry.affine[view.geometry.world_axes[view.axis], view.axis] > 0) != (
        other.geometry.affine[other.geometry.world_axes[axis], axis] > 0
    ):
        share = 1 - share  # the other volume's slice numbers grow in the opposite direction
    number = min(int(share * other.geometry.shape[axis]), other.geometry.shape[axis] - 1)
    return make_view(other, view.plane, number, window_for(other))


def stands(answer: str, without: Sequence[str], lost: Sequence[float] = ()) -> str:
    """Return "stands" if the answer is the same without the image, "changed" if not, "refused" if it is a refusal.

    Args:
        answer: the answer with the image.
        without: answers to the same question about each of the controls.
        lost: log-probability of the answer with the image minus that with each control, in nats per token, if the model
            can compute it: an answer that is the same by chance is less likely without the image.
    """
    if is_refusal(answer):
        return "refused"
    if not without or not all(same(answer, other) for other in without):
        return "changed"
    return "changed" if lost and max(lost) > LOST else "stands"


LOST = 0.02
"""Nats per token; an answer whose log-probability falls by more without the image depends on the image."""

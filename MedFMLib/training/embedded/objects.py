"""Find boxes and 64×64 masks of the structures in a part picture, in the format of the mask tokens.

Depends on numpy and parts; no models or text. Boxes snap *outwards* to multiples of `STEP` location tokens and the
mask is sampled over the snapped box, so snapping costs no accuracy; a small model then learns 129 positions instead of
1,024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...models.masks.location_tokens import LOCATIONS
from .labels import STRUCTURES, UNKNOWN_PART, structure_mask

STEP = 8
"""Number of location tokens between two positions in training."""

MIN_PIXELS = 14
"""Smaller structures count as not visible; between half of this and this no questions are asked about them."""

MASK_SIDE = 64


@dataclass(frozen=True, eq=False)
class SeenStructure:
    """A structure in a picture: `box` (y0, x0, y1, x1) 0…1, `mask` (64, 64) bool over the box, `pixels` its size."""

    name: str
    box: tuple[float, float, float, float]
    mask: np.ndarray
    pixels: int


def snapped(position: float, up: bool) -> float:
    """Return the next allowed position 0…1, as represented by its location token.

    Args:
        position: 0…1.
        up: whether to snap upwards.
    """
    steps = position * (LOCATIONS - 1) / STEP
    number = int(np.ceil(steps - 1e-6) if up else np.floor(steps + 1e-6))
    return min(number * STEP, LOCATIONS - 1) / (LOCATIONS - 1)


def mask_over_box(mask: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Return (64, 64) bool: the mask sampled linearly at the centres of a 64×64 grid over the box.

    Args:
        mask: (S, S) bool.
        box: (y0, x0, y1, x1), each 0…1.
    """
    size = mask.shape[0]
    y0, x0, y1, x1 = box
    grid = (np.arange(MASK_SIDE) + 0.5) / MASK_SIDE
    rows, columns = ((y0 + grid * (y1 - y0)) * size - 0.5, (x0 + grid * (x1 - x0)) * size - 0.5)
    low_r, low_c = np.floor(rows).astype(int), np.floor(columns).astype(int)
    wr, wc = (rows - low_r).astype(np.float32)[:, None], (columns - low_c).astype(np.float32)[None]
    r0, r1 = np.clip(low_r, 0, size - 1), np.clip(low_r + 1, 0, size - 1)
    c0, c1 = np.clip(low_c, 0, size - 1), np.clip(low_c + 1, 0, size - 1)
    m = mask.astype(np.float32)
    top = m[r0][:, c0] * (1 - wc) + m[r0][:, c1] * wc
    bottom = m[r1][:, c0] * (1 - wc) + m[r1][:, c1] * wc
    return top * (1 - wr) + bottom * wr >= 0.5


def find(parts: np.ndarray, name: str) -> SeenStructure | None:
    """Return a structure in a part picture, or None if it has no pixel.

    Args:
        parts: (S, S) part numbers.
        name: of the structure.
    """
    mask = structure_mask(parts, name)
    pixels = int(np.count_nonzero(mask))
    if not pixels:
        return None
    size = parts.shape[0]
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = (
        snapped(rows[0] / size, False),
        snapped(columns[0] / size, False),
        snapped((rows[-1] + 1) / size, True),
        snapped((columns[-1] + 1) / size, True),
    )
    return SeenStructure(name, box, mask_over_box(mask, box), pixels)


def survey(
    parts: np.ndarray, known: tuple[str, ...], absent: tuple[str, ...] = ()
) -> tuple[dict[str, SeenStructure], list[str]]:
    """Return what is certain about a part picture.

    Args:
        parts: (S, S) part numbers.
        known: the structures that its source labels.
        absent: structures that its source certainly hasn't.

    Returns:
        (visible structures by name, names that are certainly not visible); names that are barely visible, or that
        unlabelled pixels could hide, are in neither.
    """
    present = set(np.unique(parts).tolist())
    visible: dict[str, SeenStructure] = {}
    missing = list(absent)
    for name in known:
        if not present.intersection(STRUCTURES[name]):
            missing.append(name)
            continue
        seen = find(parts, name)
        if seen is not None and seen.pixels >= MIN_PIXELS:
            visible[name] = seen
        elif seen is not None and seen.pixels < MIN_PIXELS // 2:
            missing.append(name)
    if UNKNOWN_PART in present:
        missing = [name for name in missing if name in known or name in absent]
    return {name: visible[name] for name in STRUCTURES if name in visible}, missing

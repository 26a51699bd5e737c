"""Describe in words where a structure lies in the body, from RAS coordinates and the extent of the imaged body."""

from __future__ import annotations

from collections.abc import Sequence

METHOD = "centroid against the imaged body, in thirds (RAS)"
WORDS = ((), ("towards the back", "", "towards the front"), ("lower third", "middle third", "upper third"))
"""Lowest, middle and highest third along Right, Anterior, Superior; the side is a separate measurement."""


def position_words(center: Sequence[float], side: str, spans: Sequence[tuple[float, float]]) -> str:
    """Return the position in words, for example "right, upper third, towards the front".

    Args:
        center: (3,) centroid, RAS mm.
        side: measured side: "left", "right" or "midline".
        spans: for each of R, A and S the (lowest, highest) mm of the imaged body.
    """
    words = ["in the midline" if side == "midline" else side]
    for axis in (2, 1):
        low, high = spans[axis]
        if high - low > 1.0:
            share = (center[axis] - low) / (high - low)
            words.append(WORDS[axis][min(2, max(0, int(3 * share)))])
    return ", ".join(filter(None, words))

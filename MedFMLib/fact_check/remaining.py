"""Decide what is left of a checked answer, from which unsupported numbers and sides were removed. Depends on text only."""

from __future__ import annotations

import re

from .checking import MARK
from .placeholders import UNKNOWN
from .quantities import sentences

REMOVED = (
    "The model's answer was removed because no measurement supports it: segment the structure in question first, or measure it "
    "yourself."
)
"""In place of an answer of which nothing is left."""

_FILLERS = (
    "a about an and approximately are around at by has have he her his i in is it its lie lies located measure measures of "
    "on or roughly she side size that the their there these they this those to volume was were with"
)
FILLERS = frozenset(_FILLERS.split())
"""Words that say nothing by themselves."""


def is_reduced(text: str) -> bool:
    """Return whether something was removed from a checked answer."""
    return MARK in text or UNKNOWN in text


def supported_part(text: str) -> str:
    """Return the sentences of a checked answer from which nothing was removed; "" if there is none."""
    kept = [text[start:stop].strip() for start, stop in sentences(text) if not is_reduced(text[start:stop])]
    return " ".join(kept)


def or_removed(text: str) -> str:
    """Return a checked answer, or `REMOVED` if only words that say nothing by themselves are left of it."""
    if not is_reduced(text):
        return text
    rest = text.replace(MARK, " ").replace(UNKNOWN, " ").lower()
    return text if set(re.findall(r"[^\W_]+", rest)) - FILLERS else REMOVED

"""State whether an image is of the kind that a model was made for, and mark what is computed of one that is not."""

from __future__ import annotations

from dataclasses import dataclass

OUTSIDE_MARK = " (outside of the model's domain)"
"""End of the name of every segment, and of every text, that a model made of an image which it was not made for."""


@dataclass(frozen=True)
class ImageDomain:
    """What a model takes an image for, and whether it was made for such images.

    Args:
        known: the model was made for images like this one.
        reason: why not, as the end of a sentence ("it shows a spine, not a head"); "" if it is known.
        chance: calibrated probability that the image is of the model's domain, 0…1.
        region: the body region that the image seems to show, "" if that is not clear.
        parts_outside: labels that can't be in the field of view.
    """

    known: bool
    reason: str = ""
    chance: float = 1.0
    region: str = ""
    parts_outside: tuple[str, ...] = ()


def marked(text: str) -> str:
    """Return a segment's name or a model's text with `OUTSIDE_MARK` at its end, once."""
    return text if text.endswith(OUTSIDE_MARK) else f"{text.rstrip()}{OUTSIDE_MARK}"


def unmarked(text: str) -> str:
    """Return a name or a text without `OUTSIDE_MARK`."""
    return text.removesuffix(OUTSIDE_MARK)

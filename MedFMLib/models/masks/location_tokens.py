"""Read and write PaliGemma's notation of boxes and masks: prompts, `<loc0000>` and `<seg000>`. No torch.

An object is four location tokens, then, when segmented, sixteen mask codes, then a name; objects are joined by " ; ":

    <loc0123><loc0045><loc0600><loc0512><seg001>…<seg127> liver ; <loc…

Locations are y_min x_min y_max x_max in 1/1023 of the picture from its top-left corner, as the published evaluator
reads them (google-research/big_vision, evaluators/proj/paligemma/transfers/segmentation.py). A model's output may be
truncated or wrong, so `parse` keeps complete objects and counts the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LOCATIONS = 1024
"""`<loc0000>` … `<loc1023>`."""

MASK_CODES = 128
"""`<seg000>` … `<seg127>`."""

CODES_PER_OBJECT = 16
"""A 64×64 mask is a 4×4 grid of codes, row by row."""

JOINT = " ; "
NOTHING = "none"
"""The complete answer if none of the requested structures is in the picture."""

LOCATION_TOKENS = tuple(f"<loc{n:04d}>" for n in range(LOCATIONS))
MASK_TOKENS = tuple(f"<seg{n:03d}>" for n in range(MASK_CODES))

_LOCATION = re.compile(r"<loc(\d{4})>")
_CODE = re.compile(r"<seg(\d{3})>")
_SPECIAL = re.compile(r"<(?:loc\d{4}|seg\d{3}|eos|bos|pad|unk|image)>")


@dataclass(frozen=True)
class DetectedObject:
    """One object in a model's output.

    Args:
        box: (y0, x0, y1, x1), each 0…1 from the top-left corner of the picture, y0 < y1 and x0 < x1.
        codes: 16 numbers 0…127, or None if the model gave a box only.
        name: name in the output, "" if there is none.
    """

    box: tuple[float, float, float, float]
    codes: tuple[int, ...] | None
    name: str


@dataclass(frozen=True)
class ParsedObjects:
    """Objects in a model's output.

    Args:
        objects: the complete ones.
        dropped: number of incomplete or invalid ones.
    """

    objects: tuple[DetectedObject, ...]
    dropped: int = 0


def location_token(position: float) -> str:
    """Return the token of a position 0…1; positions outside are clipped."""
    return LOCATION_TOKENS[round(min(1.0, max(0.0, position)) * (LOCATIONS - 1))]


def format_object(box: Sequence[float], codes: Sequence[int] | None, name: str) -> str:
    """Return one object in the notation.

    Args:
        box: (y0, x0, y1, x1), each 0…1.
        codes: 16 mask codes, or None for a box only.
        name: name of the structure.

    Raises:
        ValueError: if there are not four positions, or not 16 codes of 0…127.
    """
    if len(box) != 4:
        raise ValueError(f"A box has four positions (y0, x0, y1, x1), not {len(box)}.")
    if codes is not None and (len(codes) != CODES_PER_OBJECT or not all(0 <= c < MASK_CODES for c in codes)):
        raise ValueError(f"A mask has {CODES_PER_OBJECT} codes of 0 to {MASK_CODES - 1}, not {list(codes)}.")
    mask = "" if codes is None else "".join(MASK_TOKENS[int(c)] for c in codes)
    return "".join(location_token(p) for p in box) + mask + f" {name}"


def format_objects(objects: Iterable[str]) -> str:
    """Return objects from `format_object` as one answer; `none` if there are none."""
    return JOINT.join(objects) or NOTHING


def parse(text: str) -> ParsedObjects:
    """Parse a model's answer to `detect` or `segment`.

    An object is dropped, and counted, if it has fewer than four locations, an inverted or empty box, or some but not
    all of its mask codes. Extra tokens beyond the four locations and sixteen codes are ignored.
    """
    objects, dropped = [], 0
    for piece in text.replace("\n", " ").split(";"):
        locations = [int(n) for n in _LOCATION.findall(piece)]
        codes = [int(n) for n in _CODE.findall(piece)]
        if not locations and not codes:
            continue  # plain words, such as "none", are not an object
        y0, x0, y1, x1 = locations[:4] if len(locations) >= 4 else (0, 0, 0, 0)
        complete = y1 > y0 and x1 > x0 and max(locations) < LOCATIONS
        if codes:
            complete &= len(codes) >= CODES_PER_OBJECT and max(codes[:CODES_PER_OBJECT]) < MASK_CODES
        if not complete:
            dropped += 1
            continue
        last = LOCATIONS - 1
        objects.append(
            DetectedObject(
                (y0 / last, x0 / last, y1 / last, x1 / last),
                tuple(codes[:CODES_PER_OBJECT]) if codes else None,
                " ".join(_SPECIAL.sub(" ", piece).split()),
            )
        )
    return ParsedObjects(tuple(objects), dropped)


def parse_objects(text: str) -> list[DetectedObject]:
    """Return the complete objects of a model's answer; `parse` also returns how many were dropped."""
    return list(parse(text).objects)


# -- prompts -------------------------------------------------------------------------------------


def answer_prompt(question: str) -> str:
    """Return the prompt for a question about the picture."""
    return f"answer en {question.strip()}"


def caption_prompt() -> str:
    """Return the prompt for one short sentence."""
    return "caption en"


def describe_prompt() -> str:
    """Return the prompt for a longer description."""
    return "describe en"


def detect_prompt(names: Sequence[str]) -> str:
    """Return the prompt for boxes."""
    return "detect " + JOINT.join(names)


def segment_prompt(names: Sequence[str]) -> str:
    """Return the prompt for boxes with masks."""
    return "segment " + JOINT.join(names)

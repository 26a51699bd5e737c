"""Parse the options `--point` and `--box` to prompts. Knows their format; no slices or models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from ..core.geometry import Geometry
from ..core.prompts import Points, Prompt
from ..core.slice_prompts import box_between
from ..errors import InputError

PointTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--point", metavar="R,A,S[,+|-][,NAME]",
        help="Point in (+) or outside (-) of a structure, RAS mm, for a model with point prompts; repeat for several.",
    ),
]  # fmt: skip
BoxTexts = Annotated[
    list[str] | None,
    typer.Option(
        "--box", metavar="R,A,S,R,A,S[,NAME]", help="Two opposite corners of a box around a structure, RAS mm."
    ),
]


def read_prompts_from_options(points: Sequence[str], boxes: Sequence[str], geometry: Geometry) -> tuple[Prompt, ...]:
    """Return the prompts, with the points of each name combined.

    Args:
        points: texts of --point.
        boxes: texts of --box.
        geometry: the image's grid.

    Raises:
        InputError: if a text has not the format in the option's help.
    """
    signed: dict[str, tuple[list, list]] = {}
    for text in points:
        numbers, rest = _numbers(text, 3, "point")
        outside = bool(rest) and rest[0] in ("+", "-") and rest.pop(0) == "-"
        signed.setdefault(_name(rest, text, "point"), ([], []))[outside].append(numbers)
    made: list[Prompt] = [Points(inside, outside, name) for name, (inside, outside) in signed.items()]
    for text in boxes:
        numbers, rest = _numbers(text, 6, "box")
        made.append(box_between(numbers[:3], numbers[3:], geometry, _name(rest, text, "box")))
    return tuple(made)


def _numbers(text: str, count: int, what: str) -> tuple[list[float], list[str]]:
    parts = [part.strip() for part in text.split(",")]
    try:
        if len(parts) < count:
            raise ValueError
        return [float(part) for part in parts[:count]], parts[count:]
    except ValueError:
        raise _wrong(text, what) from None


def _name(rest: list[str], text: str, what: str) -> str:
    if len(rest) > 1:
        raise _wrong(text, what)
    return rest[0] if rest else ""


def _wrong(text: str, what: str) -> InputError:
    form = {"point": "R,A,S or R,A,S,-,name", "box": "R,A,S,R,A,S or R,A,S,R,A,S,name"}[what]
    return InputError(f"A {what} must be {form}, with numbers in mm, not '{text}'.")

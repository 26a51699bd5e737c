"""Look up names of structures: coded concepts, sides, colours, spelling. Depends on the terminology file only."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from hashlib import sha256

from ..errors import InputError
from ..storage import resources
from .findings import Code

SIDES = ("left", "right")


@dataclass(frozen=True)
class Structure:
    """An entry of the terminology.

    Args:
        label: normalised name with the side first, e.g. "left lung".
        category: coded property category.
        code: coded property type, or None for names outside the terminology.
        side: coded laterality, or None.
        color: red, green, blue, 0…1.
        midline: whether it lies in the mid-sagittal plane, so that a side would be a shift.
    """

    label: str
    category: Code
    code: Code | None
    side: Code | None
    color: tuple[float, float, float]
    midline: bool = False


@lru_cache(maxsize=1)
def _table() -> dict:
    return resources.load_json("terminology", "structures.json")


@lru_cache(maxsize=1)
def _aliases() -> dict[str, str]:
    return {
        alias: name for name, entry in _table()["structures"].items() for alias in [name, *entry.get("aliases", [])]
    }


def split_side(label: str) -> tuple[str, str]:
    """Return ("left" | "right" | "", rest) of a name; the side may come first or last: "lung, left"."""
    words = label.lower().replace(",", " ").replace("_", " ").split()
    sides = [word for word in words if word in SIDES]
    rest = " ".join(word for word in words if word not in SIDES)
    return (sides[0] if len(sides) == 1 else ""), (rest if len(sides) == 1 else " ".join(words))


def is_known(name: str) -> bool:
    """Return whether the terminology has this structure, given without its side and in the singular or plural."""
    return name.lower() in _aliases() or name.lower().removesuffix("s") in _aliases()


def aliases() -> dict[str, str]:
    """Return every name of a known structure, without side and in lower case → its normalised name."""
    return dict(_aliases())


def structures_in(text: str) -> list[str]:
    """Return the names, without side, of known structures in a text; the longest where one name contains another."""
    low = text.lower()
    found: list[tuple[int, str]] = []
    for alias in sorted(_aliases(), key=len, reverse=True):
        for match in re.finditer(rf"\b{re.escape(alias)}(?:e?s)?\b", low):
            found.append((match.start(), _aliases()[alias]))
            low = low[: match.start()] + " " * len(match[0]) + low[match.end() :]
    return list(dict.fromkeys(name for _, name in sorted(found)))


def normalize(label: str) -> str:
    """Return the normalised name: lower case, side first, aliases replaced.

    "Lung Left" becomes "left lung", "Brain Stem" becomes "brainstem".
    """
    side, name = split_side(label)
    name = _aliases().get(name, _aliases().get(name.removesuffix("s"), name))
    return f"{side} {name}".strip()


def structure(label: str) -> Structure:
    """Return the terminology entry of a name; unknown names get a stable colour and no code."""
    side, name = split_side(normalize(label))
    table = _table()
    entry = table["structures"].get(name)
    color = tuple(entry["color"]) if entry else tuple(0.35 + b / 255 * 0.6 for b in sha256(label.encode()).digest()[:3])
    if side == "left":  # left and right structures get distinguishable colours
        color = tuple(round(c, 3) for c in (0.55 * color[2] + 0.25, 0.7 * color[1], 0.6 * color[0] + 0.1))
    return Structure(
        label=normalize(label),
        category=Code(*table["category"]),
        code=Code(*entry["code"]) if entry else None,
        side=Code(*table["sides"][side]) if side else None,
        color=color,
        midline=not side and bool(entry and entry.get("midline")),
    )


def choose(asked: Iterable[str], known: Iterable[str], who: str) -> tuple[str, ...]:
    """Return the requested labels in the model's spelling; a name without a side selects both sides.

    Args:
        asked: requested labels, in any spelling.
        known: labels that the model knows.
        who: name of the model, for the error message.

    Raises:
        InputError: for a label that the model does not know, with similar labels.
    """
    known = list(known)
    chosen: list[str] = []
    for label in asked:
        name = normalize(label)
        options = [name] if name in known else [f"{side} {name}" for side in SIDES if f"{side} {name}" in known]
        if not options:
            near = get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(near)}?" if near else f"it knows {', '.join(known)}."
            raise InputError(f"{who} does not know '{label}'; {hint}")
        chosen += [option for option in options if option not in chosen]
    return tuple(chosen)

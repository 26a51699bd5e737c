"""Render the approved parts that patient mode shows: the one door between a job and the patient's screen.

A part is an id and its slots. The texts are data (`Resources/patient/<language>.json`), and a slot takes one kind of value:
a structure of the glossary, its explanation, a term, a volume, a number, a text that the clinic approved, or the patient's
own words. There is no slot for a language model's words, except `free`, which stays empty unless the clinic turned it on.
Whatever is no valid part becomes the text for a problem.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from string import Formatter

from ..core.findings import Part
from .glossary import Glossary, glossary
from .settings import PatientSettings

STAFF = Part("staff")
"""The line that every reply and refusal carries."""

TROUBLE = Part("trouble")
"""What is shown instead of anything that is no valid part."""

MOST_STRUCTURES = 60
MOST_OWN = 500
"""Largest number of letters of the patient's own words that are repeated."""

LITERS_FROM = 1000.0
"""Volume in mL from which liters are used."""

CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")
INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+")


def render(
    parts: Part | Sequence[Part], language: str = "", settings: PatientSettings | None = None, line: str = " "
) -> str:
    """Return the text of parts; a part that is not valid becomes "Something did not work".

    Args:
        parts: one or several.
        language: of the texts; another than those of `languages()` means the clinic's.
        settings: the clinic's choices; by default everything that is optional is off.
        line: what stands between the parts; the line for the staff always begins a line of its own.
    """
    settings = settings or PatientSettings()
    language = settings.spoken(language)
    words, text = glossary(language), ""
    for part in (parts,) if isinstance(parts, Part) else parts:
        rendered = _one(part, words, language, settings)
        if rendered is None:
            rendered = _one(TROUBLE, words, language, settings) or ""
        between = "\n" if isinstance(part, Part) and part.id == STAFF.id else line
        text += between + rendered if text and rendered else rendered
    return text


def is_valid(part: Part, language: str = "", settings: PatientSettings | None = None) -> bool:
    """Return whether a part has an approved text, and values of the right kind in all of its slots.

    Args:
        part: the part.
        language: see `render`.
        settings: see `render`.
    """
    settings = settings or PatientSettings()
    language = settings.spoken(language)
    return _one(part, glossary(language), language, settings) is not None


def slots_of(template: str) -> tuple[str, ...]:
    """Return the names of the slots of a text, in order."""
    return tuple(name for _, name, _, _ in Formatter().parse(template) if name is not None)


def plain_volume(milliliters: float, words: Glossary | None = None) -> str:
    """Return for example "1.2 liters" or "166 mL", at the precision of automatic segmentation.

    Args:
        milliliters: the volume.
        words: of the language; English by default.
    """
    words = words or glossary()
    if milliliters >= LITERS_FROM:
        number, unit = f"{milliliters / 1000:.1f}", "liters"
    else:
        number, unit = f"{milliliters:.0f}" if milliliters >= 10 else f"{milliliters:.1f}", "milliliters"
    return words.parts[unit].format(number=number.replace(".", words.parts["decimal"]))


# -- slots --------------------------------------------------------------------------------------------------


def _one(part: Part, words: Glossary, language: str, settings: PatientSettings) -> str | None:
    """Return the text of one part; None if it is not valid."""
    if not isinstance(part, Part) or not isinstance(part.id, str) or not isinstance(part.slots, dict):
        return None
    template = words.template(part.id)
    if template is None or set(slots_of(template)) != set(part.slots):
        return None
    filled = {}
    for name, value in part.slots.items():
        kind = SLOTS.get(name)
        text = kind(value, words, language, settings) if kind is not None else None
        if not text:
            return None
        filled[name] = text
    text = template.format(**filled)
    return text[:1].upper() + text[1:] if template.startswith("{") and "own" not in filled else text


def _structure(value, words: Glossary, *_) -> str | None:
    return words.plain(value) if isinstance(value, str) and words.knows(value) else None


def _structures(value, words: Glossary, *_) -> str | None:
    if not isinstance(value, tuple) or not 0 < len(value) <= MOST_STRUCTURES:
        return None
    if not all(isinstance(label, str) and words.knows(label) for label in value):
        return None
    return words.parts["comma"].join(dict.fromkeys(words.name(label) for label in value))


def _missing(value, words: Glossary, *_) -> str | None:
    """Return names with their sides, each a sentence of its own, so that every one can be compared with the report."""
    if _structures(value, words) is None:
        return None
    names = dict.fromkeys(words.plain(label) for label in value)
    return ". ".join(name[:1].upper() + name[1:] for name in names)


def _explanation(value, words: Glossary, *_) -> str | None:
    return words.what(value) if isinstance(value, str) else None


def _meaning(value, words: Glossary, *_) -> str | None:
    return ": ".join(words.terms[value]) if isinstance(value, str) and value in words.terms else None


def _volume(value, words: Glossary, *_) -> str | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return plain_volume(float(value), words) if known and 0 < value < 1e5 else None


def _number(value, *_) -> str | None:
    known = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if known and 0 <= value < 1_000_000 else None


def _clock(value, *_) -> str | None:
    return value if isinstance(value, str) and CLOCK.fullmatch(value) else None


def _own(value, *_) -> str | None:
    """Return the patient's own words on one line, without signs that can't be seen."""
    return " ".join(INVISIBLE.sub(" ", value).split())[:MOST_OWN] if isinstance(value, str) else None


def _clinic(value, words: Glossary, language: str, settings: PatientSettings) -> str | None:
    return settings.text(language, value) or None if isinstance(value, str) else None


def _free(value, words: Glossary, language: str, settings: PatientSettings) -> str | None:
    return _own(value) if settings.free_text else None


SLOTS: dict[str, Callable[..., str | None]] = {
    "structure": _structure,
    "structures": _structures,
    "missing": _missing,
    "explanation": _explanation,
    "meaning": _meaning,
    "volume": _volume,
    "number": _number,
    "clock": _clock,
    "own": _own,
    "clinic": _clinic,
    "free": _free,
}
"""Name of a slot → what it shows of a value; None for a value that it does not take."""

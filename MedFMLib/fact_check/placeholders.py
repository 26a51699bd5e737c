"""Fill placeholders that a language model may write in place of numbers: {liver.volume}, {left kidney.side}.

Names are those of measurements in lower case; spaces may be underscores. Where several segments have one label, the
name has the segment's place too. A placeholder without a measurement is reported, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..core.findings import Measurement
from ..core.measurements import names_of
from .checking import failed_words

PLACEHOLDER = re.compile(r"\{\s*([^{}.]+?)\s*\.\s*([^{}]+?)\s*\}")
UNKNOWN = "[not measured]"
"""Text in place of a placeholder that could not be filled."""


def names(measurements: Sequence[Measurement]) -> list[str]:
    """Return every placeholder that can be filled, as listed in a model's prompt."""
    named = names_of(m.key for m in measurements)
    return [f"{{{named[m.key]}.{m.name}}}" for m in measurements if m.is_reliable]


def fill(text: str, measurements: Sequence[Measurement]) -> tuple[str, tuple[str, ...]]:
    """Replace the placeholders in a text by measured values.

    Args:
        text: the text.
        measurements: of all structures.

    Returns:
        (the text with every placeholder filled, those that could not be)
    """
    named = names_of(m.key for m in measurements)
    known = {(_plain(named[m.key]), _plain(m.name)): m for m in measurements}
    unfilled: list[str] = []

    def value(match: re.Match) -> str:
        found = known.get((_plain(match[1]), _plain(match[2])))
        if found is None or not found.is_reliable:
            unfilled.append(match[0])
            return UNKNOWN if found is None else f"[not stated: {failed_words([found])}]"
        return phrase(found)

    return PLACEHOLDER.sub(value, text), tuple(unfilled)


def why_unfilled(placeholder: str, measurements: Sequence[Measurement]) -> str:
    """Return why a placeholder could not be filled.

    Args:
        placeholder: as in the text, with its braces.
        measurements: of all structures.
    """
    match = PLACEHOLDER.fullmatch(placeholder)
    named = names_of(m.key for m in measurements)
    of = [m for m in measurements if match and _plain(named[m.key]) == _plain(match[1]) and not m.is_reliable]
    return failed_words(of) or "nothing of that name was measured"


def phrase(measurement: Measurement) -> str:
    """Return a measurement's value as written in a sentence: "1450 mL", "left"."""
    if isinstance(measurement.value, str):
        return measurement.value
    unit = "HU" if measurement.unit == "[hnsf'U]" else measurement.unit
    value = measurement.value
    number = f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.3g}"
    return f"{number} {unit}".rstrip()


def _plain(text: str) -> str:
    return " ".join(text.replace("_", " ").lower().split())

"""Find claims in a text: numbers with their units, counts, sides. Depends on words and units; knows no measurements.

Units are converted to one of each kind: lengths to mm, volumes to mL, areas to mm², radiodensity to HU; others keep
their name
and count as unsupported, unless a measurement has exactly that unit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

UNITS: dict[str, tuple[str, float]] = {
    "mm": ("mm", 1.0), "millimeter": ("mm", 1.0), "millimetre": ("mm", 1.0), "millimeters": ("mm", 1.0),
    "millimetres": ("mm", 1.0), "cm": ("mm", 10.0), "centimeter": ("mm", 10.0), "centimetre": ("mm", 10.0),
    "centimeters": ("mm", 10.0), "centimetres": ("mm", 10.0), "dm": ("mm", 100.0), "m": ("mm", 1000.0),
    "inch": ("mm", 25.4), "inches": ("mm", 25.4), "in": ("mm", 25.4), "µm": ("mm", 1e-3), "um": ("mm", 1e-3),
    "ml": ("mL", 1.0), "milliliter": ("mL", 1.0), "millilitre": ("mL", 1.0), "milliliters": ("mL", 1.0),
    "millilitres": ("mL", 1.0), "cc": ("mL", 1.0), "ccm": ("mL", 1.0), "cm3": ("mL", 1.0), "cm³": ("mL", 1.0),
    "l": ("mL", 1000.0), "liter": ("mL", 1000.0), "litre": ("mL", 1000.0), "liters": ("mL", 1000.0), "litres": ("mL", 1000.0),
    "dl": ("mL", 100.0), "cl": ("mL", 10.0), "mm3": ("mL", 1e-3), "mm³": ("mL", 1e-3), "µl": ("mL", 1e-3),
    "mm2": ("mm2", 1.0), "mm²": ("mm2", 1.0), "cm2": ("mm2", 100.0), "cm²": ("mm2", 100.0),
    "hu": ("HU", 1.0), "[hnsf'u]": ("HU", 1.0), "hounsfield": ("HU", 1.0),
    "%": ("%", 1.0), "percent": ("%", 1.0),
}  # fmt: skip
"""Unit in lower case → (base unit, factor)."""

OTHER_UNITS = (
    "kg", "g", "mg", "µg", "mcg", "years", "year", "months", "month", "weeks", "week", "days", "day", "hours", "hour", "minutes",
    "times", "fold", "degrees", "degree", "°", "°c", "mmhg", "bpm", "mmol", "mg/dl", "ms", "seconds", "s", "mci", "mbq", "suv",
)  # fmt: skip
"""Units that no measurement of MedFM has."""

NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:[.,]\d+)?"
UNIT = "|".join(sorted(map(re.escape, (*UNITS, *OTHER_UNITS)), key=len, reverse=True))
FACTORS = rf"(?:{NUMBER})(?:\s*(?:[x×*]|by)\s*(?:{NUMBER}))+"
QUANTITY = re.compile(
    rf"(?<![\w.,])(?P<sign>[-−–+±~≈<>≤≥]?\s?)(?P<numbers>{FACTORS}|(?:{NUMBER})(?:\s*(?:-|–|to|and|±)\s*(?:{NUMBER}))?)"
    rf"(?:\s*-?\s*(?P<unit>{UNIT})(?![\w²³]))?(?![\w])(?!\.\d)",
    re.IGNORECASE,
)

NAMES = re.compile(
    r"\b(?:[CTLS]\d{1,2}(?:\s*[-–/]\s*[CTLS]?\d{1,2})?(?=\s*(?:vertebra|level|disc|disk|nerve|body|root))|T[12](?:[-\s]?weighted|\b)"
    r"|FLAIR|PD|[A-Za-z]+-?\d+[A-Za-z]*)\b",
)
"""Names with digits in them: T1, T2-weighted, L4 vertebra, MNI152."""

WORDS = {
    word: value
    for value, words in enumerate(
        ("no zero", "one a an single", "two both pair", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
         "twelve")
    )
    for word in words.split()
}  # fmt: skip
MORE_WORDS = (
    "half",
    "third",
    "quarter",
    "double",
    "twice",
    "triple",
    "dozen",
    "hundred",
    "thousand",
    "several",
    "multiple",
)
NUMBER_WORD = re.compile(
    r"\b(zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|"
    r"hundred|thousand|dozen)\b",
    re.IGNORECASE,
)
VAGUE = re.compile(
    r"\b(?:(?:twice|double|triple|half|(?:a|one|two)[\s-](?:third|quarter|fifth)s?|three[\s-]quarters)(?:\s+of)?(?:\s+(?:as|the|its)\s+\w+"
    r"(?:\s+(?:as|of))?)?)\b",
    re.IGNORECASE,
)
"""Ratios in words, which no measurement of MedFM supports."""

SIDE = re.compile(
    r"\b(left|right|bilateral(?:ly)?|both\s+sides|midline|left[\s-]sided|right[\s-]sided)\b", re.IGNORECASE
)
LONGEST_SENTENCE = 800
"""Letters of a sentence that are looked at together."""

SENTENCE_END = re.compile(r"[.!?]+(?=\s|$|[\"”’)])|\n")


@dataclass(frozen=True)
class Quantity:
    """A number in a text.

    Args:
        start: index of its first character.
        end: index after its last character.
        values: one, or those of a product or range, in `unit`.
        tolerance: half of the last digit in the text, in `unit`.
        unit: "mm", "mL", "mm2", "HU", "%"; "" for a bare number; any other as written.
    """

    start: int
    end: int
    values: tuple[float, ...]
    tolerance: float
    unit: str


def quantities(text: str) -> list[Quantity]:
    """Return every number in a text that is not part of a name."""
    names = {n for match in NAMES.finditer(text) for n in range(*match.span())}
    found = []
    for match in QUANTITY.finditer(text):
        begin = match.start("numbers")
        if begin in names:
            continue
        raw = re.findall(NUMBER, match["numbers"])
        unit, factor = UNITS.get((match["unit"] or "").lower(), ((match["unit"] or "").lower(), 1.0))
        negative = match["sign"].strip() in ("-", "−", "–") and (
            match.start() == 0 or not text[match.start() - 1].isalnum()
        )
        values = [_value(part) * factor for part in raw]
        values[0] = -values[0] if negative else values[0]
        tolerance = max(_last_digit(part) for part in raw) * factor / 2
        found.append(Quantity(match.start("sign") if negative else begin, match.end(), tuple(values), tolerance, unit))
    for match in NUMBER_WORD.finditer(text):
        unit = re.match(rf"[\s-]*({UNIT})(?![\w²³])", text[match.end() :], re.IGNORECASE)
        name, factor = UNITS.get(unit[1].lower(), (unit[1].lower(), 1.0)) if unit else ("", 1.0)
        value = WORDS.get(match[0].lower(), -1) * factor
        found.append(Quantity(match.start(), match.end() + (unit.end() if unit else 0), (value,), factor / 2, name))
    for match in VAGUE.finditer(text):
        found.append(Quantity(match.start(), match.end(), (-1.0,), 0.0, "ratio"))
    return sorted(_outermost(found), key=lambda quantity: quantity.start)


def sentences(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of each sentence; a decimal point does not end a sentence.

    One that is longer than any sentence is cut at white space, since the work on a sentence grows with its square.
    """
    found, start = [], 0
    for stop in (*(match.end() for match in SENTENCE_END.finditer(text)), len(text)):
        while stop - start > LONGEST_SENTENCE:
            space = text.rfind(" ", start + 1, start + LONGEST_SENTENCE)
            cut = space + 1 if space > 0 else start + LONGEST_SENTENCE
            found.append((start, cut))
            start = cut
        found.append((start, stop))
        start = stop
    return [(start, stop) for start, stop in found if text[start:stop].strip()]


def _outermost(found: list[Quantity]) -> list[Quantity]:
    """Return those that no longer one contains."""
    kept, reach, before = [], -1, (-1, -1)
    for one in sorted(found, key=lambda quantity: (quantity.start, -quantity.end)):
        if one.end > reach or (one.start, one.end) == before:  # equal ones don't contain each other
            kept.append(one)
            before = (one.start, one.end)
        reach = max(reach, one.end)
    return kept


def _value(text: str) -> float:
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", text):
        return float(text.replace(",", ""))
    return float(text.replace(",", "."))


def _last_digit(text: str) -> float:
    if re.fullmatch(r"\d{1,3}(,\d{3})+(\.\d+)?", text):
        text = text.replace(",", "")
    decimals = re.split(r"[.,]", text)
    return 10.0 ** -len(decimals[1]) if len(decimals) > 1 else 1.0

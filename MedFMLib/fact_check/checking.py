"""Remove from a text what no measurement supports: numbers, units, counts and sides.

Depends on measurements and labels.

A number stays if a measurement of the same kind, of a structure that its sentence names (of any, if it names none),
equals it
at the precision of the text. A side stays if a structure that its sentence names lies there. What is removed is
replaced by
a marker, which is visible to the reader, and is listed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.findings import Measurement
from ..core.terminology import is_known, structure
from .quantities import SIDE, Quantity, quantities, sentences

MARK = "[not supported by a measurement]"

KINDS = {"mm": "mm", "mL": "mL", "mm2": "mm2", "[hnsf'U]": "HU", "%": "%"}
SIDES = ("left", "right")


@dataclass(frozen=True)
class RemovedClaim:
    """A statement that was removed.

    Args:
        text: the removed text.
        sentence: the original sentence.
        reason: why it was removed, in a few words.
    """

    text: str
    sentence: str
    reason: str


@dataclass(frozen=True)
class CheckedText:
    """A text without unsupported statements.

    Args:
        text: the checked text.
        removed: what was removed.
    """

    text: str
    removed: tuple[RemovedClaim, ...]


def check(
    text: str,
    measurements: Sequence[Measurement],
    labels: Sequence[str] = (),
    allowed: Sequence[str] = (),
    about: Sequence[str] = (),
) -> CheckedText:
    """Check a text against measurements.

    Args:
        text: the text.
        measurements: of all segments.
        labels: structures that exist without a measurement.
        allowed: phrases with numbers that are facts of another kind, such as "axial slice 47" or "1.5 T"; they stay.
        about: labels that a sentence without a structure refers to, such as those in the question.
    """
    known = _Known(measurements, labels, about)
    removed: list[RemovedClaim] = []
    pieces: list[str] = []
    end = 0
    for start, stop in sentences(text):
        pieces.append(text[end:start])
        pieces.append(_check_sentence(text[start:stop], known, allowed, removed))
        end = stop
    pieces.append(text[end:])
    return CheckedText("".join(pieces), tuple(removed))


class _Known:
    """The measurements, by structure."""

    def __init__(self, measurements: Sequence[Measurement], labels: Sequence[str], about: Sequence[str] = ()):
        self.measurements, self.about = measurements, list(about)
        self.labels = tuple(dict.fromkeys((*(m.segment for m in measurements), *labels)))
        keys = {m.key for m in measurements}
        self.counts = {label: max(1, sum(key[1] == label for key in keys)) for label in self.labels}
        self.measured_sides: dict[str, set[str]] = {}
        for m in measurements:
            if m.name == "side" and m.is_reliable:
                self.measured_sides.setdefault(m.segment, set()).add(str(m.value).lower())

    def named_in(self, sentence: str) -> list[str]:
        """Return the labels that a sentence names, with or without their side.

        If it gives a side, without those of the other side.
        """
        low = sentence.lower()
        found = [label for label in self.labels if _has(low, label.lower())]
        bases = {base_of(label) for label in found}
        for label in self.labels:
            base = base_of(label)
            if base != label.lower() and base not in bases and _has(low, base):
                found.append(label)
        return found or list(self.about)

    def sides(self, label: str) -> set[str]:
        """Return the sides of the structures with a label: the one in the name, those measured, or the midline by anatomy."""
        first = label.lower().split()[:1]
        if first and first[0] in SIDES:
            return set(first)
        return self.measured_sides.get(label) or ({"midline"} if structure(label).midline else set())

    def failed(self, named: Sequence[str]) -> str:
        """Return why no number of these structures may be stated, if the outlines of all failed a rule; else ""."""
        of = [m for m in self.measurements if m.segment in named]
        return failed_words(of) if of and not any(m.is_reliable for m in of) else ""

    def count(self, labels: Sequence[str]) -> int:
        """Return how many structures have these labels; several may have one label."""
        return sum(self.counts[label] for label in labels)


def failed_words(measurements: Sequence[Measurement]) -> str:
    """Return "the outline failed a check: …" for measurements of outlines that did; "" if none of them did."""
    why = "; ".join(dict.fromkeys(m.failed for m in measurements if m.failed))
    return f"the outline failed a check: {why}" if why else ""


def structures_named(text: str, labels: Sequence[str]) -> list[str]:
    """Return the labels that a text names, with or without their side.

    Args:
        text: the text.
        labels: candidates.
    """
    return _Known((), labels).named_in(text)


def base_of(label: str) -> str:
    """Return a label without its side, in lower case: "kidney" for "left kidney"."""
    words = label.lower().split()
    return " ".join(words[1:] if words and words[0] in SIDES and len(words) > 1 else words)


def _has(sentence: str, name: str) -> bool:
    """Return whether a sentence (lower case) contains a name, in singular or plural."""
    return re.search(rf"\b{re.escape(name)}(?:e?s)?\b", sentence) is not None


def _check_sentence(sentence: str, known: _Known, allowed: Sequence[str], removed: list[RemovedClaim]) -> str:
    safe = [m.span() for phrase in allowed for m in re.finditer(re.escape(phrase), sentence, re.IGNORECASE)]

    def is_safe(start: int, end: int) -> bool:
        return any(a <= start and end <= b for a, b in safe)

    cuts: list[tuple[int, int, str]] = []
    for quantity in quantities(sentence):
        if not is_safe(quantity.start, quantity.end) and (reason := _unsupported(quantity, sentence, known)):
            cuts.append((quantity.start, quantity.end, reason))
    for match in SIDE.finditer(sentence):
        if not is_safe(*match.span()) and (reason := _wrong_side(match, sentence, known)):
            cuts.append((*match.span(), reason))
    text = sentence
    for start, end, reason in sorted(cuts, reverse=True):
        removed.append(RemovedClaim(sentence[start:end].strip(), sentence.strip(), reason))
        text = text[:start] + MARK + text[end:]
    return re.sub(rf"{re.escape(MARK)}(?:[\s,×x-]*{re.escape(MARK)})+", MARK, text)


def _unsupported(quantity: Quantity, sentence: str, known: _Known) -> str:
    """Return why a number must be removed; "" if it may stay."""
    named = _nearest(quantity.start, sentence, known) or known.about or list(known.labels)
    if not quantity.unit:
        return _unsupported_count(quantity, sentence, known)
    if failed := known.failed(named):
        return failed
    kinds = [m for m in known.measurements if m.segment in named and not isinstance(m.value, str) and m.is_reliable]
    values = [float(m.value) for m in kinds if KINDS.get(m.unit, m.unit) == quantity.unit]
    if not values:
        return f"nothing was measured in {quantity.unit}" + (f" of {', '.join(named)}" if known.measurements else "")
    missing = [v for v in quantity.values if not any(abs(v - value) <= quantity.tolerance * 1.0001 for value in values)]
    return (
        f"the measured values are others ({', '.join(f'{v:.4g}' for v in values[:4])} {quantity.unit})"
        if missing
        else ""
    )


def _unsupported_count(quantity: Quantity, sentence: str, known: _Known) -> str:
    """Return why a bare number must be removed; it stays if it is the number of existing structures."""
    after = sentence[quantity.end :].lower()
    for base in sorted({base_of(label) for label in known.labels}, key=len, reverse=True):
        if re.match(rf"\s+(?:\w+\s+){{0,2}}?{re.escape(base)}(?:e?s)?\b", after):
            count = known.count([label for label in known.labels if base_of(label) == base])
            return "" if quantity.values == (float(count),) else f"there are {count} such structures"
    if re.match(r"\s+(?:segmented\s+|delineated\s+|measured\s+)?(?:structures|segments|organs)\b", after):
        count = known.count(known.labels)
        return "" if quantity.values == (float(count),) else f"there are {count} structures"
    if quantity.values == (1.0,) and not sentence[quantity.start].isdigit():
        return ""  # "one of", "one can see"
    return "a bare number that counts nothing that was found"


def _nearest(position: int, sentence: str, known: _Known) -> list[str]:
    """Return the labels that a number in a sentence refers to.

    Those of the last name before it, else of the next one after it.
    """
    places: list[tuple[int, int, str]] = []
    low = sentence.lower()
    for label in known.named_in(sentence):
        for name in {label.lower(), base_of(label)}:
            places += [(m.start(), m.end(), label) for m in re.finditer(rf"\b{re.escape(name)}(?:e?s)?\b", low)]
    if not places:
        return []
    before = [place for place in places if place[1] <= position]
    if before:
        start = max(place[0] for place in before)
        # the longest name that ends there: "left kidney" rather than "kidney"
        end = max(place[1] for place in before if place[0] <= start)
        reach = [place for place in before if place[1] == end]
    else:
        first = min(place[1] for place in places)
        reach = [place for place in places if place[1] == first]
    begin = min(place[0] for place in reach)
    bases = {base_of(place[2]) for place in reach}
    if any(
        low[place[0] : place[1]] not in (place[2].lower(), base_of(place[2])) for place in reach
    ):  # a plural refers to all of them
        return sorted(label for label in known.labels if base_of(label) in bases)
    return sorted({place[2] for place in reach if place[0] == begin})


def _wrong_side(match: re.Match, sentence: str, known: _Known) -> str:
    """Return why a side must be removed; "" if it may stay."""
    word = re.sub(r"[\s-]sided", "", match[1].lower())
    named = known.named_in(sentence)
    if named and word.startswith(("bilateral", "both")):
        pairs = {base_of(label) for label in named}
        have = {(base_of(label), side) for label in known.labels for side in known.sides(label)}
        return "" if any({(b, "left"), (b, "right")} <= have for b in pairs) else "it was not found on both sides"
    after = sentence[match.end() :].lower()
    for base in sorted({base_of(label) for label in known.labels}, key=len, reverse=True):
        if re.match(rf"(?:\s+and\s+(?:left|right))?\s+{re.escape(base)}(?:e?s)?\b", after):
            there = [label for label in known.labels if base_of(label) == base and word in known.sides(label)]
            return "" if there else f"no {word} {base} was found"
    if named_on_both_sides(match, sentence):
        return ""  # named with both sides, so it states no side
    if not named:
        return "no structure that was found is named with it"
    if word in SIDES and (name := _noun_after(match, sentence)):
        return f"the {word} {name} was not measured"
    sides = {side for label in _about(match.start(), sentence, known, named) for side in known.sides(label)}
    return "" if word in sides else f"measured: {', '.join(sorted(filter(None, sides))) or 'no side'}"


def named_on_both_sides(match: re.Match, text: str) -> bool:
    """Return whether the structure that a side belongs to is also named with its other side.

    Args:
        match: a match of `SIDE` in the text.
        text: the text.
    """
    word, name = match[1].lower(), _noun_after(match, text)
    other = SIDES[1 - SIDES.index(word)] if word in SIDES else ""
    return bool(name and other and re.search(rf"\b{other}\s+{re.escape(name)}\b", text, re.IGNORECASE))


def _noun_after(match: re.Match, text: str) -> str:
    """Return the known structure whose name follows a side; "" if none does."""
    noun = re.match(r"\s+((?:[a-z]+[ -]?){1,3})", text[match.end() :].lower())
    return _structure_in(noun[1]) if noun else ""


def _structure_in(words: str) -> str:
    """Return the longest name of a known structure that words begin with; "" if they begin with none."""
    parts = words.replace("-", " ").split()
    for count in range(len(parts), 0, -1):
        name = " ".join(parts[:count])
        if is_known(name):
            return name
    return ""


def _about(position: int, sentence: str, known: _Known, named: list[str]) -> list[str]:
    return _nearest(position, sentence, known) or named

"""Check answers to questions against measurements. Interprets the question; knows no models or pictures.

A long answer is checked like every text, with the structures that the question names. A short one needs the question:
"left"
in answer to "on which side…?" is a side, "2" in answer to "how many…?" a count, and neither names its structure.

* A side of the patient stays if the structure in the question lies there; otherwise it is replaced by the measured
  side, or removed.
* A side of the *picture* ("upper left") is a position, no laterality. It stays, unless geometry contradicts it.
* A count stays if there are at least as many such structures (a slice may show fewer), or if none were counted; then a
  note says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.findings import Measurement
from .checking import (
    MARK,
    SIDES,
    RemovedClaim,
    base_of,
    check,
    failed_words,
    named_on_both_sides,
    structures_named,
)
from .placeholders import fill, why_unfilled
from .quantities import NUMBER_WORD, SIDE, VAGUE, WORDS, quantities

OF_THE_PICTURE = re.compile(r"\b(?:of|in|on)\s+(?:the|this)\s+(?:picture|image|slice|photo|screen)\b", re.IGNORECASE)
POSITION = re.compile(
    r"\b(?:where|which\s+(?:side|part|corner|quadrant)|on\s+the\s+left\s+or\s+right)\b", re.IGNORECASE
)
HOW_MANY = re.compile(r"\bhow\s+many\b", re.IGNORECASE)
ONLY_SIDE = re.compile(
    r"\W*(?:(?:on|to|in)\s+)?(?:the\s+)?(left|right|both|bilateral|midline)(?:\s+(?:sides?|one|hand side))?\W*",
    re.IGNORECASE,
)
ONLY_COUNT = re.compile(
    rf"\W*(?:there\s+(?:is|are)\s+)?(\d{{1,3}}|{'|'.join(w for w in WORDS if len(w) > 2)})\W*", re.IGNORECASE
)
MIRRORED = ("axial", "coronal")
"""Planes whose pictures show the patient's right on the left of the picture."""

REGION = "region"
"""Label of the region that the user marked; a question that names no structure refers to it."""

OWN_COUNT = "The count is the model's own; nothing was counted in the image."
OWN_PLACE = "The place in the picture is the model's own; it is no side of the patient."
CLAIM = re.compile(rf"\d|\{{|{SIDE.pattern}|\bboth\b|{NUMBER_WORD.pattern}|{VAGUE.pattern}", re.IGNORECASE)
"""Any text that may have to be removed begins with one of these."""


@dataclass(frozen=True)
class CheckedAnswer:
    """An answer without unsupported statements.

    Args:
        text: the checked answer.
        removed: what was removed or replaced.
        notes: sentences for the reader.
    """

    text: str
    removed: tuple[RemovedClaim, ...] = ()
    notes: tuple[str, ...] = ()


def claims(text: str) -> bool:
    """Return whether a text contains numbers, sides or placeholders."""
    return (
        "{" in text or SIDE.search(text) is not None or ONLY_SIDE.fullmatch(text) is not None or bool(quantities(text))
    )


def at_stake(text: str) -> bool:
    """Return whether a text contains anything that a measurement could confirm or contradict.

    A structure that is named with both sides states no side.
    """
    if "{" in text or quantities(text) or ONLY_SIDE.fullmatch(text) is not None:
        return True
    return any(not named_on_both_sides(match, text) for match in SIDE.finditer(text))


def check_answer(
    question: str, answer: str, measurements: Sequence[Measurement], allowed: Sequence[str] = (), plane: str = ""
) -> CheckedAnswer:
    """Check an answer against measurements.

    Args:
        question: the original question.
        answer: the model's answer.
        measurements: of all measured structures.
        allowed: phrases with numbers that are facts of another kind, such as "axial slice 47".
        plane: plane of the slices that the model received.
    """
    text, unfilled = fill(answer, measurements)
    gone = tuple(RemovedClaim(name, answer, why_unfilled(name, measurements)) for name in unfilled)
    if not claims(text):
        return CheckedAnswer(text, gone)
    labels = tuple(dict.fromkeys(m.segment for m in measurements))
    about = structures_named(question, labels) or [label for label in labels if label == REGION]
    of_picture = OF_THE_PICTURE.search(question) is not None and POSITION.search(question) is not None
    if (side := ONLY_SIDE.fullmatch(text)) is not None:
        failed = failed_words([m for m in measurements if m.segment in about])
        found = _side(side[1].lower(), text, _sides(about, measurements), of_picture, plane, failed)
        return CheckedAnswer(found.text, (*gone, *found.removed), found.notes)
    if HOW_MANY.search(question) and (count := ONLY_COUNT.fullmatch(text)) is not None:
        segments = {m.key for m in measurements}
        found = _count(count[1].lower(), text, question, about, [label for _, label in segments])
        return CheckedAnswer(found.text, (*gone, *found.removed), found.notes)
    sides = ("left", "right") if of_picture else ()
    checked = check(text, measurements, allowed=(*allowed, *sides), about=about)
    notes = (OWN_PLACE,) if of_picture and SIDE.search(text) else ()
    return CheckedAnswer(checked.text, (*gone, *checked.removed), notes)


def _sides(about: Sequence[str], measurements: Sequence[Measurement]) -> set[str]:
    """Return the measured sides of structures, from geometry alone: a side in a label is no measurement."""
    return {str(m.value).lower() for m in measurements if m.name == "side" and m.segment in about and m.is_reliable}


def _side(said: str, text: str, measured: set[str], of_picture: bool, plane: str, failed: str) -> CheckedAnswer:
    said = "both" if said == "bilateral" else said
    if of_picture:
        if len(measured) != 1 or not measured <= set(SIDES) or plane not in MIRRORED or said not in SIDES:
            return CheckedAnswer(text, notes=(OWN_PLACE,))
        measured = {SIDES[1 - SIDES.index(next(iter(measured)))]}
    if said in measured or (said == "both" and set(SIDES) <= measured):
        return CheckedAnswer(text)
    if not measured:
        reason = failed or "no side was measured of what is asked about"
        return CheckedAnswer(MARK, (RemovedClaim(text.strip(), text, reason),))
    true = "both" if set(SIDES) <= measured else next(iter(measured))
    return CheckedAnswer(true, (RemovedClaim(text.strip(), text, f"by geometry it is {true}"),))


def _count(said: str, text: str, question: str, about: Sequence[str], segments: Sequence[str]) -> CheckedAnswer:
    value = int(said) if said.isdigit() else WORDS[said]
    asked = re.search(r"how\s+many\s+(.*)", question, re.IGNORECASE)[1]
    there = [label for label in about if re.match(rf"(?:\w+\s+){{0,2}}?{re.escape(base_of(label))}", asked.lower())]
    if not there:
        return CheckedAnswer(text, notes=(OWN_COUNT,))
    count = sum(label in there for label in segments)
    if value <= count:
        return CheckedAnswer(text)
    return CheckedAnswer(MARK, (RemovedClaim(text.strip(), text, f"there are {count} such structures"),))

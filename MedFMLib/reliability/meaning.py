"""Decide by rules whether two answers have the same meaning. Knows English words; no model.

Small words, case, punctuation, spelled-out numbers and the order of a list are ignored; yes and no, sides, numbers and
negations count. Two answers are the same if they agree in those, and most of the content words of each are in the
other. It errs where the same is said in other words ("hepatic", "of the liver"): then agreement comes out too low, so
that an answer is withheld rather than shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SMALL = (
    "a an the this that these those it its is are was were be been there here of in on at to for with and or as by from image "
    "images picture slice slices scan visible seen see shown shows show showing can could be i think appears appear seems "
    "looks like patient patient's s structure structures part body which what one plane kind modality"
)
SMALL = frozenset(_SMALL.split())
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve"
NUMBERS = {word: str(n) for n, word in enumerate(_NUMBERS.split())} | {"none": "0", "single": "1"}
YES, NO = frozenset(("yes", "yeah", "correct", "true")), frozenset(("no", "nope", "incorrect", "false"))
NEGATIONS = frozenset(("not", "without", "absent", "cannot", "can't", "isn't", "aren't", "never", "nothing"))
SIDES = frozenset(("left", "right", "both", "bilateral", "upper", "lower", "above", "below", "anterior", "posterior"))
REFUSALS = re.compile(
    r"\b(?:cannot|can't|can not|could not|unable to)\s+(?:be\s+)?(?:answer|answered|tell|told|determine|determined|say|said|"
    r"assess|assessed)\b|\bnot possible to\b|\bdon'?t know\b",
    re.IGNORECASE,
)
SHARE = 0.75
"""Smallest fraction of the content words of each answer that the other one contains."""


@dataclass(frozen=True)
class Meaning:
    """The parts of an answer that count.

    Args:
        polarity: "yes", "no" or "".
        marks: sides and numbers.
        negated: whether it contains a negation.
        words: the other content words.
    """

    polarity: str
    marks: frozenset[str]
    negated: bool
    words: frozenset[str]


def meaning(text: str) -> Meaning:
    """Return the parts of an answer that count."""
    words = [NUMBERS.get(w, w) for w in re.findall(r"[a-z0-9]+(?:['’.-][a-z0-9]+)*", text.lower().replace("’", "'"))]
    first = words[0] if words else ""
    polarity = "yes" if first in YES else "no" if first in NO else ""
    rest = words[1:] if polarity else words
    marks = {w for w in rest if w in SIDES or any(c.isdigit() for c in w)}
    negated = any(w in NEGATIONS or w == "no" for w in rest)
    content = {_stem(w) for w in rest if w not in SMALL and w not in marks and w not in NEGATIONS and w != "no"}
    return Meaning(polarity, frozenset(marks), negated, frozenset(content))


def same(one: str, other: str) -> bool:
    """Return whether two answers have the same meaning.

    Args:
        one: an answer.
        other: another answer.
    """
    if one.strip().lower() == other.strip().lower():
        return True
    if is_refusal(one) or is_refusal(other):
        return is_refusal(one) and is_refusal(other)
    a, b = meaning(one), meaning(other)
    if a.polarity and b.polarity:
        if a.polarity != b.polarity:
            return False
        if not (a.words or a.marks) or not (b.words or b.marks):  # "yes", and "yes, the liver is visible"
            return True
    elif (a.polarity or b.polarity) and not (a.words | a.marks and b.words | b.marks):
        return False
    return a.marks == b.marks and a.negated == b.negated and _holds(a.words, b.words) and _holds(b.words, a.words)


def is_refusal(text: str) -> bool:
    """Return whether an answer says that the question can't be answered."""
    return REFUSALS.search(text) is not None


def _holds(words: frozenset[str], others: frozenset[str]) -> bool:
    """Return whether `words` contain most of `others`."""
    return not others or len(words & others) >= SHARE * len(others)


def _stem(word: str) -> str:
    """Return the word without a plural s."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word

"""Check that a plain text may be given to a patient: easy to read, and consistent with the report.

Readability alone is not sufficient: simpler texts have more errors (doi 10.1007/s11547-025-02098-5), so both are
checked.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..core.findings import Measurement, Part
from ..core.terminology import normalize, split_side, structures_in
from ..errors import ModelError
from ..fact_check import check as check_statements
from ..fact_check.quantities import sentences
from ..guard import Guard
from .glossary import Glossary
from .parts import render
from .wording import plain_lines

HARDEST_GRADE = 8.0
"""Highest school grade of a patient's text: Automated Readability and Coleman–Liau, both. They count letters and words, so they
need no dictionary from the network, unlike the library's syllable count."""


EVERYDAY = ("body",)
"""Names of structures that are also everyday words."""


@dataclass(frozen=True)
class PatientTextCheck:
    """Result of the check.

    Args:
        grade: the higher of both readability indices.
        problems: one sentence each; none means that the text may be handed out.
    """

    grade: float
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the text may be handed out."""
        return not self.problems


def check(
    text: str, measurements: Sequence[Measurement], missing: Sequence[str], words: Glossary, language: str = "en"
) -> PatientTextCheck:
    """Check a plain text against the report's facts.

    Args:
        text: the plain text.
        measurements: of the report.
        missing: labels that were searched for and not found, according to the report.
        words: the glossary.
        language: of the text; only English can be checked, so other texts are made of approved parts alone.
    """
    if language != "en":
        return PatientTextCheck(0.0, ())
    found = [label for label in dict.fromkeys(m.segment for m in measurements) if words.knows(label)]
    missing = [label for label in missing if words.knows(label)]
    level = grade(text)
    problems = []
    if level > HARDEST_GRADE:
        problems.append(
            f"The text has school grade {level:.1f}, above the limit of {HARDEST_GRADE:.0f}; use shorter words."
        )
    technical = _technical(text, [*found, *missing], words)
    hidden = dict.fromkeys(m.segment for m in measurements if not words.knows(m.segment))
    problems += [
        f"“{label}” has no plain name, so a patient must not read it." for label in hidden if _names(text, label)
    ]
    checked = check_statements(technical, measurements, labels=[*found, *missing])
    problems += [f"“{removed.text}” is in no measurement ({removed.reason})." for removed in checked.removed]
    known = {normalize(label) for label in (*found, *missing)}
    bases = {split_side(label)[1] for label in known}
    rest = _without(technical, known)
    added = [name for name in structures_in(rest) if name not in bases and name not in EVERYDAY]
    problems += [f"The report says nothing of the {name}." for name in added]
    low = technical.lower()
    left_out = [label for label in (*found, *missing) if normalize(label) not in low]
    problems += [f"The {label} is left out." for label in left_out]
    guard, ours = Guard(), _own_sentences(measurements, missing, words)
    for start, end in sentences(text):
        if text[start:end].strip() in ours:
            continue
        verdict = guard.answer("", text[start:end])
        if not verdict.allowed:
            problems.append(f"“{text[start:end].strip()}” is not for a patient ({verdict.rule}).")
    return PatientTextCheck(level, tuple(problems))


def grade(text: str) -> float:
    """Return the school grade of a text, the higher of two readability indices.

    Raises:
        ModelError: if textstat is missing.
    """
    try:
        import textstat
    except ImportError:
        raise ModelError(
            "The patient's version needs the package textstat; install it with `pip install medfm[report]`."
        ) from None
    return float(max(textstat.automated_readability_index(text), textstat.coleman_liau_index(text)))


def _own_sentences(measurements: Sequence[Measurement], missing: Sequence[str], words: Glossary) -> set[str]:
    """Return the sentences that approved parts make of the report; the guard judges what somebody wrote."""
    text = "\n".join([*plain_lines(measurements, missing, words), render(Part("doctor"), words.language)])
    return {text[start:end].strip() for start, end in sentences(text)}


def _names(text: str, label: str) -> bool:
    """Return whether a text has a label in it, as whole words."""
    return re.search(rf"\b{re.escape(label.lower())}\b", text.lower()) is not None


def _without(text: str, names: Collection[str]) -> str:
    """Return the text without these names, so that a part of a longer one, such as "lung lobe", is not taken for another."""
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"\b{re.escape(name)}(?:e?s)?\b", " ", text, flags=re.IGNORECASE)
    return text


def _technical(text: str, labels: Sequence[str], words: Glossary) -> str:
    """Return the text with plain names replaced by their labels, longest first, so that statements can be compared."""
    pairs = sorted(
        ((words.plain(label), normalize(label)) for label in dict.fromkeys(labels)), key=lambda p: -len(p[0])
    )
    for n, (plain, _) in enumerate(pairs):
        text = re.sub(rf"\b{re.escape(plain)}\b", f"\0{n}\0", text, flags=re.IGNORECASE)
    for n, (_, label) in enumerate(pairs):
        text = text.replace(f"\0{n}\0", label)
    return text

"""May a plain text be handed out? It must be easy to read, and say what the report says: nothing added, changed or left out.

Readability alone is no gate: simpler texts have more errors (doi 10.1007/s11547-025-02098-5), so both are asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.findings import Measurement
from ..core.terminology import normalize, split_side, structures_in
from ..errors import ModelError
from ..fact_check import check as check_statements
from ..fact_check.quantities import sentences
from ..guard import Guard
from .glossary import Glossary

HARDEST_GRADE = 8.0
"""School grade that a patient's text may ask for: Automated Readability and Coleman–Liau, both. They count letters and words, so
that they need no dictionary from the network, which the library's count of syllables would fetch."""


EVERYDAY = ("body",)
"""Names of structures that are everyday words, too."""


@dataclass(frozen=True)
class PatientTextCheck:
    """What was found.

    Args:
        grade: the harder of both readability indices.
        problems: one sentence each; none means that the text may be handed out.
    """

    grade: float
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """May it be handed out?"""
        return not self.problems


def check(
    text: str, measurements: Sequence[Measurement], missing: Sequence[str], words: Glossary, language: str = "en"
) -> PatientTextCheck:
    """Hold a plain text against the report's facts.

    Args:
        missing: labels that the report says were looked for and not seen.
    """
    found = list(dict.fromkeys(m.segment for m in measurements))
    level = grade(text)
    problems = []
    if level > HARDEST_GRADE:
        problems.append(
            f"It asks for school grade {level:.1f}, and at most {HARDEST_GRADE:.0f} is wanted; use shorter words."
        )
    technical = _technical(text, [*found, *missing], words)
    checked = check_statements(technical, measurements, labels=[*found, *missing])
    problems += [f"“{removed.text}” stands in no measurement ({removed.reason})." for removed in checked.removed]
    known = {normalize(label) for label in (*found, *missing)}
    bases = {split_side(label)[1] for label in known}
    added = [name for name in structures_in(technical) if name not in bases and name not in EVERYDAY]
    problems += [f"The report says nothing of the {name}." for name in added]
    low = technical.lower()
    left_out = [label for label in (*found, *missing) if normalize(label) not in low]
    problems += [f"The {label} is left out." for label in left_out]
    guard = Guard(language)
    for start, end in sentences(text):
        verdict = guard.answer("", text[start:end])
        if not verdict.allowed:
            problems.append(f"“{text[start:end].strip()}” is not for a patient ({verdict.rule}).")
    return PatientTextCheck(level, tuple(problems))


def grade(text: str) -> float:
    """The school grade that a text asks for, the harder of two indices.

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


def _technical(text: str, labels: Sequence[str], words: Glossary) -> str:
    """The text with plain names replaced by the labels that they stand for, longest first, so that claims can be compared."""
    pairs = sorted(
        ((words.plain(label), normalize(label)) for label in dict.fromkeys(labels)), key=lambda p: -len(p[0])
    )
    for n, (plain, _) in enumerate(pairs):
        text = text.replace(plain, f"\0{n}\0").replace(plain.capitalize(), f"\0{n}\0")
    for n, (_, label) in enumerate(pairs):
        text = text.replace(f"\0{n}\0", label)
    return text

"""Choose the parts that answer a recognised intent, or that refuse a question. Pure functions; no model and no image.

The eleven intents are those that the guard permits. Everything that is said follows from the intent, the patient's
glossary, and the facts: which structures were segmented, and how large they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..core.findings import Part
from ..core.terminology import split_side
from .glossary import Glossary, glossary, other_names
from .parts import STAFF
from .settings import PatientSettings

PERMITTED = (
    "looking_at", "where_is", "explain", "how_made", "practical", "viewer", "healthy", "measurement", "ask_doctor",
    "about_me", "small_talk",
)  # fmt: skip
"""Intents that are answered."""

SUGGESTED = 3
USUAL = ("looking_at", "healthy", "ask_doctor")
"""Intents that are offered where the guard suggests none."""

NEEDS_SEGMENTS = ("looking_at", "where_is", "measurement")
"""Intents that are answered from a segmentation of the picture."""

REFUSALS = {
    "meaning": ("diagnosis", "diagnosis-open", "reassurance", "prognosis", "odds", "blame", "second_opinion", "health"),
    "care": ("treatment", "medication", "practical"),
    "distress": ("distress",),
    "private": ("others",),
    "unclear": ("empty", "unclear", ""),
}
"""Text of a refusal → kinds and rules of the guard; every other kind gets the general text."""

OF_KIND = {"shows": "looking_at", "where": "where_is", "made": "how_made", "ask": "ask_doctor", "healthy": "healthy"}
"""Kind of question that the glossary's patterns find → intent, where the guard names none."""

MOST_SIZES = 3


@dataclass(frozen=True)
class Facts:
    """What is known of the picture.

    Args:
        modality: of the image, such as "CT".
        volumes: label of each segmented structure → its volume in mL; None where no mm is known.
        searched: whether the picture was segmented.
    """

    modality: str = ""
    volumes: Mapping[str, float | None] = field(default_factory=dict)
    searched: bool = True


def reply(
    intent: str, subject: str, facts: Facts, language: str = "en", settings: PatientSettings | None = None
) -> tuple[Part, ...]:
    """Return the parts that answer an intent, with the line for the staff.

    Args:
        intent: one of `PERMITTED`, except "healthy", which needs a case.
        subject: structure or term that the question is about; "" for none.
        facts: of the picture.
        language: of the answer.
        settings: the clinic's choices.
    """
    words, settings = glossary(language), settings or PatientSettings()
    labels = [label for label in facts.volumes if words.knows(label)]
    about = [label for label in labels if _is_about(label, subject, words)]
    match intent:
        case "looking_at":
            parts = [Part("seen", {"structures": tuple(labels)})] if labels else [Part("none")]
        case "where_is" if not words.knows(subject):
            parts = [Part("where_unknown")]
        case "where_is":
            parts = [Part("where", {"structure": label}) for label in about]
            parts = [*(parts or [Part("not_seen", {"structure": subject})]), *_explained(subject, words)]
        case "explain":
            named = [Part("named", {"structure": subject})] if words.knows(subject) else []
            parts = [*named, *(_explained(subject, words) or [Part("no_word")])]
        case "how_made":
            parts = [Part(f"made.{facts.modality}" if facts.modality in words.made else "made.other")]
        case "practical":
            approved = settings.text(language, "practical")
            parts = [Part("clinic", {"clinic": "practical"})] if approved else [Part("practical")]
        case "measurement":
            parts = _sizes(subject, labels, about, facts, words)
        case "ask_doctor":
            parts = [Part("ask"), *(Part(f"ask.{n}") for n in range(1, len(words.ask) + 1))]
        case "viewer" | "about_me" | "small_talk":
            parts = [Part(intent)]
        case _:
            return refuse("", words)
    return (*parts, STAFF)


def refuse(kind: str, words: Glossary) -> tuple[Part, ...]:
    """Return the parts of a refusal: why, what can be done instead, and the line for the staff.

    Args:
        kind: of the guard: an intent that is not permitted, or the id of a rule.
        words: the glossary.
    """
    found = next((name for name, kinds in REFUSALS.items() if kind in kinds), "other")
    return Part(f"refusal.{found}"), Part("instead"), STAFF


def escalate(kind: str) -> tuple[Part, ...]:
    """Return the parts that send a patient to the staff.

    Args:
        kind: of the emergency, or the id of a rule.
    """
    words = "emergency.self_harm" if "self_harm" in kind.replace("-", "_") else "emergency"
    return Part(words), Part("call_offer"), STAFF


def offered(suggestions: Sequence[str]) -> tuple[str, ...]:
    """Return three permitted intents for the buttons under a refusal, the guard's first."""
    kept = [intent for intent in suggestions if intent in PERMITTED]
    return tuple(dict.fromkeys([*kept, *USUAL]))[:SUGGESTED]


def subject_of(question: str, language: str = "en") -> str:
    """Return the structure or term that a question names, with its side if one is named; "" for none.

    Args:
        question: the patient's.
        language: of the question; English names are found in every language.
    """
    low = " ".join(question.casefold().split())
    found: list[tuple[int, str]] = []
    for words in (glossary(language), glossary()):
        names = {name: key for key in words.structures for name in (key, words.name(key).casefold())}
        names = (other_names() if words.language == "en" else {}) | names
        names |= {term.casefold(): key for key, (term, _) in words.terms.items()}
        found += [(len(name), key) for name, key in names.items() if name and _contains(low, name)]
        side = next((side for side in ("left", "right") if _contains(low, words.labels[side].casefold())), "")
        if found:
            key = max(found)[1]
            return f"{side} {key}" if side and key in words.structures else key
    return ""


def _contains(text: str, name: str) -> bool:
    """Return whether a name is in a text, as whole words where letters have cases; other scripts write words together."""
    if name.upper() == name.lower():
        return name in text
    return re.search(rf"(?<!\w){re.escape(name)}(?:e?s)?(?!\w)", text) is not None


def _is_about(label: str, subject: str, words: Glossary) -> bool:
    side = split_side(subject)[0]
    return bool(subject) and words.key(label) == words.key(subject) != "" and side in ("", split_side(label)[0])


def _explained(subject: str, words: Glossary) -> list[Part]:
    if words.what(subject):
        return [Part("about", {"explanation": subject})]
    return [Part("word", {"meaning": subject})] if subject in words.terms else []


def _sizes(subject: str, labels: list[str], about: list[str], facts: Facts, words: Glossary) -> list[Part]:
    if words.knows(subject) and not about:
        return [Part("not_seen", {"structure": subject})]
    chosen = {label: facts.volumes[label] for label in about or labels if facts.volumes[label]}
    largest = sorted(chosen, key=lambda label: -chosen[label])[:MOST_SIZES]
    sizes = [Part("size", {"structure": label, "volume": float(chosen[label])}) for label in largest]
    return [*sizes, Part("by_computer")] if sizes else [Part("no_size")]

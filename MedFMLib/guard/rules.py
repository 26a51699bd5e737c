"""Load the rules of a language from a JSON file and compile their patterns. Applies none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ..errors import ModelError
from ..storage import resources

VERDICTS = ("allow", "rephrase", "withhold", "escalate")
"""From mild to strict."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        id: its name.
        verdict: one of `VERDICTS`.
        text: key of the text that the patient is shown.
        pattern: searched in the normalized text.
        exceptions: removed from the text before the search, or None.
        unless: a pattern that leaves the text to later rules, for requests that are embedded in others; or None.
    """

    id: str
    verdict: str
    text: str
    pattern: re.Pattern
    exceptions: re.Pattern | None
    unless: re.Pattern | None


@dataclass(frozen=True)
class Rules:
    """The rules of a language, in the order of their precedence."""

    question: tuple[Rule, ...]
    answer: tuple[Rule, ...]
    texts: dict[str, str]
    words: frozenset[str]
    common: frozenset[str]
    contractions: dict[str, str]


@lru_cache(maxsize=4)
def load(language: str = "en") -> Rules:
    """Load the rules of a language.

    Raises:
        ModelError: if there are none, or the file is damaged; the guard then lets nothing pass.
    """
    try:
        content = resources.load_json("guard", f"{language}.json")
        concepts = content["concepts"]

        def rule(entry: dict) -> Rule:
            parts = [*entry.get("any", ()), *entry.get("also", ())]
            parts += [part for name in entry.get("concepts", ()) for part in concepts[name]]
            unless = content[entry["unless"]] if "unless" in entry else ()
            if entry["verdict"] not in VERDICTS or entry["text"] not in content["texts"]:
                raise ValueError(entry["id"])
            return Rule(
                entry["id"],
                entry["verdict"],
                entry["text"],
                _pattern(parts),
                _optional(entry.get("except", ())),
                _optional(unless),
            )

        rules = [tuple(rule(entry) for entry in content[kind]) for kind in ("question", "answer")]
        named = [part for name, parts in concepts.items() if name != "self" for part in parts]
        named += [part for kind in ("question", "answer") for entry in content[kind] for part in entry.get("any", ())]
        words = {word for part in named for word in _plain_words(part)} | set(content["vocabulary"])
        return Rules(*rules, content["texts"], frozenset(words), frozenset(content["common"]), content["contractions"])
    except (OSError, ValueError, KeyError, TypeError, re.error) as error:
        raise ModelError(
            f"The guard's rules for '{language}' can't be read ({error}), so patient mode can't be used; install MedFM again."
        ) from error


def _pattern(parts) -> re.Pattern:
    return re.compile(r"\b(?:" + "|".join(parts) + r")(?!\w)")


def _optional(parts) -> re.Pattern | None:
    return _pattern(parts) if parts else None


def _plain_words(part: str) -> list[str]:
    """Return the complete words of a pattern, which may be misspelt in texts.

    Open-ended stems and short words are excluded.
    """
    bare = re.sub(r"\\w[*+]|\[[^\]]*\]|\{[^}]*\}", "~", part)  # open endings stay attached to their stem
    found = []
    for word in re.findall(r"[a-z~?]+", re.sub(r"\(\?[:!=]|[()|\\]", " ", bare)):
        forms = (word.replace("?", ""), re.sub(r"[a-z]\?", "", word))  # with and without optional letters
        found += [form for form in forms if re.fullmatch(r"[a-z]{5,}", form)]
    return found

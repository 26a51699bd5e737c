"""Rules as data: a JSON file of a language → patterns that are ready to use. Knows the file's form; judges nothing."""

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
        id: its name. verdict: one of `VERDICTS`. text: key of what is told.
        pattern: what it looks for in a text that was read. exceptions: what is taken out of the text before.
        unless: a pattern that leaves the text to later rules; for requests that hide in others.
    """

    id: str
    verdict: str
    text: str
    pattern: re.Pattern
    exceptions: re.Pattern | None
    unless: re.Pattern | None


@dataclass(frozen=True)
class Rules:
    """The rules of a language, in the order in which they count."""

    question: tuple[Rule, ...]
    answer: tuple[Rule, ...]
    texts: dict[str, str]
    words: frozenset[str]
    common: frozenset[str]
    contractions: dict[str, str]


@lru_cache(maxsize=4)
def load(language: str = "en") -> Rules:
    """Rules of a language.

    Raises:
        ModelError: there is none, or its file is damaged; the guard then lets nothing through.
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
    """Whole words of a pattern, which people may misspell; stems with open endings and short words are left out."""
    bare = re.sub(r"\\w[*+]|\[[^\]]*\]|\{[^}]*\}", "~", part)  # what is open stays glued to its stem
    found = []
    for word in re.findall(r"[a-z~?]+", re.sub(r"\(\?[:!=]|[()|\\]", " ", bare)):
        forms = (word.replace("?", ""), re.sub(r"[a-z]\?", "", word))  # with and without letters that may be missing
        found += [form for form in forms if re.fullmatch(r"[a-z]{5,}", form)]
    return found

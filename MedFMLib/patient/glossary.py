"""Plain names and explanations, one JSON file a language. Knows the file's form; nothing of reports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ..core.terminology import normalize, split_side
from ..errors import ModelError
from ..storage import resources


@dataclass(frozen=True)
class Glossary:
    """The words of one language.

    Args:
        structures: name without side → {"plain": name for people, "what": one or two sentences}.
        terms: other words → what they mean.
        labels: headings. made: modality → how the pictures were made. sentences: patterns with {gaps}.
        ask: questions for the doctor. asked: kind of question → patterns, in plain small letters.
        important: what must stand on every page.
    """

    structures: dict[str, dict[str, str]]
    terms: dict[str, str]
    labels: dict[str, str]
    made: dict[str, str]
    sentences: dict[str, str]
    ask: tuple[str, ...]
    asked: dict[str, tuple[str, ...]]
    important: tuple[str, ...]

    def plain(self, label: str) -> str:
        """What people call a structure: "left kidney", "windpipe"; its own name where nobody wrote a plain one."""
        side = split_side(normalize(label))[0]
        return f"{self.labels[side]} {self.name(label)}" if side else self.name(label)

    def name(self, label: str) -> str:
        """The same without its side."""
        name = split_side(normalize(label))[1]
        return self.structures.get(name, {"plain": name})["plain"]

    def what(self, label: str) -> str:
        """What a structure is, or "" if nobody wrote it."""
        return self.structures.get(split_side(normalize(label))[1], {}).get("what", "")

    def kind_of(self, question: str) -> tuple[str, str]:
        """(kind of question, name of the structure it is about), both "" if it is another one."""
        plain = " ".join(re.findall(r"[a-z0-9]+", question.lower()))
        for kind, patterns in self.asked.items():
            for pattern in patterns:
                if match := re.fullmatch(pattern, plain):
                    name = self._structure(match.groupdict().get("name") or "")
                    return (kind, name) if kind != "where" or name else ("", "")
        return "", ""

    def _structure(self, words: str) -> str:
        """The structure that people call so, by its plain or its own name; "" if there is none."""
        singular = words.removesuffix("s")
        for name, entry in self.structures.items():
            if {words, singular} & {name, entry["plain"]}:
                return name
        found = split_side(normalize(words))[1]
        return found if found in self.structures else ""


@lru_cache(maxsize=4)
def glossary(language: str = "en") -> Glossary:
    """The words of a language.

    Raises:
        ModelError: there is no such language, or its file is damaged.
    """
    try:
        content = resources.load_json("patient", f"{language}.json")
        names = ("structures", "terms", "labels", "made", "sentences")
        asked = {kind: tuple(patterns) for kind, patterns in content["asked"].items()}
        lists = {name: tuple(content[name]) for name in ("ask", "important")}
        return Glossary(**{name: content[name] for name in names}, **lists, asked=asked)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"The plain words for '{language}' can't be read ({error}); English is 'en', or install MedFM again."
        ) from error

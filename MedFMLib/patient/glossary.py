"""Load plain names and explanations, one JSON file per language. Knows the file's format; no reports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ..core.terminology import normalize, split_side
from ..errors import ModelError
from ..storage import resources


@dataclass(frozen=True)
class Glossary:
    """The texts of one language.

    Args:
        structures: name without side → {"plain": plain name, "what": one or two sentences}.
        terms: other words → their explanation.
        labels: headings.
        made: modality → how the pictures were acquired.
        sentences: patterns with {gaps}.
        ask: questions for the doctor.
        asked: kind of question → patterns, in normalized lower case.
        important: notices for every page.
    """

    structures: dict[str, dict[str, str]]
    terms: dict[str, str]
    labels: dict[str, str]
    made: dict[str, str]
    sentences: dict[str, str]
    ask: tuple[str, ...]
    asked: dict[str, tuple[str, ...]]
    important: tuple[str, ...]

    def knows(self, label: str) -> bool:
        """Return whether a patient may see a structure: only one that has a plain name; a label may be a diagnosis or a name."""
        return _bare(label) in self.structures

    def plain(self, label: str) -> str:
        """Return the plain name of a structure, such as "left kidney" or "windpipe"; "" if there is none."""
        side = split_side(label)[0]
        name = self.name(label)
        return f"{self.labels[side]} {name}" if side and name else name

    def name(self, label: str) -> str:
        """Return the plain name without its side; "" if there is none."""
        return self.structures.get(_bare(label), {"plain": ""})["plain"]

    def what(self, label: str) -> str:
        """Return the explanation of a structure, or "" if there is none."""
        return self.structures.get(_bare(label), {}).get("what", "")

    def kind_of(self, question: str) -> tuple[str, str]:
        """Return (kind of question, name of its structure), both "" if it is of no known kind."""
        plain = " ".join(re.findall(r"[a-z0-9]+", question.lower()))
        for kind, patterns in self.asked.items():
            for pattern in patterns:
                if match := re.fullmatch(pattern, plain):
                    name = self._structure(match.groupdict().get("name") or "")
                    return (kind, name) if kind != "where" or name else ("", "")
        return "", ""

    def _structure(self, words: str) -> str:
        """Return the structure with this plain or own name; "" if there is none."""
        singular = words.removesuffix("s")
        for name, entry in self.structures.items():
            if {words, singular} & {name, entry["plain"]}:
                return name
        found = split_side(normalize(words))[1]
        return found if found in self.structures else ""


def _bare(label: str) -> str:
    """Return a label without its side, and without the number that tells segments of one name apart in reports."""
    return split_side(normalize(re.sub(r" \(segment \d+\)$", "", label)))[1]


@lru_cache(maxsize=4)
def glossary(language: str = "en") -> Glossary:
    """Load the texts of a language.

    Raises:
        ModelError: if there is no such language, or its file is damaged.
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

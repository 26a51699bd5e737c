"""Load plain names and explanations, one JSON file per language. Knows the file's format; no reports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ..core.terminology import normalize, split_side
from ..errors import ModelError
from ..storage import resources

_NUMBER = re.compile(r" (?:[ctls]?\d{1,2})$")
"""Of a rib or vertebra, as segmentation programs name them."""


@dataclass(frozen=True)
class Glossary:
    """The texts of one language.

    Args:
        language: its code, such as "de".
        name_of_language: its own name for itself.
        right_to_left: whether it is written so.
        checked: whether a native speaker has checked the texts.
        structures: name without side → {"plain": plain name, "what": one or two sentences}, in English also its other names.
        terms: other words → (how they are called, their explanation).
        labels: headings.
        made: modality → how the pictures were acquired.
        parts: approved texts with {slots}, see `parts`.
        buttons: what stands on buttons; those of an intent have its name.
        ask: questions for the doctor.
        asked: kind of question → patterns, in normalized lower case.
        important: notices for every page.
    """

    language: str
    name_of_language: str
    right_to_left: bool
    checked: bool
    structures: dict[str, dict]
    terms: dict[str, tuple[str, str]]
    labels: dict[str, str]
    made: dict[str, str]
    parts: dict[str, str]
    buttons: dict[str, str]
    ask: tuple[str, ...]
    asked: dict[str, tuple[str, ...]]
    important: tuple[str, ...]

    def template(self, name: str) -> str | None:
        """Return the text of a part with its {slots}, such as "where", "made.CT", "button.ask" or "ask.1"; None if unknown."""
        group, _, rest = name.partition(".")
        if group in ("ask", "important") and rest:
            texts = self.ask if group == "ask" else self.important
            return texts[int(rest) - 1] if rest.isdecimal() and 0 < int(rest) <= len(texts) else None
        groups = {"label": self.labels, "made": self.made, "button": self.buttons}
        return groups[group].get(rest) if group in groups and rest else self.parts.get(name)

    def part_ids(self) -> tuple[str, ...]:
        """Return the ids of all parts."""
        named = {"label": self.labels, "made": self.made, "button": self.buttons}
        numbered = {"ask": self.ask, "important": self.important}
        ids = [*self.parts, *(f"{group}.{key}" for group, texts in named.items() for key in texts)]
        return (*ids, *(f"{group}.{n}" for group, texts in numbered.items() for n in range(1, len(texts) + 1)))

    def knows(self, label: str) -> bool:
        """Return whether a patient may see a structure: only one that has a plain name; a label may be a diagnosis or a name."""
        return bool(self.key(label))

    def key(self, label: str) -> str:
        """Return the glossary's name of a structure, without side, for its label or another English name; "" if unknown.

        Numbers that segmentation programs add, as in "rib_left_4" or "vertebrae_L1", are left out.
        """
        bare, others = _bare(label), other_names()
        for name in (bare, _NUMBER.sub("", bare)):
            if name in self.structures or name in others:
                return name if name in self.structures else others[name]
        return ""

    def plain(self, label: str) -> str:
        """Return the plain name of a structure, such as "left kidney" or "windpipe"; "" if there is none."""
        side = split_side(label)[0]
        name = self.name(label)
        return self.parts["sided"].format(side=self.labels[side], name=name) if side and name else name

    def name(self, label: str) -> str:
        """Return the plain name without its side; "" if there is none."""
        return self.structures.get(self.key(label), {"plain": ""})["plain"]

    def what(self, label: str) -> str:
        """Return the explanation of a structure, or "" if there is none."""
        return self.structures.get(self.key(label), {}).get("what", "")

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


@lru_cache(maxsize=1)
def other_names() -> dict[str, str]:
    """Return other names in English and their structures: the plain ones, which segments in a patient's scene have, first."""
    found = resources.load_json("patient", "en.json")["structures"]
    also = {name: key for key, entry in found.items() for name in entry.get("also", ())}
    return also | {split_side(entry["plain"])[1]: key for key, entry in found.items()}


@lru_cache(maxsize=32)
def glossary(language: str = "en") -> Glossary:
    """Load the texts of a language.

    Raises:
        ModelError: if there is no such language, or its file is damaged.
    """
    try:
        content = resources.load_json("patient", f"{language}.json")
        names = ("structures", "labels", "made", "parts", "buttons", "right_to_left")
        asked = {kind: tuple(patterns) for kind, patterns in content.get("asked", {}).items()}
        lists = {name: tuple(content[name]) for name in ("ask", "important")}
        return Glossary(
            language=language,
            name_of_language=content["name"],
            checked=content["checked_by_native_speaker"],
            terms={key: (entry["plain"], entry["what"]) for key, entry in content["terms"].items()},
            asked=asked,
            **{name: content[name] for name in names},
            **lists,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"The plain words for '{language}' can't be read ({error}); English is 'en', or install MedFM again."
        ) from error

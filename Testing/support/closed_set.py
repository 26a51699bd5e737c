"""Everything that patient mode may show, as a regular language built from the data files, independent of `parts.render`."""

from __future__ import annotations

import json
import re
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "Resources" / "patient"
NUMBERED = ("ask", "important")


def texts(language: str) -> dict:
    """The file of a language."""
    return json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))


def names(content: dict) -> list[str]:
    """Every plain name, with and without a side."""
    plain = [entry["plain"] for entry in content["structures"].values()]
    sides = [content["labels"][side] for side in ("left", "right")]
    return [*plain, *(content["parts"]["sided"].format(side=s, name=n) for s in sides for n in plain)]


def one_of(values) -> str:
    """A pattern of one of these texts, with a first letter of either case."""
    values = sorted(set(values), key=len, reverse=True)
    return "(?:" + "|".join(f"(?:{re.escape(v[0])}|{re.escape(v[0].upper())}){re.escape(v[1:])}" for v in values) + ")"


def patterns(language: str, own=()) -> list[str]:
    """A pattern of every approved text; `own` are the patient's own words of the test."""
    content = texts(language)
    parts, name = content["parts"], one_of(names(content))
    number = rf"\d{{1,6}}(?:{re.escape(parts['decimal'])}\d)?"
    volumes = "|".join(re.escape(parts[unit]).replace(r"\{number\}", number) for unit in ("liters", "milliliters"))
    slots = {
        "structure": name,
        "structures": f"{name}(?:{re.escape(parts['comma'])}{name})*",
        "missing": rf"{name}(?:\. {name})*",
        "explanation": one_of(entry["what"] for entry in content["structures"].values()),
        "meaning": one_of(f"{entry['plain']}: {entry['what']}" for entry in content["terms"].values()),
        "volume": f"(?:{volumes})",
        "number": r"\d{1,6}",
        "clock": r"\d\d:\d\d",
        "own": "(?:" + "|".join(re.escape(text) for text in own) + ")" if own else "(?!)",
        "clinic": "(?!)",
        "free": "(?!)",
    }
    templates = [
        text for key, text in parts.items() if key not in ("decimal", "comma", "sided", "liters", "milliliters")
    ]
    templates += [text for group in ("labels", "made", "buttons") for text in content[group].values()]
    templates += [text for group in NUMBERED for text in content[group]]
    templates += [entry["what"] for entry in content["structures"].values()]
    templates += [entry[key] for entry in content["terms"].values() for key in ("plain", "what")]
    found = [re.sub(r"\\\{(\w+)\\\}", lambda m: slots[m[1]], re.escape(text)) for text in templates]
    return [*found, name, re.escape(content["name"])]


class ClosedSet:
    """Whether a text consists of approved texts.

    Args:
        languages: whose texts are approved.
        own: the patient's own words.
        also: further fixed texts, such as numbers of slices.
    """

    def __init__(self, languages=("en",), own=(), also=()):
        found = [pattern for language in languages for pattern in patterns(language, own)]
        found += [re.escape(text) for text in also]
        self._all = [re.compile(pattern) for pattern in dict.fromkeys(found)]
        self._known: dict[str, bool] = {}

    def has(self, text: str) -> bool:
        """Whether all of a text is approved texts, one after the other."""
        if text not in self._known:
            self._known[text] = self._consists(text.strip())
        return self._known[text]

    def _consists(self, text: str) -> bool:
        ends, seen = {0}, set()
        while ends:  # every way to divide the text is followed, since one approved text may begin another
            start = ends.pop()
            if start == len(text):
                return True
            seen.add(start)
            for pattern in self._all:
                if match := pattern.match(text, start):
                    end = match.end()
                    while end < len(text) and text[end].isspace():
                        end += 1
                    if end not in seen:
                        ends.add(end)
        return False

"""Read the lines that were written for the guard, one file a persona, and expand their alternatives."""

from __future__ import annotations

import itertools
import random
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from ...guard.intents import EMERGENCIES, INTENTS, LANGUAGES, PERMITTED, STATUSES
from ...storage import resources

MOST_EXPANSIONS = 6
"""Largest number of texts that a line with alternatives "(one|other)" becomes."""

APPROVED = "approved"
"""Author of the sentences of patient mode."""

_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")


@dataclass(frozen=True)
class Item:
    """One text with its labels.

    Args:
        text: as a patient wrote it.
        language: one of `LANGUAGES`.
        intent: one of `INTENTS`.
        status: one of `STATUSES`; "" if unknown.
        author: persona or source.
        weight: in training.
    """

    text: str
    language: str
    intent: str
    status: str
    author: str
    weight: float = 1.0

    @property
    def kind(self) -> str:
        """The emergency that is present; "none" if none is, "" if unknown."""
        return "" if not self.status else self.intent if self.intent in EMERGENCIES else "none"

    @property
    def expected(self) -> str:
        """The verdict: allow, withhold or escalate."""
        return "escalate" if self.intent in EMERGENCIES else "allow" if self.intent in PERMITTED else "withhold"


def read_folder(folder: Path) -> list[Item]:
    """Return the items of all persona files of a folder.

    Raises:
        InputError: if there are none, or a line is wrong.
    """
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise InputError(f"There are no persona files (*.txt) in {folder}; give the folder Resources/training/guard.")
    return [item for file in files for item in read_file(file)]


def read_file(file: Path) -> list[Item]:
    """Return the items of one persona file.

    A section starts with "[language intent status]"; the status may be left out. Lines with "#" are comments.

    Raises:
        InputError: if a section's labels are unknown.
    """
    found, labels = [], ("", "", "")
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            parts = line[1:-1].split()
            if len(parts) not in (2, 3) or parts[0] not in LANGUAGES or parts[1] not in INTENTS:
                raise InputError(f"{file.name}, line {number}: '{line}' is no section; write [language intent status].")
            labels = (*parts, "present" if parts[1] in EMERGENCIES else "none")[:3]
            if labels[2] not in STATUSES:
                raise InputError(f"{file.name}, line {number}: '{labels[2]}' is none of {', '.join(STATUSES)}.")
            continue
        texts = expand(line)
        found += [Item(text, *labels, file.stem, len(texts) ** -0.5) for text in texts]
    return found


def approved() -> list[Item]:
    """Return the sentences that patient mode itself says, which are permitted: explanations, and small talk."""
    words = resources.load_json("patient", "en.json")
    told = [entry["what"] for part in ("structures", "terms") for entry in words[part].values() if entry.get("what")]
    said = [text for part in ("parts", "sentences") for text in words.get(part, {}).values() if isinstance(text, str)]
    said += [text for part in ("ask", "important") for text in words.get(part, ())]
    items = [Item(text, "en", "explain", "none", APPROVED) for text in told]
    return items + [Item(text, "en", "small_talk", "none", APPROVED) for text in said if "(?:" not in text]


def expand(line: str, most: int = MOST_EXPANSIONS) -> list[str]:
    """Return the texts of a line with alternatives, some of them if there are many.

    Args:
        line: with alternatives such as "(the|my) liver".
        most: largest number of texts.
    """
    parts = _CHOICE.split(line)
    choices = [part.split("|") if n % 2 else [part] for n, part in enumerate(parts)]
    made = ["".join(some) for some in itertools.islice(itertools.product(*choices), 5000)]
    if len(made) > most:
        made = random.Random(zlib.crc32(line.encode())).sample(made, most)
    return [re.sub(r"\s+", " ", text).strip() for text in made]

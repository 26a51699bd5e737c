"""What a patient asked and collected while they waited, for the page to take home. Questions and part ids; no answers as text."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ..core.findings import Answer, Part

KIND = "patient-visit"
"""Kind of the node in the scene that holds it."""

MOST = 50
"""Largest number of questions of each kind."""


@dataclass(frozen=True)
class Visit:
    """A patient's time with their pictures.

    Args:
        language: of the patient.
        asked: questions in the patient's words, with the parts of their answers.
        chosen: questions for the doctor.
    """

    language: str = ""
    asked: tuple[Answer, ...] = ()
    chosen: tuple[Part, ...] = ()

    def as_json(self) -> str:
        """Return it as JSON."""
        asked = [{"question": answer.question, "parts": _plain(answer.parts)} for answer in self.asked[-MOST:]]
        return json.dumps({"language": self.language, "asked": asked, "chosen": _plain(self.chosen[:MOST])})


def read_visit(text: str) -> Visit:
    """Return what `Visit.as_json` wrote; an empty visit for anything else. `parts.render` judges the parts."""
    try:
        content = json.loads(text)
        asked = tuple(
            Answer(str(turn["question"]), "", parts=_parts(turn["parts"])) for turn in content["asked"][:MOST]
        )
        return Visit(str(content["language"]), asked, _parts(content["chosen"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return Visit()


def _plain(parts) -> list[dict]:
    return [{"id": part.id, "slots": part.slots} for part in parts]


def _parts(items) -> tuple[Part, ...]:
    found = []
    for item in items[:MOST]:
        slots = {name: tuple(value) if isinstance(value, list) else value for name, value in item["slots"].items()}
        found.append(Part(str(item["id"]), slots))
    return tuple(found)

"""Configure a model that classifies texts in addition to the rules.

Its card, its output format, and the clinic's choice.

Loads no model (`models.generation.text_judge` does). Its verdict can only make that of the rules stricter, and
unreadable output counts as "withhold": a classifier that fails must not let anything pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ..errors import InputError, ModelError
from ..storage import paths, resources, user_settings
from .judging import Guard
from .rules import VERDICTS

UNREADABLE = "withhold"
Write = Callable[[Sequence[dict[str, str]]], str]
"""Messages ({"role": "user" or "assistant", "content"}) → the model's output."""


@dataclass(frozen=True)
class ClassifierCard:
    """A classifier that can be used.

    Args:
        id: unique name.
        title: display name.
        model: hub id, or a folder.
        licence: in plain words.
        summary: one sentence.
        not_for: uses that it is not suitable for.
        citation: publication to cite.
        safety: regular expression whose first group is the model's label.
        verdicts: label → one of `VERDICTS`.
        escalates: words in its output that turn any label but the mildest into "escalate".
        max_tokens: maximal length of the output.
    """

    id: str
    title: str
    model: str
    licence: str
    summary: str
    not_for: str
    citation: str
    safety: str
    verdicts: dict[str, str]
    escalates: tuple[str, ...]
    max_tokens: int

    def verdict(self, said: str) -> str:
        """Return the verdict for the model's output."""
        found = re.search(self.safety, said)
        verdict = self.verdicts.get(found[1], UNREADABLE) if found else UNREADABLE
        return "escalate" if verdict != VERDICTS[0] and any(word in said for word in self.escalates) else verdict


class ModelClassifier:
    """A `Classifier` that uses a language model.

    Args:
        card: format of its output.
        write: runs the model.
    """

    def __init__(self, card: ClassifierCard, write: Write):
        self._card, self._write = card, write

    def judge(self, text: str, answer: bool) -> str:
        """See `judging.Classifier.judge`."""
        question = [{"role": "user", "content": text}]
        given = [{"role": "user", "content": "What does the picture show?"}, {"role": "assistant", "content": text}]
        return self._card.verdict(self._write(given if answer else question))


def classifiers() -> dict[str, ClassifierCard]:
    """Return a mapping from id to card of the known classifiers.

    Raises:
        ModelError: if the file is damaged.
    """
    try:
        content = resources.load_json("guard", "classifiers.json")
        wanted = {f.name for f in fields(ClassifierCard)} - {"id"}
        cards = {}
        for name, entry in content.items():
            if set(entry) != wanted or set(entry["verdicts"].values()) - set(VERDICTS):
                raise ValueError(name)
            cards[name] = ClassifierCard(name, **entry | {"escalates": tuple(entry["escalates"])})
        return cards
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"The guard's classifiers can't be read ({error}); install MedFM again.") from error


def choose(name: str, model: str = "") -> None:
    """Store the choice of a classifier for patients' texts on this computer.

    Args:
        name: id of a card; "" for the rules alone.
        model: a folder that replaces the card's hub id.

    Raises:
        InputError: if the classifier is unknown.
        OutputError: if the choice can't be saved.
    """
    if name and name not in classifiers():
        raise InputError(f"There is no classifier '{name}'; choose one of {', '.join(classifiers())}, or none.")
    user_settings.write(_file(), {"classifier": name, "model": model}, "The guard's choice")


def chosen() -> ClassifierCard | None:
    """Return the card of the chosen classifier, or None."""
    kept = user_settings.read(_file())
    card = classifiers().get(str(kept.get("classifier", "")))
    return replace(card, model=str(kept.get("model") or card.model)) if card is not None else None


def by_choice(load: Callable[[str, int], Write]) -> Guard:
    """Return a guard with the shipped rules and the chosen classifier, if any.

    Args:
        load: (model, maximal length of the output) → the model.

    Raises:
        ModelError: if a classifier was chosen and can't be loaded: then no text is judged.
    """
    card = chosen()
    return Guard(classifier=ModelClassifier(card, load(card.model, card.max_tokens)) if card is not None else None)


def _file() -> Path:
    return paths.settings() / "guard.json"

"""Describe a model before it is loaded: its card, read strictly from JSON. Knows no weights and no architecture."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ModelError
from .json_records import check_record
from .json_text import read_json

ABILITIES = ("writes", "segments", "locates", "outlines", "explains")
"""Names of the abilities in `interfaces.model`, as cards list them."""

AUTOMATIC = "automatic"
"""In place of an adapter's name: the adapter that was trained for the request."""


@dataclass(frozen=True)
class Score:
    """A published evaluation result of a model, measured by others on their data.

    Args:
        benchmark: the test set.
        metric: what was measured, with its unit.
        value: as published.
        source: the publication. Scores from different sources are not comparable.
    """

    benchmark: str
    metric: str
    value: float
    source: str


@dataclass(frozen=True)
class ModelCard:
    """Everything about a model that is known before it is loaded. Read from JSON, strictly.

    Args:
        id: unique name, or hub id.
        title: display name.
        architecture: file in MedFMLib/models that loads it.
        summary: one sentence, shown wherever the model answers.
        licence: in plain words.
        parameters: total number.
        image_size: side length in pixels of the model's input image.
        abilities: of `ABILITIES`.
        precisions: precisions of the weights; the first is the default.
        weights: folder inside the resources, "" if it must come from the hub or a folder.
        revision: hub revision that the card was written for.
        config: folder inside the resources with config.json, for sizes before any download.
        licence_url: where the licence is published.
        gate: terms that must be accepted first, "" if none.
        modalities: e.g. ("MR", "CT"); empty means any.
        labels: modality → structures that it can segment; {"*": …} for any modality; empty list: open vocabulary.
        on_request: labels that are segmented only when they are named, such as unions of others.
        questions: kinds of question with an example each; empty for free questions.
        adapters: names of the adapters that come with it; the first is the default unless `default_adapter` is set.
        default_adapter: a name, or `AUTOMATIC`.
        adapter_labels: adapter → modality → structures that it was trained for; used by `AUTOMATIC`.
        seconds_per_slice: approximate time per slice on two CPU cores, for warnings; 0 if unknown.
        recipe: one or two sentences on the model's input.
        scores: published results.
        endpoint: of a model on a server: address and protocol; see `endpoints.settings.Endpoint`.
        languages: language codes.
        not_for: uses that the model is not suitable for.
        citation: publication to cite.
        data: training data.

    Raises:
        ModelError: for unknown abilities or adapters, no precision, or damaged scores.
    """

    id: str
    title: str
    architecture: str
    summary: str
    licence: str
    parameters: int
    image_size: int
    abilities: tuple[str, ...]
    precisions: tuple[str, ...]
    weights: str = ""
    revision: str = ""
    config: str = ""
    licence_url: str = ""
    gate: str = ""
    modalities: tuple[str, ...] = ()
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    on_request: tuple[str, ...] = ()
    questions: dict[str, str] = field(default_factory=dict)
    adapters: tuple[str, ...] = ()
    default_adapter: str = ""
    adapter_labels: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    seconds_per_slice: float = 0.0
    recipe: str = ""
    scores: tuple[Score, ...] = ()
    endpoint: dict[str, Any] = field(default_factory=dict)
    languages: tuple[str, ...] = ("en",)
    not_for: str = ""
    citation: str = ""
    data: str = ""

    def __post_init__(self) -> None:
        for name in ("abilities", "precisions", "modalities", "adapters", "languages", "on_request"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "labels", {key: tuple(value) for key, value in self.labels.items()})
        chosen_for = {a: {m: tuple(names) for m, names in of.items()} for a, of in self.adapter_labels.items()}
        object.__setattr__(self, "adapter_labels", chosen_for)
        object.__setattr__(self, "scores", tuple(self._score(score) for score in self.scores))
        unknown = set(self.abilities) - set(ABILITIES)
        if unknown:
            raise ModelError(
                f"Card '{self.id}' has unknown abilities {sorted(unknown)}; allowed are {', '.join(ABILITIES)}."
            )
        unknown = (set(self.adapter_labels) | ({self.default_adapter} - {"", AUTOMATIC})) - set(self.adapters)
        if unknown:
            raise ModelError(f"Card '{self.id}' names adapters that it does not list: {', '.join(sorted(unknown))}.")
        if not self.precisions:
            raise ModelError(f"Card '{self.id}' must list at least one precision.")

    def _score(self, score: Score | dict) -> Score:
        if isinstance(score, Score):
            return score
        try:
            empty = [name for name, value in check_record(Score, score).items() if value == ""]
            if empty:
                raise ValueError(f"its field '{empty[0]}' must not be empty")
            return Score(**score)
        except ValueError as error:
            raise ModelError(f"A score of card '{self.id}' is damaged: {error}; correct or remove it.") from error

    def labels_for(self, modality: str) -> tuple[str, ...]:
        """Return the structures that the model knows in images of a modality, e.g. 'MR'; empty if any or none."""
        return self.labels.get(modality, self.labels.get("*", ()))

    def as_json(self) -> dict:
        """Return the card as a JSON object that `from_json` reads."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, path: Path) -> ModelCard:
        """Read and check a card.

        Raises:
            ModelError: if the file is not JSON, lacks a field, has an unknown one or one of the wrong type.
        """
        try:
            return cls(**check_record(cls, read_json(path.read_bytes())))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise ModelError(
                f"The model card {path.name} can't be used: {error}; correct, restore or delete it."
            ) from error

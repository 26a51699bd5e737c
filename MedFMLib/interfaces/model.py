"""What a model is, without any torch: ability protocols and `ModelCard`.

A model object is whatever an architecture's `load` returns; tasks ask it only for abilities:

* `Writes`: text about pictures;
* `Segments`: masks of named structures in pictures;
* `Locates`: boxes of named structures in pictures;
* `NamedStructureMasks`: masks of what a person marked, followed through the volume;
* `Explains`: how likely a given answer is, and where in the pictures the network looked for it.

They work on `View`s (one slice each) or an `Image`, never on files, nodes or tensors, so that a task does not know
which architecture answers it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..core.geometry import BoxedMask
from ..core.image import Image
from ..core.slice_prompts import SlicePrompts
from ..core.view import View
from ..errors import ModelError

ABILITIES = ("writes", "segments", "locates", "outlines", "explains")

AUTOMATIC = "automatic"
"""In place of an adapter's name: whichever suits what is asked."""


@dataclass(frozen=True, eq=False)
class SeenObject:
    """A structure that a model saw in one view.

    Args:
        label: as it was asked for.
        box: (y0, x0, y1, x1), each 0…1 in the view's square.
        mask: (h, w) float 0…1 over the box, rows down, at least 2×2, or None for a box alone.
    """

    label: str
    box: tuple[float, float, float, float]
    mask: np.ndarray | None = None


def _nothing(*_) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Callbacks:
    """Whom an ability tells what it does.

    Args:
        on_prompt: gets every prompt, word for word, before it is used.
        on_text: gets pieces of text as they are written.
        on_fraction: gets 0…1.
        on_note: gets what a person should know of the result; it becomes part of the provenance.
        on_tokens: gets how many tokens were read and written, after each answer.
        cancelled: asked at least once a token; true ends the work with `Cancelled`.
    """

    on_prompt: Callable[[str], None] = _nothing
    on_text: Callable[[str], None] = _nothing
    on_fraction: Callable[[float], None] = _nothing
    on_note: Callable[[str], None] = _nothing
    on_tokens: Callable[[int, int], None] = _nothing
    cancelled: Callable[[], bool] = bool


KINDS = ("answer", "caption", "describe")
"""Kinds of text: the answer to a question, a caption, a longer description."""


@runtime_checkable
class CachesImages(Protocol):
    """Keeps what it made of pictures for the next question about them, within bounds."""

    image_cache: CacheUse


class CacheUse(Protocol):
    """What a model keeps: how many `bytes` now, how many of such bytes were `reused` so far, and `drop()` to forget it."""

    reused: int

    @property
    def bytes(self) -> int:
        """Held now."""

    def drop(self) -> None:
        """Forget everything."""


@runtime_checkable
class Writes(Protocol):
    """Can write text about pictures. `max_views` is how many it can look at in one question.

    One that reads earlier turns though it looks at a single picture has `remembers = True`.
    """

    max_views: int

    def write(
        self,
        views: Sequence[View],
        text: str = "",
        *,
        kind: str = "answer",
        history: Sequence[tuple[str, str]] = (),
        max_tokens: int = 64,
        callbacks: Callbacks = Callbacks(),
    ) -> str:
        """Answer the question `text` about 1…`max_views` views, or caption or describe them.

        Raises:
            Cancelled: within one token after `watch.cancelled()` turns true.
        """


@runtime_checkable
class WritesMany(Protocol):
    """Answers several questions in one pass, each about a picture of its own; the same answers as one by one, sooner."""

    def write_many(
        self, views: Sequence[View], texts: Sequence[str], *, max_tokens: int = 64, callbacks: Callbacks = Callbacks()
    ) -> list[str]:
        """One answer for each (view, question).

        Raises:
            Cancelled: within one token after `watch.cancelled()` turns true.
        """


@runtime_checkable
class Samples(Protocol):
    """Answers the same question several times, at random by how likely each word is: where it is unsure, answers differ."""

    def sample(
        self,
        views: Sequence[View],
        text: str,
        count: int,
        *,
        temperature: float = 1.0,
        history: Sequence[tuple[str, str]] = (),
        max_tokens: int = 64,
        callbacks: Callbacks = Callbacks(),
    ) -> list[str]:
        """`count` answers about 1…`max_views` views; the same ones each time, where the model runs here.

        Raises:
            Cancelled: within one token after `watch.cancelled()` turns true.
        """


@runtime_checkable
class Explains(Protocol):
    """Tells what an answer rests on."""

    def score(
        self,
        shown: Sequence[Sequence[View]],
        text: str,
        answer: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        callbacks: Callbacks = Callbacks(),
    ) -> list[float]:
        """For each way of showing the pictures: mean log-probability of a token of `answer` (its end included), in nats.

        Args:
            shown: lists of views, each of as many.

        Raises:
            Cancelled: at the next way of showing them after `watch.cancelled()` turns true.
        """

    def attention(
        self,
        views: Sequence[View],
        text: str,
        answer: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        callbacks: Callbacks = Callbacks(),
    ) -> list[np.ndarray]:
        """For each view (h, w) float32 ≥ 0 over its square, rows down: how much attention `answer` paid, rolled out."""


@runtime_checkable
class ChoosesSlices(Protocol):
    """Sees many pictures at once, and has a recipe for which slices of a volume they are."""

    def choose_slices(self, count: int) -> list[int]:
        """Which of `count` slices to show, ascending, 0…count − 1, at most `max_views`."""


@runtime_checkable
class Segments(Protocol):
    """Can draw named structures."""

    def segment(
        self, views: Sequence[View], labels: Sequence[str], *, callbacks: Callbacks = Callbacks()
    ) -> list[list[SeenObject]]:
        """For each view the structures seen in it, with masks; labels that are not there are left out."""


@runtime_checkable
class SegmentsVolumes(Protocol):
    """Can draw named structures in a whole volume at once, better than slice by slice, if `draws_volumes` is true."""

    draws_volumes: bool

    def segment_volume(
        self, image: Image, labels: Sequence[str], *, callbacks: Callbacks = Callbacks()
    ) -> dict[str, BoxedMask]:
        """label → mask on the image's grid; labels that are not there are left out.

        Raises:
            Cancelled: soon after `watch.cancelled()` turns true.
        """


@runtime_checkable
class Locates(Protocol):
    """Can box named structures."""

    def locate(
        self, views: Sequence[View], labels: Sequence[str], *, callbacks: Callbacks = Callbacks()
    ) -> list[list[SeenObject]]:
        """For each view the structures seen in it, without masks."""


@runtime_checkable
class Outlines(Protocol):
    """Can draw what a person marked in some slices, and follow it to the others."""

    def outline(
        self, image: Image, marks: SlicePrompts, *, callbacks: Callbacks = Callbacks()
    ) -> dict[str, np.ndarray]:
        """label → (I, J, K) bool on the image's grid, nothing outside of the marks' range of slices.

        Raises:
            Cancelled: at the next slice after `watch.cancelled()` turns true.
        """


@dataclass(frozen=True)
class LoadedFacts:
    """What a loaded model says of itself, for provenance.

    Args:
        revision: SHA-256 over the weight files, or the hub's revision.
        precision: how its weights are held.
        adapter: name of the active adapter, "" if none.
        adapter_hash: SHA-256 of the adapter's weights, "" if none.
        notes: what a person should know of it, such as that the adapter was made for another base.
    """

    revision: str = ""
    precision: str = ""
    adapter: str = ""
    adapter_hash: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """A published number of a model; others measured it, on their data.

    Args:
        benchmark: the test set. metric: what was counted, with its unit. value: as published.
        source: where it was read. Scores from different sources are not comparable.
    """

    benchmark: str
    metric: str
    value: float
    source: str


@dataclass(frozen=True)
class ModelCard:
    """Everything about a model that can be known before loading it. Read from JSON, strictly.

    Args:
        id: unique name, or hub id.
        title: what people call it.
        architecture: file in MedFMLib/models that loads it.
        summary: one sentence, shown wherever the model answers.
        weights: folder inside the resources, "" if it must come from the hub or a folder.
        revision: hub revision the card was written for.
        config: folder inside the resources with config.json, for sizes before any download.
        licence, licence_url, gate: in plain words; gate says what must be accepted first, "" if nothing.
        parameters: total number.
        image_size: pixels along the side of what the model sees.
        modalities: e.g. ("MR", "CT"); empty means any.
        abilities: of `ABILITIES`.
        labels: modality → structures that it can segment; {"*": …} for any modality; empty list: open vocabulary.
        on_request: labels that are drawn only when they are named, such as unions of others.
        questions: kinds of question with an example each; empty for free questions.
        precisions: the ways its weights can be held; the first is the default.
        adapters: names of the adapters that come with it; the first is the default unless `default_adapter` says another.
        default_adapter: a name, or `AUTOMATIC`.
        adapter_labels: adapter → modality → structures that it is made for; what `AUTOMATIC` goes by.
        seconds_per_slice: rough time per slice on two CPU cores, for warnings; 0 if unknown.
        recipe: one or two sentences on what the model is shown of a volume.
        scores: published numbers.
        endpoint: of a model that runs elsewhere: where, and how it is asked; see `endpoints.settings.Endpoint`.
        languages, not_for, citation, data: for people.
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
        wanted = {"benchmark": str, "metric": str, "value": int | float, "source": str}
        if not isinstance(score, dict) or set(score) != set(wanted):
            raise ModelError(f"A score of card '{self.id}' must have {', '.join(wanted)}, not {score!r}.")
        for name, kind in wanted.items():
            if not isinstance(score[name], kind) or isinstance(score[name], bool) or score[name] == "":
                what = "a text" if kind is str else "a number"
                raise ModelError(f"In a score of card '{self.id}', '{name}' must be {what}, not {score[name]!r}.")
        return Score(**score)

    def labels_for(self, modality: str) -> tuple[str, ...]:
        """Structures that the model knows in images of a modality, e.g. 'MR'; empty if any or none."""
        return self.labels.get(modality, self.labels.get("*", ()))

    def as_json(self) -> dict:
        """The card as `from_json` reads it."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_json(cls, path: Path) -> ModelCard:
        """Read and check a card.

        Raises:
            ModelError: if the file is not JSON, lacks a field, has an unknown one or one of the wrong kind.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(f"The model card {path.name} can't be read ({error}); restore or delete it.") from error
        if not isinstance(content, dict):
            raise ModelError(f"The model card {path.name} must be a JSON object, not {type(content).__name__}.")
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(content) - set(known))
        if unknown:
            raise ModelError(
                f"The model card {path.name} has unknown fields {', '.join(unknown)}; correct or remove them."
            )
        kinds = {"str": str, "int": int, "float": int | float}
        for name, value in content.items():
            annotation = str(known[name].type)
            kind = kinds.get(annotation, dict if annotation.startswith("dict") else list)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ModelError(f"In the model card {path.name}, '{name}' must be {annotation}, not {value!r}.")
        try:
            return cls(**content)
        except TypeError as error:
            raise ModelError(f"The model card {path.name} is incomplete: {error}.") from error

"""Define the abilities of a model as protocols, without torch.

A model object is the result of an architecture's `load`; tasks use only its abilities:

* `Writes`: text about pictures;
* `Segments`: masks of named structures in pictures;
* `Locates`: boxes of named structures in pictures;
* `Outlines`: masks of structures that the user prompted in some slices, propagated through the volume;
* `Explains`: how likely a given answer is, and which parts of the pictures the network attended to;
* `StatesAgreement`: how well its volumes agree with those of a reference.

They work on `View`s (one slice each) or an `Image`, never on files, nodes or tensors, so that a task does not depend on
the architecture of its model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ..core.domain import ImageDomain
from ..core.findings import Agreement
from ..core.geometry import BoxedMask
from ..core.image import Image
from ..core.slice_prompts import SlicePrompts
from ..core.view import SeenObject, View


def _nothing(*_) -> None:
    """Ignore all arguments; the default of callbacks."""


@dataclass(frozen=True)
class Callbacks:
    """Callbacks of an ability for progress, streamed text and cancellation.

    Args:
        on_prompt: receives every prompt, verbatim, before it is used.
        on_text: receives pieces of text as they are generated.
        on_fraction: receives the progress, 0…1.
        on_note: receives messages about the result for the user; they become part of the provenance.
        on_tokens: receives the numbers of tokens read and written, after each answer.
        cancelled: called at least once per token; if it returns true, the work ends with `Cancelled`.
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
    """A model that caches encoded images for further questions about them, within memory limits."""

    image_cache: CacheUse


class CacheUse(Protocol):
    """Use of a model's image cache: size in `bytes`, `reused` (bytes reused so far), and `drop()` to clear it."""

    reused: int

    @property
    def bytes(self) -> int:
        """Current size of the cache, bytes."""

    def drop(self) -> None:
        """Clear the cache."""


@runtime_checkable
class KnowsDomain(Protocol):
    """A model that recognises images which it was not made for."""

    def domain(self, image: Image) -> ImageDomain:
        """Return what the model takes a volume or a picture for.

        Args:
            image: the image.
        """


@runtime_checkable
class Writes(Protocol):
    """Writes text about pictures. `max_views` is the largest number of pictures in one question.

    A model that reads earlier turns although it takes a single picture has `remembers = True`.
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
        """Answer the question `text` about the views, or write a caption or description of them.

        Args:
            views: 1…`max_views` slices.
            text: the question; "" for captions and descriptions.
            kind: one of `KINDS`.
            history: earlier (question, answer) pairs, oldest first.
            max_tokens: largest number of generated tokens.
            callbacks: for progress and cancellation.

        Raises:
            Cancelled: within one token after `callbacks.cancelled()` returns true.
        """


@runtime_checkable
class WritesMany(Protocol):
    """Answers several questions in one batch, each about its own picture; same answers as one by one, but faster."""

    def write_many(
        self, views: Sequence[View], texts: Sequence[str], *, max_tokens: int = 64, callbacks: Callbacks = Callbacks()
    ) -> list[str]:
        """Return one answer for each (view, question).

        Args:
            views: one slice per question.
            texts: the questions, as many as views.
            max_tokens: largest number of generated tokens per answer.
            callbacks: for progress and cancellation.

        Raises:
            Cancelled: within one token after `callbacks.cancelled()` returns true.
        """


@runtime_checkable
class Samples(Protocol):
    """Samples several answers to one question by the model's probabilities; they differ where the model is uncertain."""

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
        """Return `count` sampled answers; with a fixed seed, so that a local model returns the same ones each time.

        Args:
            views: 1…`max_views` slices.
            text: the question.
            count: number of answers.
            temperature: divides the logits before sampling; 1 leaves the model's probabilities unchanged.
            history: earlier (question, answer) pairs, oldest first.
            max_tokens: largest number of generated tokens per answer.
            callbacks: for progress and cancellation.

        Raises:
            Cancelled: within one token after `callbacks.cancelled()` returns true.
        """


@runtime_checkable
class Explains(Protocol):
    """Attributes an answer to parts of the input."""

    def score(
        self,
        shown: Sequence[Sequence[View]],
        text: str,
        answer: str,
        *,
        history: Sequence[tuple[str, str]] = (),
        callbacks: Callbacks = Callbacks(),
    ) -> list[float]:
        """Return the mean log-probability per token of `answer` for each variant of the pictures.

        In nats; the end token is included.

        Args:
            shown: variants of the pictures; each is a list with the same number of views.
            text: the question.
            answer: the answer whose probability is computed.
            history: earlier (question, answer) pairs, oldest first.
            callbacks: for progress and cancellation.

        Raises:
            Cancelled: before the next variant after `callbacks.cancelled()` returns true.
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
        """Return the attention rollout of `answer` for each view: (h, w) float32 ≥ 0 over the view's square, rows down.

        Args:
            views: 1…`max_views` slices.
            text: the question.
            answer: the answer whose attention is computed.
            history: earlier (question, answer) pairs, oldest first.
            callbacks: for progress and cancellation.
        """


@runtime_checkable
class ChoosesSlices(Protocol):
    """Takes many pictures at once and has a recipe for selecting the slices of a volume."""

    def choose_slices(self, count: int) -> list[int]:
        """Return the slices to show out of `count`, ascending, each 0…count − 1, at most `max_views`."""


@runtime_checkable
class Segments(Protocol):
    """Segments named structures in pictures."""

    def segment(
        self, views: Sequence[View], labels: Sequence[str], *, callbacks: Callbacks = Callbacks()
    ) -> list[list[SeenObject]]:
        """Return the structures found in each view, with masks; absent labels are left out.

        Args:
            views: slices, one result each.
            labels: names of the structures.
            callbacks: for progress and cancellation.
        """


@runtime_checkable
class SegmentsVolumes(Protocol):
    """Segments named structures in a whole volume at once, better than slice by slice, if `draws_volumes` is true.

    A model with structures that it can't segment in single slices has `draws_slices(labels, modality) -> bool`, too.
    """

    draws_volumes: bool

    def segment_volume(
        self, image: Image, labels: Sequence[str], *, callbacks: Callbacks = Callbacks()
    ) -> dict[str, BoxedMask]:
        """Return label → mask on the image's grid; absent labels are left out.

        Args:
            image: scalar volume.
            labels: names of the structures.
            callbacks: for progress and cancellation.

        Raises:
            Cancelled: soon after `callbacks.cancelled()` returns true.
        """


@runtime_checkable
class StatesAgreement(Protocol):
    """Knows how well the volumes that it measures agree with those of a reference."""

    def agreement(self, label: str) -> Agreement | None:
        """Return the limits of agreement of a structure's volume, None if they were not measured.

        Args:
            label: name of the structure, as in `SegmentsVolumes`.
        """


def agreements_in(facts: Mapping) -> dict[str, Agreement]:
    """Return label → agreement of the facts of a mask head; empty if they state none.

    Args:
        facts: with `"agreement": {label: {"bias", "low", "high", "cases"}}` in percent, and a sentence in
            `"agreement_source"`.

    Raises:
        InputError: for limits that can't be right, see `Agreement`.
    """
    source = str(facts.get("agreement_source", ""))
    return {
        label: Agreement(float(one["bias"]), float(one["low"]), float(one["high"]), int(one["cases"]), source)
        for label, one in facts.get("agreement", {}).items()
    }


@runtime_checkable
class Locates(Protocol):
    """Finds bounding boxes of named structures."""

    def locate(
        self, views: Sequence[View], labels: Sequence[str], *, callbacks: Callbacks = Callbacks()
    ) -> list[list[SeenObject]]:
        """Return the structures found in each view, without masks.

        Args:
            views: slices, one result each.
            labels: names of the structures.
            callbacks: for progress and cancellation.
        """


@runtime_checkable
class Outlines(Protocol):
    """Segments structures that the user prompted in some slices, and propagates them to the other slices."""

    def outline(
        self, image: Image, marks: SlicePrompts, *, callbacks: Callbacks = Callbacks()
    ) -> dict[str, np.ndarray]:
        """Return label → (I, J, K) bool on the image's grid, False outside the prompts' range of slices.

        Args:
            image: scalar volume.
            marks: prompts (points, boxes, outlines) in some slices.
            callbacks: for progress and cancellation.

        Raises:
            Cancelled: at the next slice after `callbacks.cancelled()` returns true.
        """


@dataclass(frozen=True)
class LoadedFacts:
    """Facts of a loaded model, for provenance.

    Args:
        revision: SHA-256 over the weight files, or the revision on the hub.
        precision: precision of the weights in memory.
        adapter: name of the active adapter, "" if none.
        adapter_hash: SHA-256 of the adapter's weights, "" if none.
        notes: messages for the user, e.g. that the adapter was made for another base model.
    """

    revision: str = ""
    precision: str = ""
    adapter: str = ""
    adapter_hash: str = ""
    notes: tuple[str, ...] = ()

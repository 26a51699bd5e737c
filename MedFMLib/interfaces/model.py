"""What a model is, without any torch: protocols of abilities.

A model object is whatever an architecture's `load` returns; tasks ask it only for abilities:

* `Writes`: text about pictures;
* `Segments`: masks of named structures in pictures;
* `Locates`: boxes of named structures in pictures;
* `Outlines`: masks of what a person marked, followed through the volume;
* `Explains`: how likely a given answer is, and where in the pictures the network looked for it.

They work on `View`s (one slice each) or an `Image`, never on files, nodes or tensors, so that a task does not know
which architecture answers it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ..core.geometry import BoxedMask
from ..core.image import Image
from ..core.slice_prompts import SlicePrompts
from ..core.view import SeenObject, View


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

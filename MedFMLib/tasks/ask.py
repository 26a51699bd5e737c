"""Answer a question about a volume, a slice, an ROI or a segment.

Knows the ability `Writes`, never an architecture. A model that takes one picture at a time is asked about several
slices; where the answers differ, the reply gives the majority's, with the slices that say otherwise (`combining`). What
geometry or the header knows is answered from there, without the model's words (`from_geometry`). Numbers and sides in an
answer are checked against measurements, and the answer's reliability is assessed on request.
"""

from __future__ import annotations

import time
from dataclasses import replace

from ..core.domain import marked
from ..core.findings import Answer, Finding, Reliability, Segment, Segmentation
from ..core.geometry import PICTURE
from ..core.image import Image
from ..core.measurements import without_marks
from ..core.request import PATIENT, Request, SliceChoice
from ..core.view import View, edge_letters, make_view, window_for
from ..errors import InputError
from ..fact_check import (
    REGION,
    WithholdingStream,
    at_stake,
    check_answer,
    claims,
    or_removed,
    read_question,
    structures_named,
)
from ..fact_check.quantities import quantities
from ..fact_check.questions import HEADER
from ..imaging.region_views import near_view, outlined_view, region_mask, words_for
from ..imaging.slices import choose_slices, slice_reference
from ..interfaces.domain import ASK_ANYWAY
from ..interfaces.model import Callbacks, ChoosesSlices, WritesMany
from ..interfaces.task import TaskContext, TaskOption
from ..measure import measure_fully
from ..reliability.asking import SampledAnswer, assess_answer, shown
from ..storage.model_card import ModelCard
from .combining import combine
from .from_geometry import answer_from_geometry
from .from_header import GeometricAnswer, answer_from_header

SLICES_PER_QUESTION = 3
"""Slices of a volume that a one-picture model is asked about: at a quarter, half and three quarters."""


NOT_SAMPLED = "No language model wrote this answer, so there was nothing to sample and no control without the image."
"""Note in place of the assessment of such an answer."""


class AskTask:
    """Task that turns one question into one Answer with the slices it is based on."""

    name = "ask"
    needs = ("writes",)
    title = "Ask"
    summary = "Ask about the volume, a range of slices, a region or a segment."
    button = "Ask"
    tab = 2
    options: tuple[TaskOption, ...] = ()

    def answers_outside_domain(self, request: Request) -> bool:
        """Return that it says itself if the model was not made for the image."""
        return True

    def check(self, request: Request, card: ModelCard) -> None:
        """Implement `Task.check`."""
        if not request.question.strip():
            raise InputError("There is no question; type one, for example “Which organs are visible?”.")
        choose_slices(request.image.geometry, request.slices)

    def run(self, request: Request, context: TaskContext) -> tuple[Finding, ...]:
        """Implement `Task.run`."""
        question = asked = " ".join(request.question.split())
        stream = WithholdingStream(context.progress.partial)
        refused = bool(context.outside_domain) and not request.outside_domain
        known = _outside(request, context, question) if refused else answer_from_geometry(request, context, question)
        if known is not None:
            text = marked(known.text) if context.outside_domain and not refused else known.text
            stream.finish(text)
            return (Answer(question, text, known.evidence, _not_sampled(request, text)),)
        chooser = context.model if isinstance(context.model, ChoosesSlices) else None
        views = views_for(request, context.model.max_views, chooser)
        context.progress.stage("Reading the question")
        evidence = context.slices_seen(views)
        if request.history and not getattr(context.model, "remembers", context.model.max_views > 1):
            context.note(f"{context.card.title} answers each question separately; it does not read earlier ones.")
        if request.prompts and len(views) == 2:
            plane = views[0].plane
            asked = f"{words_for(request.image, region_mask(request.prompts, request.image), plane)} {question}"
        started = time.monotonic()
        given = self._answers(request, context, views, asked, stream)
        held = MeasurementCheck(request, context, views)
        texts = [held.check(question, one.said) for one in given]
        text = or_removed(texts[0]) if len(texts) == 1 else combine(list(zip(views, texts, strict=True)))
        reliability = None
        if request.reliability.wanted:
            reliability = assess_answer(request, context, text, given, time.monotonic() - started)
            for note in reliability.notes:
                context.note(note)
            text = shown(reliability, text)
        text = marked(text) if context.outside_domain else text
        stream.finish(text)
        if request.audience == PATIENT:  # samples and confidence are for clinicians; the text reflects their result
            reliability = None
        return (Answer(question, text, evidence, reliability),)

    def _answers(
        self, request: Request, context: TaskContext, views: list[View], asked: str, stream: WithholdingStream
    ) -> list[SampledAnswer]:
        """Return one answer about all views if the model takes them all, else one about each."""
        if len(views) <= context.model.max_views:
            callbacks = context.callbacks()
            if not request.reliability.samples:  # an answer that may be withheld is not streamed
                callbacks = replace(callbacks, on_text=stream)
            return [SampledAnswer(views, asked, self._write(request, context, views, asked, callbacks))]
        if isinstance(context.model, WritesMany):
            said = context.model.write_many(
                views, [asked] * len(views), max_tokens=request.max_tokens, callbacks=context.callbacks()
            )
        else:
            said = [
                self._write(request, context, [view], asked, context.callbacks(n / len(views), (n + 1) / len(views)))
                for n, view in enumerate(views)
            ]
        return [SampledAnswer([view], asked, text) for view, text in zip(views, said, strict=True)]

    def _write(
        self, request: Request, context: TaskContext, views: list[View], asked: str, callbacks: Callbacks
    ) -> str:
        text = context.model.write(
            views, asked, kind="answer", history=request.history, max_tokens=request.max_tokens, callbacks=callbacks
        )
        callbacks.on_fraction(1.0)
        return text


def _outside(request: Request, context: TaskContext, question: str) -> GeometricAnswer:
    """Return what is said of an image that the model was not made for: what its header knows, else what to do."""
    image = request.image
    asked = None if image.is_picture or request.prompts else read_question(question, ())
    if asked is not None and asked.kind in HEADER:
        return answer_from_header(asked, request, context.domain(image))
    return GeometricAnswer(f"{context.outside_domain} {ASK_ANYWAY}")


def _not_sampled(request: Request, text: str) -> Reliability | None:
    """Return the assessment of an answer that no language model wrote; None if none is wanted, or a patient asks."""
    if not request.reliability.wanted or request.audience == PATIENT:
        return None
    return Reliability(text, notes=(NOT_SAMPLED,))


class MeasurementCheck:
    """Checks answers against measurements.

    The measurements are those of the request, those of the marked region, and, if the model segments whole volumes,
    those of structures that the answer names, segmented when needed.

    Args:
        request: with the image.
        context: model, progress and provenance.
        views: the slices that were shown.
    """

    def __init__(self, request: Request, context: TaskContext, views: list[View]):
        self._request, self._work, self._plane = request, context, views[0].plane
        self._allowed = (*(str(slice_reference(view)) for view in views), *sides_stated(request.image))
        self._measured = list(without_marks(request.measurements))
        self._looked: set[str] = {m.segment for m in self._measured}
        if request.prompts:
            mask = region_mask(request.prompts, request.image)
            region = Segmentation((Segment(REGION, mask),), request.image.geometry)
            self._measured += measure_fully(region, request.image)

    def check(self, question: str, said: str) -> str:
        """Return the answer without unsupported statements; what was removed becomes a note.

        Args:
            question: the question.
            said: the model's answer.
        """
        if not claims(said):
            return said
        if at_stake(said):
            self._measure(f"{question} {said}", bool(quantities(said)) or "{" in said)
        checked = check_answer(question, said, self._measured, self._allowed, self._plane)
        if checked.removed:
            gone = "; ".join(f"“{removed.text}” ({removed.reason})" for removed in checked.removed)
            self._work.note(f"Removed from the model's text because no measurement supports it: {gone}.")
        for note in checked.notes:
            self._work.note(note)
        return checked.text

    def _measure(self, text: str, fully: bool) -> None:
        """Segment and measure the structures that a text names, if the model segments whole volumes; diameters if `fully`."""
        card, image = self._work.card, self._request.image
        if image.is_picture or not ("segments" in card.abilities and getattr(self._work.model, "draws_volumes", False)):
            return
        named = [n for n in structures_named(text, card.labels_for(image.modality)) if n not in self._looked]
        if not named:
            return
        self._looked.update(named)
        self._work.progress.stage("Measuring the structures that the answer names")
        request = replace(self._request, labels=tuple(named), prompts=(), slices=SliceChoice())
        segmentation, *measured = self._work.run_task("segment", request)
        self._measured += without_marks(measure_fully(segmentation, image) if fully else measured)


def views_for(request: Request, max_views: int, chooser: ChoosesSlices | None = None) -> list[View]:
    """Return the slices that a question is about: the chosen one, those of an ROI or segment, or some of the volume.

    Args:
        request: with image, prompts and choice of slices.
        max_views: largest number of slices that the model takes at once.
        chooser: the model, if it has its own recipe for selecting slices.
    """
    image, choice = request.image, request.slices
    plane = choice.plane or image.geometry.acquisition_plane
    window = window_for(image)
    if request.prompts:
        mask = region_mask(request.prompts, image)
        return [outlined_view(image, mask, plane), near_view(image, mask, plane)][max_views < 2 :]
    else:
        if image.is_picture and chooser is not None:
            chooser = None  # a model's recipe for slices is none for pictures
        n = image.geometry.shape[image.geometry.index_axis(plane)]
        first, last = max(choice.first, 0), n - 1 if choice.last < 0 else choice.last
        if chooser is not None:
            numbers = [first + number for number in chooser.choose_slices(last - first + 1)]
        else:
            count = min(SLICES_PER_QUESTION if max_views == 1 else max_views, last - first + 1)
            numbers = sorted({round(first + (last - first) * (i + 1) / (count + 1)) for i in range(count)})
            if count > last - first:  # all slices can be shown
                numbers = list(range(first, last + 1))
    return [make_view(image, plane, number, window) for number in numbers]


def sides_stated(image: Image) -> tuple[str, ...]:
    """Return the words for sides that the header of a picture supports, so that a model's text may state them.

    Args:
        image: a picture; its facts may have the laterality of a breast or limb, or the orientation of a radiograph.
    """
    if not image.is_picture:
        return ()
    stated = ("left", "right") if any(edge_letters(image.geometry, PICTURE, image.facts)) else ()
    stated = (*stated, *filter(None, [image.facts.get("Laterality", "")]))
    return tuple(f"{side}{end}" for side in dict.fromkeys(stated) for end in ("-sided", " sided", ""))


TASK = AskTask()

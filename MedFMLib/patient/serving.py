"""Run a patient's request under the guard: check the question, then answer with approved parts only.

What a patient is shown follows from the intent of the question, the segmentation and the glossary (`replies`), and is
rendered by `parts.render`. A language model's words have no path to the screen: its text, labels, notes, titles, errors and
progress end here. Two switches of the clinic, both off by default, let a model choose one of the approved replies, or show
its own sentences with a warning (`settings`). A question that is not allowed reaches no model, neither by itself nor
spread over several turns of a conversation.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..core.findings import Answer, Comparison, Finding, MatchedSlice, Part, Segment, Segmentation, SliceReference
from ..core.geometry import PICTURE, PLANES, Geometry
from ..core.image import Image
from ..core.request import PATIENT, Provenance, Request, Response
from ..core.terminology import split_side, structure
from ..errors import Cancelled, InputError, MedFMError, ModelError, OutputError, OutsideDomain
from ..guard import Guard, Verdict, VerdictLog
from ..healthy import references
from ..interfaces import registry
from ..interfaces.jobs import Event, Fraction, Progress, ProgressBase, Stage
from .glossary import Glossary, glossary
from .parts import STAFF, TROUBLE, render
from .replies import NEEDS_SEGMENTS, OF_KIND, PERMITTED, USUAL, Facts, escalate, offered, refuse, reply, subject_of
from .settings import PatientSettings, read_settings

TASKS = ("ask", "segment", "compare")
"""Tasks for patients; a report is written for clinicians."""

JOINED = 3
"""Number of earlier questions checked together with the next one, since a question can be split over several turns."""

TITLE = "MedFM"
"""The only title and name in a patient's response."""

CHOICE = (
    "Which one of these words fits the question best? {intents}. Question: {question} Answer with this one word only."
)
"""Question to a model that may choose a reply."""

Run = Callable[[Request, Progress], Response]


def run_for_patient(
    request: Request,
    progress: Progress,
    run: Run,
    guard: Guard | None = None,
    log: VerdictLog | None = None,
    settings: PatientSettings | None = None,
) -> Response:
    """Run a patient's request as far as the policy allows.

    Args:
        request: the patient's.
        progress: callbacks for stages, fraction, streamed text and cancellation.
        run: runs the request.
        guard: the shipped rules by default.
        log: the user's log by default.
        settings: the clinic's choices; those of this computer by default.

    Raises:
        InputError: for a task that is not for patients.
        MedFMError: of the kind that `run` raised, with an approved text instead of its message.
    """
    if request.task not in TASKS:
        known = f"task '{request.task}'" if request.task in registry.tasks() else "task of this name"
        raise InputError(f"In patient mode there is no {known}, only {', '.join(TASKS)}; ask the staff.")
    request = replace(request, outside_domain=False)  # a patient is shown nothing that a model was not made for
    settings = settings or read_settings()
    door = _Door(request, progress, run, guard or Guard(), log or VerdictLog(), settings)
    try:
        return door.response()
    except Cancelled:
        problem: type[MedFMError] = Cancelled
    except MedFMError as error:
        problem = next(
            kind for kind in (InputError, OutputError, ModelError) if isinstance(error, kind) or kind is ModelError
        )
    except Exception as error:
        logging.error("MedFM: a patient's job failed (%s)", _known_error(error))
        problem = ModelError
    if problem is Cancelled:
        raise Cancelled()
    raise problem(door.text((TROUBLE, STAFF)))  # outside of the handler, so that the original is not its context


class _Door:
    """One request of a patient, and what may leave it.

    Args:
        request, progress, run, guard, log, settings: see `run_for_patient`.
    """

    def __init__(self, request: Request, progress: Progress, run: Run, guard: Guard, log: VerdictLog, settings):
        self._language = settings.spoken(request.language)
        self._words, self._settings = glossary(self._language), settings
        self._request, self._progress, self._run, self._guard, self._log = request, progress, run, guard, log
        self._besides: tuple[tuple[Part, ...], str, tuple[str, ...]] = ((), "", ())  # of a part that is refused

    def text(self, parts: Sequence[Part]) -> str:
        """Return parts in the patient's language."""
        return render(parts, self._language, self._settings)

    def response(self) -> Response:
        """Return the response to the request."""
        if self._request.task != "ask":
            response = self._model(self._request)
            return self._closed(response, ())
        return self._asked()

    # -- questions ----------------------------------------------------------------------------------------

    def _asked(self) -> Response:
        request = self._request
        if request.intent:
            if request.intent not in PERMITTED:
                raise InputError("This intent is not permitted; choose one of the permitted ones.")
            subject = next((label for label in request.labels if self._words.knows(label)), "")
            self._request = replace(request, question=self.text((Part(f"button.{request.intent}"),)), history=())
            return self._answered(request.intent, subject)
        self._request = request = replace(request, history=_fit(request.history, self._guard))
        verdict = _judged(request, self._guard)
        self._log.add("question", verdict)
        if not request.language:  # the one that the question is in, if it is known
            self._language = self._settings.spoken(getattr(verdict, "language", ""))
            self._words = glossary(self._language)
        if not verdict.allowed:
            return self._refused(verdict)
        intent, subject = self._intent(verdict, request.question)
        if intent:
            return self._answered(intent, subject)
        return self._free() if self._settings.free_text else self._said(refuse("", self._words), "withhold", USUAL)

    def _intent(self, verdict: Verdict, question: str) -> tuple[str, str]:
        """Return the intent of an allowed question, and what it is about; "" if it is not recognised."""
        intent = getattr(verdict, "intent", "")
        subject = subject_of(question, self._language)
        if intent not in PERMITTED:
            kind, name = glossary().kind_of(question)
            intent, subject = OF_KIND.get(kind, ""), name or subject
        if not intent and self._settings.model_chooses:
            asked = CHOICE.format(intents=", ".join(PERMITTED), question=question)
            try:
                answers = self._model(replace(self._request, question=asked, history=())).answers
            except OutsideDomain:  # the model was not made for this image
                answers = []
            chosen = answers[0].text.strip().strip(".").lower() if answers else ""
            intent = chosen if chosen in PERMITTED else ""
        return intent, subject

    def _refused(self, verdict: Verdict) -> Response:
        """Refuse a question; a part of it that is permitted by itself is answered, too."""
        kind = getattr(verdict, "intent", "") or verdict.rule
        kind = kind if kind not in PERMITTED else verdict.rule
        if verdict.verdict == "escalate":
            return self._said(escalate(kind if "self" not in verdict.rule else "self_harm"), "escalate", ())
        parts, suggestions = refuse(kind, self._words), getattr(verdict, "suggestions", ())
        if permitted := getattr(verdict, "answerable", ""):
            other = self._guard.question(permitted)
            if other.allowed and (known := self._intent(other, permitted))[0]:
                self._besides = (parts[:-1], verdict.verdict, suggestions)
                return self._answered(*known)
        return self._said(parts, verdict.verdict, suggestions)

    def _answered(self, intent: str, subject: str) -> Response:
        """Answer a permitted intent from the picture and the glossary."""
        if intent == "healthy":
            return self._next_to_healthy()
        facts, drawn = Facts(self._request.image.modality), None
        if intent in NEEDS_SEGMENTS and (intent != "where_is" or self._words.knows(subject)):
            drawn = self._drawn(self._words.key(subject))
            if drawn is not None:
                facts = replace(facts, volumes=_volumes(drawn))
        parts = reply(intent, subject, facts, self._language, self._settings)
        return self._said(parts, "", (), (drawn,) if drawn is not None else ())

    def _drawn(self, name: str) -> Segmentation | None:
        """Return the segments of a structure, or of all, whose outlines failed no rule; None if nothing can be segmented.

        Args:
            name: of the structure, without side; "" for all.
        """
        try:
            response = self._model(
                replace(self._request, task="segment", question="", labels=(name,) if name else (), prompts=())
            )
        except InputError:  # the model can't segment this structure, or images of this kind
            return None
        doubted = {m.number for m in response.measurements if not m.is_reliable}
        for drawn in response.findings:
            if isinstance(drawn, Segmentation):
                sure = [s for number, s in enumerate(drawn.segments, 1) if number not in doubted]
                return self._allowed(replace(drawn, segments=tuple(sure)))
        return None

    def _next_to_healthy(self) -> Response:
        """Return the picture next to a healthy one at the same level, or a sentence if none suits."""
        request = self._request
        try:
            labels = registry.card(request.model).labels_for(request.image.modality)
            found = request.references or references(request.image, labels)
            request = replace(request, labels=(), prompts=(), references=found)
            response = self._model(replace(request, task="compare", question="", history=()))
        except InputError:  # no case suits, or the model segments nothing that the healthy one has
            return self._said((Part("no_healthy"), STAFF))
        shown = response.comparison
        if shown is None:
            return self._said((Part("no_healthy"), STAFF))
        kind = "healthy_computed" if shown.generated else "healthy_average" if found[0].average else "healthy"
        return self._said((Part(kind), STAFF), "", (), response.findings)

    def _free(self) -> Response:
        """Show a model's own sentences, which the clinic turned on, with a warning."""
        try:
            response = self._model(self._request)
        except OutsideDomain:
            return self._said(refuse("", self._words), "withhold", USUAL)
        words = " ".join(answer.text for answer in response.answers[:1])
        verdict = self._guard.answer(self._request.question, words)
        self._log.add("answer", verdict)
        if not verdict.allowed:
            return self._refused(verdict)
        return self._said((Part("free_warning"), Part("free", {"free": words}), STAFF))

    # -- what leaves ----------------------------------------------------------------------------------------

    def _model(self, request: Request) -> Response:
        response = self._run(request, _PartsProgress(self._progress, self.text((Part("working"),))))
        if not isinstance(response, Response):
            raise ModelError("The job returned no response.")
        return response

    def _said(self, parts: Sequence[Part], verdict: str = "", suggestions=(), findings=()) -> Response:
        besides, refused, offered_besides = self._besides
        if besides:
            verdict, suggestions = refused, offered_besides
            parts = (*(part for part in parts if part != STAFF), *besides, STAFF)
        answer = Answer(
            self._request.question,
            self.text(parts),
            verdict=verdict,
            parts=tuple(parts),
            suggestions=offered(suggestions) if verdict not in ("", "escalate") else (),
        )
        self._progress.partial(answer.text)
        return self._closed(Response(tuple(findings), Provenance("ask", "")), (answer,))

    def _closed(self, response: Response, answers: tuple[Answer, ...]) -> Response:
        kept = [finding for finding in map(self._allowed, response.findings) if finding is not None]
        seconds = response.provenance.seconds
        seconds = seconds if isinstance(seconds, int | float) and math.isfinite(seconds) else 0.0
        provenance = Provenance(self._request.task, self._request.model, seconds=float(seconds), title=TITLE)
        return Response((*answers, *kept), provenance)

    def _allowed(self, finding: Finding) -> Finding | None:
        """Return a finding without any words of a model; None for kinds that are for clinicians."""
        if isinstance(finding, Segmentation):
            kept = [_named(segment) for segment in finding.segments if glossary().knows(segment.label)]
            return Segmentation(tuple(kept), _grid(finding.geometry, self._request.image))
        if isinstance(finding, Comparison):
            return _only_pictures(finding, glossary())
        return None


def _named(segment: Segment) -> Segment:
    """Return a segment with its English plain name and the terminology's codes."""
    words = glossary()
    side = split_side(segment.label)[0]
    coded = structure(f"{side} {words.key(segment.label)}".strip())
    color = tuple(float(np.clip(np.nan_to_num(channel), 0, 1)) for channel in segment.color)[:3]
    name = words.plain(segment.label)
    return Segment(name, segment.boxed, color, coded.category, coded.code, coded.side, None, "AUTOMATIC")


def _grid(geometry: Geometry, image: Image) -> Geometry:
    return replace(geometry, frame_of_reference=image.geometry.frame_of_reference)


def _only_pictures(finding: Comparison, words: Glossary) -> Comparison | None:
    """Return a comparison without words and numbers; None if its slices are of no known plane."""
    planes = (*PLANES, PICTURE)
    pairs = tuple(
        MatchedSlice(_slice(pair.slice), _slice(pair.reference), b"")
        for pair in finding.pairs
        if pair.slice.plane in planes and pair.reference.plane in planes
    )
    if not pairs:
        return None
    title = words.labels["healthy"]
    grid = replace(finding.image.geometry, frame_of_reference="")
    image = replace(finding.image, geometry=grid, name=title, facts={})
    return Comparison("", title, bool(finding.generated), image, finding.placement, pairs)


def _slice(reference: SliceReference) -> SliceReference:
    return SliceReference(str(reference.plane), int(reference.number), tuple(float(mm) for mm in reference.center))


def _volumes(segmentation: Segmentation) -> dict[str, float | None]:
    """Return the volume in mL of each structure that has voxels, from its mask; None where no mm is known."""
    geometry, found = segmentation.geometry, {}
    for segment in segmentation.segments:
        if count := int(segment.boxed.inside.sum()):
            found[segment.label] = count * geometry.voxel_volume / 1000 if geometry.metric else None
    return found


def _fit(history: Sequence[tuple[str, str]], guard: Guard) -> tuple[tuple[str, str], ...]:
    """Return the earlier turns that a model may see.

    Those whose question and answer both pass, against injected instructions.
    """
    return tuple((q, a) for q, a in history if guard.question(q).allowed and guard.answer(q, a).allowed)


def _judged(request: Request, guard: Guard) -> Verdict:
    """Return the stricter verdict of the question alone and of the question joined with those before it."""
    context = context_of(request.image)
    before = [question for question, _ in request.history[-JOINED:]]
    alone = guard.question(request.question, context=context)
    if not before or not alone.allowed:
        return alone
    joined = guard.question(" ".join([*before, request.question]), context=context)
    return alone if joined.allowed else joined  # the intent is that of the question itself


def context_of(image: Image) -> tuple[str, ...]:
    """Return the texts that accompany an image: its name and its header's facts."""
    return tuple(str(text) for text in (image.name, *image.facts.values()) if str(text).strip())


def _known_error(error: Exception) -> str:
    """Return the kind of an error, which is a name of Python's own, never its message."""
    kinds = (TypeError, KeyError, IndexError, ValueError, AttributeError, OSError, MemoryError, RuntimeError)
    return next((kind.__name__ for kind in kinds if isinstance(error, kind)), "Exception")


class _PartsProgress(ProgressBase):
    """A progress that passes on fractions and cancellation; each stage becomes the same approved text.

    Args:
        progress: of the patient's request.
        working: the text.
    """

    def __init__(self, progress: Progress, working: str):
        self._progress, self._working = progress, working

    def report(self, event: Event) -> None:
        """Pass on that something goes on, and nothing else."""
        match event:
            case Stage():
                self._progress.stage(self._working)
            case Fraction(value):
                self._progress.fraction(float(np.clip(np.nan_to_num(value), 0, 1)))

    def cancelled(self) -> bool:
        """Implement `Progress.cancelled`."""
        return self._progress.cancelled()


def is_for_patient(request: Request) -> bool:
    """Return whether the request was made in patient mode."""
    return request.audience == PATIENT

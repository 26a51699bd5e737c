"""Run a patient's request under the guard: check the question, run the model, check the answer, then show it.

Depends on the policy, the glossary and requests; knows no models. Text is withheld until the whole answer was checked,
and a
question that is not allowed reaches no model, neither by itself nor spread over several turns of a conversation. What
can be
answered from segments and the glossary reaches none either: what is in the picture, where something is, what a healthy
one looks like, how the picture was acquired, what to ask the doctor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..core.findings import Answer, Comparison, Finding, Segmentation
from ..core.image import Image
from ..core.request import PATIENT, Provenance, Request, Response
from ..errors import InputError
from ..guard import Guard, Verdict, VerdictLog
from ..healthy import references
from ..interfaces import registry
from ..interfaces.jobs import Event, Fraction, Progress, ProgressBase, Stage
from .glossary import Glossary, glossary

TASKS = ("ask", "segment", "compare")
"""Tasks for patients; a report is written for clinicians."""

SHOWN = (Answer, Segmentation, Comparison)
"""Findings that patients are shown; measurements, boxes and future kinds are for clinicians."""

JOINED = 3
"""Number of earlier questions checked together with the next one, since a question can be split over several turns."""

Run = Callable[[Request, Progress], Response]


def run_for_patient(
    request: Request, progress: Progress, run: Run, guard: Guard | None = None, log: VerdictLog | None = None
) -> Response:
    """Run a patient's request as far as the policy allows.

    Args:
        request: the patient's.
        progress: callbacks for stages, fraction, streamed text and cancellation.
        run: runs the request.
        guard: the shipped rules by default.
        log: the user's log by default.

    Raises:
        InputError: for a task that is not for patients; and what `run` raises.
    """
    if request.task not in TASKS:
        raise InputError(f"In patient mode there is no task '{request.task}', only {', '.join(TASKS)}; ask the staff.")
    guard, log = guard or Guard(), log or VerdictLog()
    if request.task == "ask":
        request = replace(request, history=_fit(request.history, guard))
        verdict = _asked(request, guard)
        log.add("question", verdict)
        if not verdict.allowed:
            progress.partial(verdict.text)
            return Response((_said(request.question, verdict),), Provenance("ask", request.model, title="the guard"))
    response = _known(request, progress, run, glossary()) or run(request, _GuardedProgress(progress))
    words = glossary()
    findings = tuple(_judged(_known_only(f, words), guard, log) for f in response.findings if isinstance(f, SHOWN))
    for finding in findings:
        if isinstance(finding, Answer):
            progress.partial(finding.text)
    return Response(findings, replace(response.provenance, notes=()))


def _known(request: Request, progress: Progress, run: Run, words: Glossary) -> Response | None:
    """Answer a question that the glossary knows, without a language model; None for any other."""
    kind, name = words.kind_of(request.question) if request.task == "ask" else ("", "")
    if kind == "made":
        text = words.made.get(request.image.modality, words.made["other"])
    elif kind == "ask":
        text = " ".join([words.sentences["ask"], *words.ask])
    elif kind == "healthy":
        return _next_to_healthy(request, progress, run, words)
    elif kind in ("shows", "where"):
        return _drawn(request, progress, run, words, name)
    else:
        return None
    return Response((Answer(request.question, text),), Provenance("ask", request.model, title="the glossary"))


def _drawn(request: Request, progress: Progress, run: Run, words: Glossary, name: str) -> Response | None:
    """Answer what is in the picture, or where something is, by segmentation. None if nothing can be segmented.

    Args:
        request: the patient's.
        progress: callbacks.
        run: runs a request.
        words: the glossary.
        name: of a structure, without side; "" for all.
    """
    labels = (name,) if name else ()
    try:
        response = run(
            replace(request, task="segment", question="", labels=labels, prompts=()), _GuardedProgress(progress)
        )
    except InputError:  # the model can't segment this structure, or images of this kind
        return None
    drawn = [segment for segment in response.segmentation.segments if words.knows(segment.label)]
    if not name:
        names = ", ".join(dict.fromkeys(words.name(segment.label) for segment in drawn))
        text = words.sentences["seen" if drawn else "none"].format(names=names)
    elif drawn:
        reported = [words.sentences["where"].format(name=words.plain(segment.label)) for segment in drawn]
        text = " ".join([*reported, words.what(name)])
    else:
        text = words.sentences["not seen"].format(name=words.name(name))
    made = tuple(finding for finding in response.findings if isinstance(finding, Segmentation))
    return Response((Answer(request.question, text), *made), response.provenance)


def _next_to_healthy(request: Request, progress: Progress, run: Run, words: Glossary) -> Response:
    """Return the picture next to a healthy one at the same level, or a sentence if none suits."""
    try:
        labels = registry.card(request.model).labels_for(request.image.modality)
        found = request.references or references(request.image, labels)
        request = replace(request, labels=(), prompts=(), references=found)
        response = run(replace(request, task="compare", question="", history=()), _GuardedProgress(progress))
    except InputError:  # no case suits, or the model segments nothing that the healthy one has
        text = words.sentences["no healthy"]
        return Response((Answer(request.question, text),), Provenance("ask", request.model, title="the glossary"))
    shown = response.comparison
    kind = "healthy computed" if shown.generated else "healthy average" if found[0].average else "healthy"
    return Response((Answer(request.question, words.sentences[kind]), *response.findings), response.provenance)


def _fit(history: Sequence[tuple[str, str]], guard: Guard) -> tuple[tuple[str, str], ...]:
    """Return the earlier turns that a model may see.

    Those whose question and answer both pass, against injected instructions.
    """
    return tuple((q, a) for q, a in history if guard.question(q).allowed and guard.answer(q, a).allowed)


def _asked(request: Request, guard: Guard) -> Verdict:
    """Return the stricter verdict of the question alone and of the question joined with those before it."""
    context = context_of(request.image)
    before = [question for question, _ in request.history[-JOINED:]]
    alone = guard.question(request.question, context=context)
    if not before or not alone.allowed:
        return alone
    return guard.question(" ".join([*before, request.question]), context=context)


def context_of(image: Image) -> tuple[str, ...]:
    """Return the texts that accompany an image: its name and its header's facts."""
    return tuple(str(text) for text in (image.name, *image.facts.values()) if str(text).strip())


def _known_only(finding: Finding, words: Glossary) -> Finding:
    """Return a finding with names from the glossary only: segments without one are left out, and a comparison has no words."""
    if isinstance(finding, Segmentation):
        kept = (s for s in finding.segments if words.knows(s.label))
        return replace(finding, segments=tuple(replace(s, label=words.plain(s.label)) for s in kept))
    if isinstance(finding, Comparison):
        return replace(finding, title=words.labels["healthy"], differences=(), notes=())
    return finding


def _judged(finding: Finding, guard: Guard, log: VerdictLog) -> Finding:
    if not isinstance(finding, Answer):
        return finding
    verdict = guard.answer(finding.question, finding.text)
    log.add("answer", verdict)
    return finding if verdict.allowed else _said(finding.question, verdict)


def _said(question: str, verdict: Verdict) -> Answer:
    """Return what a patient is shown instead of an answer; it cites no slices, since it is based on none."""
    return Answer(question, verdict.text, verdict=verdict.verdict)


class _GuardedProgress(ProgressBase):
    """A progress that withholds the model's text and notes until they were checked; notes are for clinicians."""

    def __init__(self, progress: Progress):
        self._progress = progress

    def report(self, event: Event) -> None:
        """Pass on stages and fractions, and nothing else."""
        match event:
            case Stage(name):
                self._progress.stage(name)
            case Fraction(value):
                self._progress.fraction(value)

    def cancelled(self) -> bool:
        """Implement `Progress.cancelled`."""
        return self._progress.cancelled()


def is_for_patient(request: Request) -> bool:
    """Return whether the request was made in patient mode."""
    return request.audience == PATIENT

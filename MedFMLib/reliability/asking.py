"""Assess an answer with the model that gave it: sample further answers, and ask without the image.

Knows abilities only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..core.findings import Reliability
from ..core.request import Request
from ..core.view import View
from ..errors import MedFMError
from ..interfaces.model import Explains, Samples, WritesMany
from ..interfaces.task import TaskContext
from . import agreement, blind, calibration, cost
from .meaning import is_refusal

ABSTAINS = "The model is not sure enough of its answer to this; ask your radiologist."
UNCALIBRATED = 0.5
"""Smallest agreement at which an answer is shown if the model has no calibration."""


@dataclass(frozen=True, eq=False)
class SampledAnswer:
    """One answer, with the pictures and the question that it answers.

    Args:
        views: the slices shown.
        asked: the question.
        said: the answer.
    """

    views: Sequence[View]
    asked: str
    said: str


def assess_answer(
    request: Request, context: TaskContext, said: str, given: Sequence[SampledAnswer], seconds: float
) -> Reliability:
    """Return the reliability of an answer.

    Args:
        request: with the wanted checks in `reliability`.
        context: model, progress and provenance.
        said: the complete answer.
        given: the parts of the answer, one for each call of the model.
        seconds: computing time of the answer.
    """
    choice, started = request.reliability, time.monotonic()
    context.progress.stage(f"Assessing the reliability of the answer: {cost.words(choice, seconds)}")
    notes: list[str] = []
    samples, share, confidence, least = (), None, None, 0.0
    if choice.samples:
        samples, share, confidence, least = _agreement(request, context, given, notes)
    verdict, without = _blind(request, context, given, notes) if choice.blind else ("", ())
    sure = share if confidence is None else confidence
    abstained = sure is not None and sure < least - 1e-9 and not is_refusal(said)
    if verdict == "stands":
        notes.append(blind.STANDS)
    return Reliability(said, samples, share, confidence, least, abstained, verdict, without,
                 round(time.monotonic() - started, 2), tuple(notes))  # fmt: skip


def shown(reliability: Reliability, text: str) -> str:
    """Return the text that is shown for an assessed answer.

    Args:
        reliability: the result of `assess_answer`.
        text: the answer.
    """
    if reliability.abstained:
        return ABSTAINS
    return f"{text.rstrip()}\n{blind.STANDS}" if reliability.blind == "stands" else text


def _agreement(request: Request, context: TaskContext, given: Sequence[SampledAnswer], notes: list[str]):
    """Return (samples, share that agrees, calibrated confidence, threshold)."""
    choice = request.reliability
    if not isinstance(context.model, Samples):
        notes.append(f"{context.card.title} can't sample answers, so their agreement can't be computed.")
        return (), None, None, 0.0
    known = _known(context, notes)
    temperature = choice.temperature or (known.temperature if known else 1.0)
    samples: list[str] = []
    shares = []
    for number, one in enumerate(given):
        callbacks = context.callbacks(number / len(given), (number + 1) / len(given))
        drawn = context.model.sample(
            one.views, one.asked, choice.samples, temperature=temperature, history=request.history,
            max_tokens=request.max_tokens, callbacks=callbacks,
        )  # fmt: skip
        shares.append(agreement.agree(one.said, drawn).share)
        samples += drawn
    share = sum(shares) / len(shares)
    if known is None:
        least = UNCALIBRATED if choice.threshold < 0 else choice.threshold
        notes.append(f"{share:.0%} of {len(samples)} further answers agree; this model has no calibration.")
        return tuple(samples), share, None, least
    confidence = known.confidence(share)
    notes.append(
        f"{share:.0%} of {len(samples)} further answers agree; of such answers about {confidence:.0%} were right "
        f"({known.questions} questions, {known.date})."
    )
    return tuple(samples), share, confidence, known.threshold if choice.threshold < 0 else choice.threshold


def _known(context: TaskContext, notes: list[str]):
    try:
        return calibration.known(context.card.id)
    except MedFMError as error:
        notes.append(str(error))
        return None


def _blind(
    request: Request, context: TaskContext, given: Sequence[SampledAnswer], notes: list[str]
) -> tuple[str, tuple[str, ...]]:
    """Return (verdict, answers without the image).

    The verdict is "stands" if every part of the answer is the same without the image, else "changed" or "refused".
    """
    verdicts, others = [], []
    for one in given:
        hidden = blind.controls(one.views, request.reliability.other)
        without = [_write(request, context, views, one.asked) for views in hidden.values()] if len(one.views) > 1 else (
            _write_each(request, context, [views[0] for views in hidden.values()], one.asked)
        )  # fmt: skip
        lost = []
        if isinstance(context.model, Explains):
            first, *rest = context.model.score(
                [one.views, *hidden.values()],
                one.asked,
                one.said,
                history=request.history,
                callbacks=context.callbacks(),
            )
            lost = [first - score for score in rest]
        verdicts.append(blind.stands(one.said, without, lost))
        others += [answer for answer in dict.fromkeys(without) if answer not in others]
    meant = [verdict for verdict in verdicts if verdict != "refused"]
    if not meant:
        return "refused", tuple(others)
    return ("stands" if all(verdict == "stands" for verdict in meant) else "changed"), tuple(others)


def _write_each(request: Request, context: TaskContext, views: list[View], asked: str) -> list[str]:
    if isinstance(context.model, WritesMany):
        return context.model.write_many(
            views, [asked] * len(views), max_tokens=request.max_tokens, callbacks=context.callbacks()
        )
    return [_write(request, context, [view], asked) for view in views]


def _write(request: Request, context: TaskContext, views: Sequence[View], asked: str) -> str:
    return context.model.write(
        views,
        asked,
        kind="answer",
        history=request.history,
        max_tokens=request.max_tokens,
        callbacks=context.callbacks(),
    )

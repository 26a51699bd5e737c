"""Show which pixels an answer rests on, as a volume: by attention, or by occluding the parts of the picture in turn.

Knows the abilities `Writes` and `Explains`, never an architecture. Attention needs one pass of the model and shows
where the network attended; occlusion needs many passes and shows what the answer depends on: the more its likelihood
falls, the more it rests on that part (occlusion, Zeiler & Fergus, ECCV 2014). The two may differ, and neither proves
that the answer is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.domain import marked
from ..core.findings import Answer, Finding, Saliency
from ..core.request import Request
from ..core.view import View
from ..errors import InputError
from ..imaging.slices import choose_slices
from ..interfaces.model import Explains
from ..interfaces.task import TaskContext, TaskOption
from ..storage.model_card import ModelCard
from .ask import SLICES_PER_QUESTION, views_for
from .combining import combine

METHODS = ("attention", "occlusion")

PARTS = 8
"""Number of parts along each side of the picture that are occluded in turn."""


class ExplainTask:
    """Task that turns one question into its Answer and a Saliency."""

    name = "explain"
    needs = ("writes", "explains")
    title = "Explain"
    summary = "Show which pixels an answer depends on."
    button = "Explain"
    tab = 0
    options: tuple[TaskOption, ...] = ()

    def check(self, request: Request, card: ModelCard) -> None:
        """Implement `Task.check`."""
        if not request.question.strip():
            raise InputError("There is no question to explain; type one, for example “Which organs are visible?”.")
        if request.method not in METHODS:
            raise InputError(f"Unknown method '{request.method}'; choose one of {', '.join(METHODS)}.")
        choose_slices(request.image.geometry, request.slices)

    def run(self, request: Request, context: TaskContext) -> tuple[Finding, ...]:
        """Implement `Task.run`."""
        question = " ".join(request.question.split())
        most = min(context.model.max_views, SLICES_PER_QUESTION)
        views = views_for(request, most)
        evidence = context.slices_seen(views)
        groups = [views] if len(views) <= most else [[view] for view in views]
        maps: list[np.ndarray] = []
        answers: list[str] = []
        for number, group in enumerate(groups):
            context.progress.stage("Reading the question")
            answer = context.model.write(
                group,
                question,
                kind="answer",
                history=request.history,
                max_tokens=request.max_tokens,
                callbacks=context.callbacks(),
            )
            part = (number / len(groups), (number + 1) / len(groups))
            if request.method == "attention":
                context.progress.stage("Computing the attention (about 1 × the time of an answer)")
                maps += context.model.attention(
                    group, question, answer, history=request.history, callbacks=context.callbacks(*part)
                )
            else:
                hidden = [hidings(view) for view in group]
                context.progress.stage(f"Hiding parts of the picture ({sum(map(len, hidden))} passes of the model)")
                maps += [
                    self._fall(request, context, group, place, ways, (question, answer), part)
                    for place, ways in enumerate(hidden)
                ]
            answers.append(answer)
        text = answers[0] if len(groups) == 1 else combine(list(zip(views, answers, strict=True)))
        text = marked(text) if context.outside_domain else text
        levels, geometry = as_volume(request, views, maps)
        context.note(
            f"What the answer rests on was found by {request.method}; it does not prove that the answer is right."
        )
        return (Answer(question, text, evidence), Saliency(question, text, request.method, levels, geometry, evidence))

    def _fall(self, request: Request, context: TaskContext, group, place: int, ways, asked, part) -> np.ndarray:
        """Return (PARTS, PARTS): fall of the answer's log-probability with each part hidden, in nats per token."""
        model: Explains = context.model
        shown = [list(group), *([*group[:place], hidden, *group[place + 1 :]] for _, hidden in ways)]
        first, *rest = model.score(shown, *asked, history=request.history, callbacks=context.callbacks(*part))
        falls = np.zeros((PARTS, PARTS), np.float32)
        for ((row, column), _), score in zip(ways, rest, strict=True):
            falls[row, column] = max(0.0, first - score)
        return falls


def hidings(view: View) -> list[tuple[tuple[int, int], View]]:
    """Return ((row, column), the view with that part grey) for every part of the picture with visible content."""
    y, x = view.positions()
    rows, columns = (np.clip((along * PARTS).astype(int), 0, PARTS - 1) for along in (y, x))
    grey = np.rint(view.pixels.reshape(-1, 3).mean(axis=0)).astype(np.uint8)
    found = []
    for row in np.unique(rows):
        for column in np.unique(columns):
            place = np.ix_(rows == row, columns == column)
            if np.ptp(view.pixels[place]):
                pixels = view.pixels.copy()
                pixels[place] = grey
                found.append(((int(row), int(column)), replace(view, pixels=pixels)))
    return found


def as_volume(request: Request, views: Sequence[View], maps: Sequence[np.ndarray]):
    """Return (levels, geometry) of a `Saliency`.

    Args:
        request: with the image.
        views: the slices shown.
        maps: for each view (h, w) values over its square.

    Returns:
        (i, j, k) uint8 levels of the slices' range, each view scaled to 0…255; the geometry of that range.
    """
    image, axis = request.image.geometry, views[0].axis
    starts = [
        np.rint(image.to_index(view.geometry.origin)).astype(int) for view in views
    ]  # the grid of a region is a part of the image's
    numbers = [view.number + start[axis] for view, start in zip(views, starts, strict=True)]
    start, stop = np.zeros(3, int), np.array(image.shape)
    start[axis], stop[axis] = min(numbers), max(numbers) + 1
    levels = np.zeros(tuple(stop - start), np.uint8)
    for view, first, number, values in zip(views, starts, numbers, maps, strict=True):
        picture = _smooth(values - values.min(), view)
        picture = picture / max(float(picture.max()), 1e-12)
        box = [slice(a, a + n) for a, n in zip(first, view.geometry.shape, strict=True)]
        box[axis] = number - start[axis]
        there = levels[tuple(box)]
        np.maximum(there, view.to_slice(np.rint(picture * 255).astype(np.uint8)), out=there)
    return levels, image.crop(start, stop)


def _smooth(values: np.ndarray, view: View) -> np.ndarray:
    """Return (H, W) at the view's pixels, interpolated linearly between the centres of a map's cells."""
    (y, x), (h, w) = view.positions(), values.shape
    columns = np.stack([np.interp(x * w - 0.5, np.arange(w), row) for row in values])
    return np.stack([np.interp(y * h - 0.5, np.arange(h), column) for column in columns.T], axis=1)


TASK = ExplainTask()

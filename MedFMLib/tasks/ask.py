"""Answer a question about a volume, a slice, an ROI or a segment.

Knows the ability `Writes`, never an architecture. A model that looks at one picture at a time is asked about
several slices; where the answers differ, the reply says which slices say what.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..findings import Answer, Finding
from ..image import Image
from ..model import ChoosesSlices, ModelCard
from ..prompts import Box, Points, Prompt, Region, Scribble
from ..request import Request
from ..slices import choose_slices, largest_slice
from ..task import Work
from ..view import View, make_view, window_for

SLICES_PER_QUESTION = 3
"""Slices of a volume that a one-picture model is asked about: at a quarter, half and three quarters."""

ROI_MARGIN = 0.25
"""An ROI is shown with this share of its size around it, so that its surroundings are seen."""


class AskTask:
    """One question → one Answer with the slices it rests on."""

    name = "ask"
    needs = ("writes",)

    def check(self, request: Request, card: ModelCard) -> None:
        """See `Task.check`."""
        if not request.question.strip():
            raise InputError("There is no question; type one, for example “Which organs are visible?”.")
        choose_slices(request.image.geometry, request.slices)

    def run(self, request: Request, work: Work) -> tuple[Finding, ...]:
        """See `Task.run`."""
        question = " ".join(request.question.split())
        chooser = work.model if isinstance(work.model, ChoosesSlices) else None
        views = views_for(request, work.model.max_views, chooser)
        work.progress.stage("Reading the question")
        evidence = work.looked_at(views)
        if request.history and not getattr(work.model, "remembers", work.model.max_views > 1):
            work.note(f"{work.card.title} answers each question by itself; earlier ones are not seen.")
        if len(views) <= work.model.max_views:
            text = self._write(request, work, views, question, stream=True)
        else:
            answers = [
                (view, self._write(request, work, [view], question, stream=False, part=(n, len(views))))
                for n, view in enumerate(views)
            ]
            text = combine(answers)
            work.progress.partial(text)
        return (Answer(question, text, evidence),)

    def _write(self, request: Request, work: Work, views: list[View], question: str, stream: bool, part=(0, 1)) -> str:
        watch = work.watch(part[0] / part[1], (part[0] + 1) / part[1], stream=stream)
        text = work.model.write(
            views, question, kind="answer", history=request.history, max_tokens=request.max_tokens, watch=watch
        )
        watch.on_fraction(1.0)
        return text


def views_for(request: Request, max_views: int, chooser: ChoosesSlices | None = None) -> list[View]:
    """The slices a question is about: the chosen one, those through an ROI or segment, or some of the volume.

    Args:
        max_views: how many the model takes. chooser: the model, if it has a recipe of its own for which.
    """
    image, choice = request.image, request.slices
    plane = choice.plane or image.geometry.acquisition_plane
    shown = image
    window = window_for(image)
    if request.prompts:
        shown, numbers = _around(image, request.prompts, plane)
    else:
        n = image.geometry.shape[image.geometry.index_axis(plane)]
        first, last = max(choice.first, 0), n - 1 if choice.last < 0 else choice.last
        if chooser is not None:
            numbers = [first + number for number in chooser.choose_slices(last - first + 1)]
        else:
            count = min(SLICES_PER_QUESTION if max_views == 1 else max_views, last - first + 1)
            numbers = sorted({round(first + (last - first) * (i + 1) / (count + 1)) for i in range(count)})
    return [make_view(shown, plane, number, window) for number in numbers]


def _around(image: Image, prompts: Sequence[Prompt], plane: str) -> tuple[Image, list[int]]:
    """(image cut to what was pointed at in plane, with a margin, the slice through its largest part)."""
    mask = np.zeros(image.geometry.shape, dtype=bool)
    for prompt in prompts:
        mask |= _mask(prompt, image)
    if not mask.any():
        raise InputError("What was marked lies outside of the volume; move it onto the image and ask again.")
    axis = image.geometry.index_axis(plane)
    number = largest_slice(mask, image.geometry, plane)
    index = np.argwhere(np.take(mask, [number], axis=axis))
    low, high = index.min(axis=0), index.max(axis=0) + 1
    # at least 48 mm wide, so that a single click shows a neighbourhood
    margin = np.maximum((high - low) * ROI_MARGIN, (48 / image.geometry.spacing - (high - low)) / 2)
    shape = np.array(image.geometry.shape)
    start = np.clip(np.floor(low - margin), 0, shape - 1).astype(int)
    stop = np.clip(np.ceil(high + margin), 1, shape).astype(int)
    start[axis], stop[axis] = 0, shape[axis]
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    cut = Image(
        image.voxels[(slice(None), *box)], image.geometry.crop(start, stop), image.modality, image.name, image.facts
    )
    return cut, [number]


def _mask(prompt: Prompt, image: Image) -> np.ndarray:
    """(I, J, K) bool: what a prompt covers on the image's grid."""
    geometry = image.geometry
    if isinstance(prompt, Box):
        return prompt.mask(geometry)
    mask = np.zeros(geometry.shape, dtype=bool)
    if isinstance(prompt, Region):
        points = prompt.geometry.to_world(np.argwhere(prompt.mask))
    elif isinstance(prompt, Points):
        points = prompt.inside
    else:
        assert isinstance(prompt, Scribble)
        points = prompt.path
    index = np.rint(geometry.to_index(points)).astype(int).reshape(-1, 3)
    index = index[((index >= 0) & (index < geometry.shape)).all(axis=1)]
    mask[tuple(index.T)] = True
    return mask


def combine(answers: list[tuple[View, str]]) -> str:
    """One reply from one answer a slice: the common answer, or each answer with its slices."""
    grouped: dict[str, list[int]] = {}
    for view, answer in answers:
        grouped.setdefault(answer.strip(), []).append(view.number)
    if len(grouped) == 1:
        return next(iter(grouped))
    plane = answers[0][0].plane
    ordered = sorted(grouped.items(), key=lambda item: -len(item[1]))
    return "; ".join(
        f"{answer} ({plane} slice{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))})"
        for answer, numbers in ordered
    )


TASK = AskTask()

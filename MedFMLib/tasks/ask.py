"""Answer a question about a volume, a slice, an ROI or a segment.

Knows the ability `Writes`, never an architecture. A model that looks at one picture at a time is asked about
several slices; where the answers differ, the reply says which slices say what.
"""

from __future__ import annotations

from ..errors import InputError
from ..findings import Answer, Finding
from ..model import ChoosesSlices, ModelCard, WritesMany
from ..regions import near_view, outlined_view, region_mask, words_for
from ..request import Request
from ..slices import choose_slices
from ..task import Work
from ..view import View, make_view, window_for

SLICES_PER_QUESTION = 3
"""Slices of a volume that a one-picture model is asked about: at a quarter, half and three quarters."""


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
        question = asked = " ".join(request.question.split())
        chooser = work.model if isinstance(work.model, ChoosesSlices) else None
        views = views_for(request, work.model.max_views, chooser)
        work.progress.stage("Reading the question")
        evidence = work.looked_at(views)
        if request.history and not getattr(work.model, "remembers", work.model.max_views > 1):
            work.note(f"{work.card.title} answers each question by itself; earlier ones are not seen.")
        if request.prompts and len(views) == 2:
            plane = views[0].plane
            asked = f"{words_for(request.image, region_mask(request.prompts, request.image), plane)} {question}"
        if len(views) <= work.model.max_views:
            text = self._write(request, work, views, asked, stream=True)
        else:
            if isinstance(work.model, WritesMany):
                given = work.model.write_many(
                    views, [question] * len(views), max_tokens=request.max_tokens, watch=work.watch()
                )
            else:
                given = [
                    self._write(request, work, [view], question, stream=False, part=(n, len(views)))
                    for n, view in enumerate(views)
                ]
            answers = list(zip(views, given, strict=True))
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
    window = window_for(image)
    if request.prompts:
        mask = region_mask(request.prompts, image)
        return [outlined_view(image, mask, plane), near_view(image, mask, plane)][max_views < 2 :]
    else:
        n = image.geometry.shape[image.geometry.index_axis(plane)]
        first, last = max(choice.first, 0), n - 1 if choice.last < 0 else choice.last
        if chooser is not None:
            numbers = [first + number for number in chooser.choose_slices(last - first + 1)]
        else:
            count = min(SLICES_PER_QUESTION if max_views == 1 else max_views, last - first + 1)
            numbers = sorted({round(first + (last - first) * (i + 1) / (count + 1)) for i in range(count)})
            if count > last - first:  # there is room for all
                numbers = list(range(first, last + 1))
    return [make_view(image, plane, number, window) for number in numbers]


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

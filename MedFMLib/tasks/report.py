"""Draft a report: segment, measure, let the model describe the image, choose key images. Knows abilities only.

With references the report also contains a comparison with healthy cases; with a question, its answer, and key images of
what the answer rests on.
"""

from __future__ import annotations

from dataclasses import replace

from ..core.findings import Answer, Finding, Measurement, Saliency, Segmentation
from ..core.request import Request, Response
from ..core.view import make_view, window_for
from ..errors import InputError
from ..execution import serialization
from ..fact_check import check, fill
from ..imaging.key_images import choose_slices_to_show, key_image
from ..imaging.slices import choose_slices, slice_reference
from ..interfaces.task import TaskContext, TaskOption
from ..measure import measure_fully
from ..reports import words
from ..reports.document import ReportMaterial, make_report
from ..reports.saliency import saliency_images
from ..reports.stack import make_stack
from ..reports.templates import choose_template
from ..storage.model_card import ModelCard
from .compare import check_references, compared
from .segment import labels_for

UNSUPPORTED = "Nothing that a measurement supports."
"""Replaces an answer of which nothing is supported."""


class ReportTask:
    """Task that returns a Report, with the Segmentation and Measurements that it is based on, and earlier questions."""

    name = "report"
    needs = ("writes", "segments")
    title = "Report"
    summary = "Draft a structured report with key images."
    button = "Draft the report"
    tab = 3
    options: tuple[TaskOption, ...] = ()

    def check(self, request: Request, card: ModelCard) -> None:
        """Implement `Task.check`."""
        choose_slices(request.image.geometry, request.slices)
        labels_for(request, card)
        choose_template(request.template, request.image.modality, ())
        if request.references:
            check_references(request)
        if request.question.strip() and "explains" not in card.abilities:
            raise InputError(
                f"{card.title} can't show what an answer rests on; leave the question out, or choose another model."
            )

    def run(self, request: Request, context: TaskContext) -> tuple[Finding, ...]:
        """Implement `Task.run`."""
        image = request.image
        findings = context.run_task("segment", request)
        segmentation = next(f for f in findings if isinstance(f, Segmentation))
        measurements = list(measure_fully(segmentation, image))
        found = {s.label for s in segmentation.segments}
        template = choose_template(request.template, image.modality, sorted(found))
        missing = [label for label in labels_for(request, context.card) if label not in found]
        if not request.labels:  # do not list a liver as missing in a head
            missing = [label for label in missing if template.covers(label)]

        context.progress.stage("Describing the image")
        plane, _ = choose_slices(image.geometry, request.slices)
        shown = choose_slices_to_show(segmentation, plane)
        middle = make_view(image, plane, shown[len(shown) // 2][0], window_for(image))
        context.slices_seen([middle])
        said = context.model.write(
            [middle], kind="describe", max_tokens=request.max_tokens, callbacks=context.callbacks()
        )
        description = supported(said, measurements, context, (str(slice_reference(middle)),))
        answers = [Answer(q, a) for q, a in request.history]
        answer, saliency = self._explained(request, context, measurements)
        answers += [answer] if answer is not None else []
        if description:
            answers_seen = (Answer("Describe this image.", description, (slice_reference(middle),)),)
        else:
            answers_seen = ()

        context.progress.stage("Writing the report")
        pictures = []
        for number, labels in shown:
            segments = [s for s in segmentation.segments if s.label in labels]
            pictures.append(key_image(image, plane, number, segments))
        if saliency is not None:
            pictures += saliency_images(image, saliency)
        comparison = compared(request, context, segmentation, measurements) if request.references else None
        extra = ()
        if comparison is not None:
            extra = (words.comparison(comparison),)
            pictures += words.comparison_pictures(comparison)
        stack = make_stack(image, segmentation, plane, [number for number, _ in shown])
        material = ReportMaterial(
            image, context.card, segmentation, measurements, missing, answers, pictures, context.provenance(), plane,
            description, slice_reference(middle), stack, extra,
        )  # fmt: skip
        report = make_report(material, template, request)
        comparison_pictures = () if comparison is None else (comparison,)
        response = serialization.dumps(Response((report, segmentation, *measurements), context.provenance()))
        report = replace(report, kept=response)
        return (report, segmentation, *measurements, *comparison_pictures, *answers_seen)

    def _explained(self, request: Request, context: TaskContext, measurements) -> tuple[Answer | None, Saliency | None]:
        """Return the supported part of the answer to the request's question, and its saliency; (None, None) without one."""
        if not request.question.strip():
            return None, None
        answer, saliency = context.run_task("explain", request)
        text = supported(answer.text, measurements, context, tuple(map(str, answer.evidence))) or UNSUPPORTED
        return replace(answer, text=text), replace(saliency, answer=text)


def supported(text: str, measurements: list[Measurement], context: TaskContext, allowed: tuple[str, ...] = ()) -> str:
    """Return a model's text with its placeholders filled, and without numbers and sides that no measurement supports.

    Args:
        text: the model's text.
        measurements: of the image.
        context: receives a note about removed parts.
        allowed: phrases that may contain numbers, e.g. "axial slice 12".
    """
    filled, unfilled = fill(text, measurements)
    checked = check(filled, measurements, allowed=allowed)
    gone = [*unfilled, *(f"“{removed.text}” ({removed.reason})" for removed in checked.removed)]
    if gone:
        context.note(f"Removed from the model's text because no measurement supports it: {'; '.join(gone)}.")
    return checked.text


TASK = ReportTask()

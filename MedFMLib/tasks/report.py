"""Draft a report: segment, measure, let the model describe the image, choose key images. Knows abilities only.

Pictures without a place in a patient are described and not segmented; no millimetre and no side is stated of them
unless their header gives it.

With references the report also contains a comparison with healthy cases; with a question, its answer, and key images of
what the answer rests on.
"""

from __future__ import annotations

from dataclasses import replace

from ..core.domain import marked, unmarked
from ..core.findings import Answer, Finding, Measurement, Saliency, Segmentation
from ..core.geometry import PICTURE
from ..core.image import Image
from ..core.measurements import without_marks
from ..core.request import Request, Response
from ..core.view import make_view, window_for
from ..errors import InputError
from ..execution import serialization
from ..fact_check import REMOVED, check, fill, or_removed
from ..imaging.key_images import choose_slices_to_show, key_image
from ..imaging.slices import choose_slices, examined, slice_reference
from ..interfaces.task import TaskContext, TaskOption
from ..measure import measure_fully
from ..reports import words
from ..reports.document import ReportMaterial, make_report
from ..reports.saliency import saliency_images
from ..reports.stack import make_stack
from ..reports.templates import choose_template
from ..storage.model_card import ModelCard
from .ask import sides_stated, views_for
from .combining import combine
from .compare import check_references, compared
from .segment import labels_for, parts_to_draw

VOLUMES = {"CT", "MR", "PT"}
"""Modalities of volumes; a model made for these alone describes no picture."""

MOST_PICTURES = 6
"""Largest number of pictures that a report shows as key images; all are in its stack."""

UNSUPPORTED = "Nothing that a measurement supports."
"""Replaces an answer of which nothing is supported."""


class ReportTask:
    """Task that returns a Report, with the Segmentation and Measurements that it is based on, and earlier questions."""

    name = "report"
    needs = ("writes", "segments")
    needs_for_pictures = ("writes",)
    title = "Report"
    summary = "Draft a structured report with key images."
    button = "Draft the report"
    tab = 3
    options: tuple[TaskOption, ...] = ()

    def answers_outside_domain(self, request: Request) -> bool:
        """Return whether the report can do without the model: of pictures, which it shows, without a question."""
        return request.image.is_picture and not request.question.strip()

    def check(self, request: Request, card: ModelCard) -> None:
        """Implement `Task.check`."""
        choose_slices(request.image.geometry, request.slices)
        if not request.image.is_picture:
            labels_for(request, card)
        choose_template(request.template, request.image.modality, (), request.image.is_picture)
        if request.references and request.image.is_picture:
            raise InputError("A picture can't be compared with a healthy volume; leave the comparison out.")
        if request.references:
            check_references(request)
        if request.question.strip() and "explains" not in card.abilities:
            raise InputError(
                f"{card.title} can't show what an answer rests on; leave the question out, or choose another model."
            )

    def run(self, request: Request, context: TaskContext) -> tuple[Finding, ...]:
        """Implement `Task.run`."""
        if request.image.is_picture:
            return self._of_pictures(request, context)
        image = request.image
        findings = context.run_task("segment", request)
        segmentation = next(f for f in findings if isinstance(f, Segmentation))
        measurements = list(measure_fully(segmentation, image, examined(image.geometry, request.slices)))
        found = {unmarked(s.label) for s in segmentation.segments}
        template = choose_template(request.template, image.modality, sorted(found))
        seen = found | set(context.not_drawn)
        missing = [label for label in parts_to_draw(request, context)[0] if label not in seen]
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
        description = _marked(supported(said, measurements, context, (str(slice_reference(middle)),)), context)
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
            description, slice_reference(middle), stack, extra, dict(context.not_drawn),
        )  # fmt: skip
        report = make_report(material, template, request)
        comparison_pictures = () if comparison is None else (comparison,)
        response = serialization.dumps(Response((report, segmentation, *measurements), context.provenance()))
        report = replace(report, kept=response)
        return (report, segmentation, *measurements, *comparison_pictures, *answers_seen)

    def _of_pictures(self, request: Request, context: TaskContext) -> tuple[Finding, ...]:
        """Report on pictures: the model's description of all of them, without segments and measurements."""
        image = request.image
        template = choose_template(request.template, image.modality, (), picture=True)
        context.progress.stage("Describing the pictures")
        views = views_for(request, context.model.max_views)
        evidence = context.slices_seen(views)
        groups = [views] if len(views) <= context.model.max_views else [[view] for view in views]
        text = ""
        refused = context.outside_domain and not request.outside_domain
        if refused:
            context.note(f"{context.outside_domain} So it described nothing.")
        if not refused and not _for_volumes_only(
            context.card, image
        ):  # what such a model says of a picture is nonsense
            said = [
                context.model.write(
                    group, kind="describe", max_tokens=request.max_tokens,
                    callbacks=context.callbacks(n / len(groups), (n + 1) / len(groups)),
                )
                for n, group in enumerate(groups)
            ]  # fmt: skip
            allowed = (*map(str, evidence), *sides_stated(image))
            said = [supported(one, [], context, allowed) for one in said]
            text = said[0] if len(said) == 1 else combine(list(zip(views, said, strict=True)))
        description = _marked(text, context)
        answers = [Answer(q, a) for q, a in request.history]
        answer, saliency = self._explained(request, context, [])
        answers += [answer] if answer is not None else []

        context.progress.stage("Writing the report")
        shown = sorted({view.number for view in views})[:MOST_PICTURES]
        pictures = [replace(key_image(image, PICTURE, number), overlay_png=b"") for number in shown]
        if saliency is not None:
            pictures += saliency_images(image, saliency)
        empty = Segmentation((), image.geometry)
        material = ReportMaterial(
            image, context.card, empty, [], [], answers, pictures, context.provenance(), PICTURE, description, evidence[0],
            make_stack(image, empty, PICTURE, shown),
        )  # fmt: skip
        report = make_report(material, template, request)
        report = replace(report, kept=serialization.dumps(Response((report,), context.provenance())))
        seen = (Answer("Describe this image.", description, evidence),) if description else ()
        return (report, *seen)

    def _explained(self, request: Request, context: TaskContext, measurements) -> tuple[Answer | None, Saliency | None]:
        """Return the supported part of the answer to the request's question, and its saliency; (None, None) without one."""
        if not request.question.strip():
            return None, None
        answer, saliency = context.run_task("explain", request)
        allowed = tuple(map(str, answer.evidence))
        text = _marked(supported(unmarked(answer.text), measurements, context, allowed) or UNSUPPORTED, context)
        return replace(answer, text=text), replace(saliency, answer=text)


def _for_volumes_only(card: ModelCard, image: Image) -> bool:
    """Return whether a model was made for volumes alone, and this picture is none of their slices."""
    return bool(card.modalities) and set(card.modalities) <= VOLUMES and image.modality not in card.modalities


def supported(text: str, measurements: list[Measurement], context: TaskContext, allowed: tuple[str, ...] = ()) -> str:
    """Return a model's text with its placeholders filled, and without numbers and sides that no measurement supports.

    "" if nothing is left of it.

    Args:
        text: the model's text.
        measurements: of the image.
        context: receives a note about removed parts.
        allowed: phrases that may contain numbers, e.g. "axial slice 12".
    """
    measurements = without_marks(measurements)
    filled, unfilled = fill(text, measurements)
    checked = check(filled, measurements, allowed=allowed)
    gone = [*unfilled, *(f"“{removed.text}” ({removed.reason})" for removed in checked.removed)]
    if gone:
        context.note(f"Removed from the model's text because no measurement supports it: {'; '.join(gone)}.")
    return "" if or_removed(checked.text) == REMOVED else checked.text


def _marked(text: str, context: TaskContext) -> str:
    """Return a model's text with the mark of an image that the model was not made for; "" stays empty."""
    return marked(text) if context.outside_domain and text.strip() else text


TASK = ReportTask()

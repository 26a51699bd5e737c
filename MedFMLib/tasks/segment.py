"""Segment named structures, slice by slice or in the whole volume, on the original grid.

Knows the abilities `Segments` and `SegmentsVolumes`, never an architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.domain import marked, unmarked
from ..core.findings import REJECTED, Finding, Segment, Segmentation
from ..core.request import Request
from ..core.terminology import choose, normalize, split_side, structure
from ..core.view import make_view, window_for
from ..errors import InputError
from ..imaging.slices import (
    AUTOMATIC_STEP_MM,
    FINE_STEP_MM,
    choose_slices,
    drop_islands,
    examined,
    paint,
    refine_slice,
    refine_slices,
    slice_values,
    stack,
)
from ..interfaces.model import SegmentsVolumes, StatesAgreement
from ..interfaces.task import TaskContext, TaskOption
from ..measure import check_outlines, measure
from ..storage.model_card import ModelCard

FAST_SECONDS = 0.2
"""Models that need less time per slice segment twice as many slices."""

FEW = 5
"""Number of slices of a volume up to which each is segmented separately."""

LONG_SECONDS = 60
"""Estimated time above which the user is informed before the start."""


class SegmentTask:
    """Task that returns one Segmentation of structures over a range of slices, and its Measurements."""

    name = "segment"
    needs = ("segments",)
    title = "Segment"
    summary = "Delineate structures by name."
    button = "Segment"
    tab = 1
    options: tuple[TaskOption, ...] = (
        TaskOption(
            "rejected", "Keep impossible outlines",
            "Also keep outlines that the rules of anatomy reject, such as a spleen in the chest; the table marks them.", False,
        ),
    )  # fmt: skip

    def check(self, request: Request, card: ModelCard) -> None:
        """Implement `Task.check`."""
        choose_slices(request.image.geometry, request.slices)
        if request.image.is_picture and card.modalities and request.image.modality not in card.modalities:
            raise InputError(
                f"{card.title} segments {' and '.join(card.modalities)} volumes, not pictures; ask about this one, or choose "
                "another model."
            )
        labels_for(request, card)

    def run(self, request: Request, context: TaskContext) -> tuple[Finding, ...]:
        """Implement `Task.run`."""
        image = request.image
        labels, outside = parts_to_draw(request, context)
        if not labels:
            return (Segmentation((), image.geometry),)
        in_volumes = isinstance(context.model, SegmentsVolumes) and context.model.draws_volumes
        if in_volumes and not (_few_slices(request) and _slices_alone(context.model, labels, image.modality)):
            masks, evidence = self._in_volume(request, context, labels)
        else:
            masks, evidence = self._by_slices(request, context, labels)
        segments = []
        stated = context.model if isinstance(context.model, StatesAgreement) and not request.refine else None
        for label, mask in masks.items():
            known = structure(label)
            side, name = split_side(known.label)
            unknown = bool(side) and not image.geometry.oriented
            shown = f"{name} (side unknown)" if unknown else known.label
            segments.append(
                Segment(
                    marked(shown) if context.outside_domain or label in outside else shown, mask, known.color, known.category,
                    known.code, None if unknown else known.side, drawn_by=context.card.id,
                    agreement=stated.agreement(label) if stated is not None else None,
                )
            )  # fmt: skip
        missing = [label for label in labels if label not in masks]
        if missing:
            context.note(f"Not found on the examined slices: {', '.join(missing)}.")
        segmentation = Segmentation(tuple(segments), image.geometry, evidence)
        within = examined(image.geometry, request.slices)
        if not request.options.get("rejected"):
            segmentation = without_rejected(segmentation, request, context, within)
        return (segmentation, *measure(segmentation, image, within))

    def _in_volume(self, request: Request, context: TaskContext, labels: tuple[str, ...]):
        """Segment the entire volume at once, crop to the requested slices; return (label → mask, examined slices)."""
        image, progress = request.image, context.progress
        geometry = image.geometry
        plane, numbers = choose_slices(geometry, request.slices)
        progress.stage("Segmenting the volume")
        evidence = context.looked_through(geometry, plane, numbers)
        found = context.model.segment_volume(image, labels, callbacks=context.callbacks(0.0, 0.95))
        progress.stage("Combining the slices")
        axis = geometry.index_axis(plane)
        outside = np.ones(geometry.shape[axis], dtype=bool)
        outside[numbers[0] : numbers[-1] + 1] = False
        if not (request.refine or outside.any()):
            return found, evidence
        masks = {}
        for label, boxed in found.items():
            mask = boxed.whole()
            np.moveaxis(mask, axis, 0)[outside] = False
            if request.refine:
                refine_slices(mask, image, plane)
            if mask.any():
                masks[label] = mask
        return masks, evidence

    def _by_slices(self, request: Request, context: TaskContext, labels: tuple[str, ...]):
        """Segment slice by slice and interpolate between them; return (label → mask, examined slices)."""
        image, progress = request.image, context.progress
        step = FINE_STEP_MM if 0 < context.card.seconds_per_slice < FAST_SECONDS else AUTOMATIC_STEP_MM
        plane, numbers = choose_slices(image.geometry, request.slices, step)
        announce(context, len(numbers), image.geometry.shape[image.geometry.index_axis(plane)])

        progress.stage("Segmenting the slices")
        window = window_for(image)
        views = [make_view(image, plane, number, window) for number in numbers]
        evidence = context.slices_seen(views)
        seen = context.model.segment(views, labels, callbacks=context.callbacks(0.0, 0.9))

        progress.stage("Combining the slices")
        found = {}
        for label in labels:
            masks = [self._slice_mask(view, objects, label, request) for view, objects in zip(views, seen, strict=True)]
            if any(mask.any() for mask in masks):
                found[label] = drop_islands(stack(image.geometry, plane, numbers, masks))
            progress.fraction(0.9 + 0.1 * (labels.index(label) + 1) / len(labels))
        return found, evidence

    def _slice_mask(self, view, objects, label: str, request: Request) -> np.ndarray:
        mask = np.zeros(np.delete(view.geometry.shape, view.axis), dtype=bool)
        for seen in objects:
            if seen.label == label:
                mask |= paint(view, seen)
        if request.refine and mask.any():
            values = slice_values(request.image, view.plane, view.number).astype(np.float32)
            mask = refine_slice(mask, values, np.delete(view.geometry.spacing, view.axis))
        return mask


def without_rejected(
    segmentation: Segmentation, request: Request, context: TaskContext, within: Sequence[slice] | None
) -> Segmentation:
    """Return the segments without those that can't be right; a note says why for each.

    Args:
        segmentation: as the model drew it.
        request: with the image.
        context: receives the notes.
        within: the part of the grid that was examined, see `examined`.
    """
    while True:  # what only contradicted a rejected outline may be right
        verdicts, _ = check_outlines(segmentation, request.image, within)
        gone = {v.number: v for v in verdicts if v.verdict == REJECTED}
        if not gone:
            return segmentation
        for verdict in gone.values():
            wrong = [check for check in verdict.checks if check.verdict == REJECTED]
            context.not_drawn[unmarked(verdict.label)] = "; ".join(dict.fromkeys(check.words for check in wrong))
            context.note(f"Not drawn because the outline can't be right. {wrong[0].sentence}")
        kept = [s for number, s in enumerate(segmentation.segments, 1) if number not in gone]
        segmentation = replace(segmentation, segments=tuple(kept))


def _slices_alone(model, labels: tuple[str, ...], modality: str) -> bool:
    """Return whether a model segments single slices, too; one that needs the volume says so by `draws_slices`."""
    asks = getattr(model, "draws_slices", None)
    return asks is None or asks(labels, modality)


def _few_slices(request: Request) -> bool:
    """Return whether the request covers one slice or a thin volume, in a plane that distinguishes left from right.

    Such slices are segmented separately: the volume method samples slices at a distance, and in a volume thinner than
    that distance it would segment the middle alone.
    """
    choice, geometry = request.slices, request.image.geometry
    plane = choice.plane or geometry.acquisition_plane
    one = choice.first >= 0 and choice.first == choice.last
    return plane != "sagittal" and (one or geometry.shape[geometry.index_axis(plane)] <= FEW)


def labels_for(request: Request, card: ModelCard) -> tuple[str, ...]:
    """Return the labels to segment, in the model's spelling.

    All of the modality, except `on_request` ones, if the request has none.

    Args:
        request: with labels and image.
        card: card of the model.

    Raises:
        InputError: for unknown labels, or if the model lists none for this modality.
    """
    known = card.labels_for(request.image.modality)
    if request.labels:
        if not card.labels:  # open vocabulary
            return tuple(dict.fromkeys(normalize(label) for label in request.labels))
        if not known:
            raise InputError(
                f"{card.title} was trained on no structures in {request.image.modality} images, only in "
                f"{' and '.join(card.labels)}; choose another model."
            )
        return choose(request.labels, known, card.title)
    if not known:
        raise InputError(f"{card.title} lists no structures for {request.image.modality} images; name what to segment.")
    return tuple(label for label in known if label not in card.on_request)


def parts_to_draw(request: Request, context: TaskContext) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (labels to segment, those among them that can't be in the field of view); one note names the latter.

    What can't be in the field of view is left out, unless results outside of the domain were asked for.

    Args:
        request: with labels and image.
        context: the model, which may know what can't be there.
    """
    labels = labels_for(request, context.card)
    impossible = {normalize(part) for part in context.domain(request.image).parts_outside}
    outside = tuple(label for label in labels if normalize(label) in impossible)
    if not outside:
        return labels, ()
    names = ", ".join(outside)
    if request.outside_domain:
        context.note(f"Drawn as was asked, and marked, though it can't be in the field of view: {names}.")
        return labels, outside
    context.note(f"Not drawn because it can't be in the field of view: {names}.")
    return tuple(label for label in labels if label not in outside), ()


def announce(context: TaskContext, slices_seen: int, total: int) -> None:
    """Inform the user before the start about a long computing time and about skipped slices.

    Args:
        context: receives the note.
        slices_seen: number of slices that the model will process.
        total: number of slices of the volume.
    """
    seconds = context.card.seconds_per_slice * slices_seen
    if seconds > LONG_SECONDS:
        context.note(
            f"{slices_seen} of {total} slices at about {context.card.seconds_per_slice:.0f} s each on two CPU cores: "
            f"about {seconds / 60:.0f} min. A larger slice step or a range makes it shorter; a GPU is much faster."
        )


TASK = SegmentTask()

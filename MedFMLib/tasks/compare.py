"""Compare with a healthy reference: the same structures, at the same level, with their measurements in one table.

Knows the ability `Segments`, never an architecture, and reads no files: the reference comes with the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.domain import marked, unmarked
from ..core.findings import Comparison, Finding, MatchedSlice, Measurement, Segmentation, SliceReference
from ..core.measurements import unmarked_segmentation, without_marks
from ..core.request import PATIENT, Reference, Request
from ..errors import InputError
from ..healthy import levels
from ..healthy.differences import LEAST, differences
from ..healthy.pictures import burned, side_by_side
from ..imaging.key_images import choose_slices_to_show
from ..imaging.slices import choose_slices, examined
from ..interfaces.task import TaskContext, TaskOption
from ..measure import measure_fully
from ..storage.model_card import ModelCard
from .segment import labels_for

PAIRS = 3
"""Largest number of slices that are shown side by side."""


class CompareTask:
    """Task that returns a Comparison, with the Segmentation and Measurements that it is based on."""

    name = "compare"
    needs = ("segments",)
    title = "Compare"
    summary = "Compare with a healthy case at the same anatomical level."
    button = "Compare"
    tab = 0
    options: tuple[TaskOption, ...] = ()

    def check(self, request: Request, card: ModelCard) -> None:
        """Implement `Task.check`."""
        check_references(request)
        choose_slices(request.image.geometry, request.slices)
        if not self._labels(request, card):
            shown = request.references[0]
            known = ", ".join(s.label for s in shown.segmentation.segments)
            raise InputError(
                f"{card.title} can segment nothing that “{shown.title}” has ({known}); choose another case or model."
            )

    def run(self, request: Request, context: TaskContext) -> tuple[Finding, ...]:
        """Implement `Task.run`."""
        findings = context.run_task("segment", replace(request, labels=self._labels(request, context.card), prompts=()))
        segmentation = next(f for f in findings if isinstance(f, Segmentation))
        within = examined(request.image.geometry, request.slices)
        measurements = measure_fully(segmentation, request.image, within)
        return (compared(request, context, segmentation, measurements), segmentation, *measurements)

    def _labels(self, request: Request, card: ModelCard) -> tuple[str, ...]:
        """Return the requested structures (all by default) that the reference has."""
        theirs = {s.label for s in request.references[0].segmentation.segments}
        mine = labels_for(request, card) or tuple(theirs)
        return tuple(label for label in mine if label in theirs)


def check_references(request: Request) -> None:
    """Check that the request has a healthy case with image and segmentation; raise `InputError` if not."""
    if not request.references or request.references[0].image is None or request.references[0].segmentation is None:
        raise InputError("There is no healthy case to compare with; choose or add one (`medfm healthy list`).")


def compared(
    request: Request, context: TaskContext, segmentation: Segmentation, measurements: Sequence[Measurement]
) -> Comparison:
    """Compare a segmentation and its measurements with the request's first reference at the same level.

    Args:
        request: with image and references.
        context: progress and provenance.
        segmentation: of the request's image.
        measurements: of the segmentation.
    """
    image, shown = request.image, request.references[0]
    marks = {unmarked(s.label): s.label for s in segmentation.segments}  # names with marks have no counterpart
    segmentation, measurements = unmarked_segmentation(segmentation), without_marks(measurements)
    context.progress.stage("Finding the same level")
    plane, numbers = choose_slices(image.geometry, request.slices)
    level = levels.find(segmentation, shown.segmentation, plane)
    pairs = tuple(_pairs(request, segmentation, shown, level, plane, numbers))
    for_patient = request.audience == PATIENT  # patients see the pictures, but no numbers that look like probabilities
    found = () if for_patient else tuple(differences(measurements, request.references, image.modality))
    notes = list(_notes(request.references, level, plane, found))
    for note in notes:
        context.note(note)
    found = tuple(replace(d, segment=marks.get(d.segment, d.segment)) for d in found)
    return Comparison(
        shown.id,
        marked(shown.title) if context.outside_domain else shown.title,
        shown.generated,
        burned(shown.image) if shown.generated else shown.image,
        levels.placement(level, segmentation, shown.segmentation, plane),
        pairs,
        found,
        level.landmarks,
        tuple(notes),
    )


def _pairs(request: Request, segmentation: Segmentation, shown: Reference, level, plane: str, numbers):
    """Yield slices that show the structures well, each with the reference's slice at the same level."""
    image, other = request.image, shown.image.geometry
    within = [p for p in choose_slices_to_show(segmentation, plane, PAIRS) if numbers[0] <= p[0] <= numbers[-1]]
    for number, labels in within or [(numbers[len(numbers) // 2], ())]:
        matched = levels.number_at(other, plane, level(levels.place_of(image.geometry, plane, number)))
        segments = [s for s in segmentation.segments if s.label in labels]
        theirs = [s for s in shown.segmentation.segments if s.label in labels]
        png = side_by_side(image, number, segments, shown.image, matched, theirs, plane, shown.generated, shown.average)
        yield MatchedSlice(_at(image.geometry, plane, number), _at(other, plane, matched), png)


def _notes(references, level, plane: str, found):
    shown = references[0]
    if shown.generated:
        yield f"“{shown.title}” was computed, nobody was scanned; its sizes mean nothing and are not compared."
    elif shown.average:
        yield f"“{shown.title}” is an average of many people: its sizes belong to no individual and are not compared."
    if not level.landmarks:
        yield f"No structure is in common, so the {plane} level was matched by the share of the way through the image."
    most = max((d.n for d in found), default=0)
    if found and most < LEAST:
        yield f"{most} reference{'s' * (most > 1)}: too few to define what is usual; add at least {LEAST}."


def _at(geometry, plane: str, number: int) -> SliceReference:
    index = (np.array(geometry.shape) - 1) / 2
    index[geometry.index_axis(plane)] = number
    return SliceReference(plane, int(number), tuple(float(c) for c in geometry.to_world(index)))


TASK = CompareTask()

"""Segment structures that the user marked (points, boxes, strokes), and propagate them through the volume.

Knows the ability `Outlines`, never an architecture.
"""

from __future__ import annotations

import numpy as np

from ..core.domain import marked as with_mark
from ..core.findings import Finding, Segment, Segmentation
from ..core.request import Request
from ..core.slice_prompts import SlicePrompts, place
from ..core.terminology import structure
from ..errors import InputError
from ..imaging.slices import choose_slices, drop_islands, refine_slices
from ..interfaces.task import TaskContext, TaskOption
from ..measure import measure
from ..storage.model_card import ModelCard
from .segment import announce


class OutlineTask:
    """Task that returns one Segmentation of marked structures over a range of slices, and its Measurements."""

    name = "outline"
    needs = ("outlines",)
    title = "Outline"
    summary = "Segment what points and boxes mark."
    button = "Segment"
    tab = 0
    options: tuple[TaskOption, ...] = ()

    def check(self, request: Request, card: ModelCard) -> None:
        """Implement `Task.check`."""
        prompts_by_structure(request)

    def run(self, request: Request, context: TaskContext) -> tuple[Finding, ...]:
        """Implement `Task.run`."""
        image, progress = request.image, context.progress
        marks = prompts_by_structure(request)
        announce(context, marks.last - marks.first + 1, image.geometry.shape[image.geometry.index_axis(marks.plane)])
        progress.stage(f"Propagating {', '.join(marks.structures)} through the {marks.plane} slices")
        masks = context.model.outline(image, marks, callbacks=context.callbacks(0.0, 0.95))

        progress.stage("Combining the slices")
        segments, reached = [], set()
        axis = image.geometry.index_axis(marks.plane)
        for label, mask in masks.items():
            if not mask.any():
                context.note(f"Nothing was found where '{label}' was marked; add points, or draw a box around it.")
                continue
            mask = drop_islands(mask)
            if request.refine:
                refine_slices(mask, image, marks.plane)
            reached |= set(np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))).tolist())
            known = structure(label)
            shown = with_mark(known.label) if context.outside_domain else known.label
            segments.append(
                Segment(shown, mask, known.color, known.category, known.code, known.side, drawn_by=context.card.id)
            )
        marked = {mark.number for of in marks.structures.values() for mark in of}
        evidence = context.looked_through(image.geometry, marks.plane, sorted(reached | marked))
        segmentation = Segmentation(tuple(segments), image.geometry, evidence)
        return (segmentation, *measure(segmentation, image))


def prompts_by_structure(request: Request) -> SlicePrompts:
    """Return the request's prompts by slice; one label names all of them, several labels select prompts by name.

    Raises:
        InputError: see `core.slice_prompts.place`; or if no prompt has the name of a label.
    """
    choice, geometry = request.slices, request.image.geometry
    choose_slices(geometry, choice)
    one = request.labels[0] if len(request.labels) == 1 else ""
    marks = place(request.prompts, geometry, plane=choice.plane, first=choice.first, last=choice.last, label=one)
    if len(request.labels) < 2:
        return marks
    missing = [label for label in request.labels if label not in marks.structures]
    if missing:
        raise InputError(
            f"Nothing is marked as {', '.join(missing)}, only as {', '.join(marks.structures)}; name the marks after the "
            "structures."
        )
    return SlicePrompts(
        marks.plane, {label: marks.structures[label] for label in request.labels}, marks.first, marks.last
    )


TASK = OutlineTask()

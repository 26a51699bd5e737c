"""Define `Task`, one thing that MedFM can do, and `TaskContext`, what it works with. Knows abilities, no architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ..core.domain import ImageDomain
from ..core.findings import Finding, SliceReference
from ..core.geometry import Geometry
from ..core.image import Image
from ..core.request import Provenance, Request
from ..core.view import View
from ..errors import InputError
from ..imaging.slices import slice_reference
from ..storage.model_card import ModelCard
from .jobs import Progress
from .model import Callbacks, KnowsDomain


@dataclass
class TaskContext:
    """Inputs of a task besides its request, and a collector of its provenance.

    Args:
        model: an object with the abilities that the task needs.
        card: the model's card.
        progress: receives progress reports.
        run_task: runs another task on the same model and progress, e.g. segment within report.
        provenance: returns the provenance of the results so far, for tasks that write it into a document.
        prompts: prompts used, collected for the provenance, in order and without duplicates.
        slices: descriptions of the slices used, collected likewise.
        notes: messages for the user, collected likewise.
        tokens: (read, written) numbers of tokens so far.
        outside_domain: see `Provenance`.
        not_drawn: label → why, of the structures whose outline was rejected.
    """

    model: Any
    card: ModelCard
    progress: Progress
    run_task: Callable[[str, Request], tuple[Finding, ...]]
    provenance: Callable[[], Provenance]
    prompts: list[str] = field(default_factory=list)
    slices: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tokens: tuple[int, int] = (0, 0)
    outside_domain: str = ""
    not_drawn: dict[str, str] = field(default_factory=dict)
    _domains: list[tuple[Image, ImageDomain]] = field(default_factory=list, repr=False)

    def domain(self, image: Image) -> ImageDomain:
        """Return what the model takes an image for; it is asked once for each image, and a model that can't tell knows all."""
        for seen, domain in self._domains:
            if seen is image:
                return domain
        domain = ImageDomain(True)
        if isinstance(self.model, KnowsDomain):
            self.progress.stage("Checking what the image shows")
            domain = self.model.domain(image)
        self._domains.append((image, domain))
        return domain

    def callbacks(self, start: float = 0.0, end: float = 1.0, stream: bool = False) -> Callbacks:
        """Return callbacks to pass to an ability.

        Args:
            start: 0…1, progress of the job when the ability starts.
            end: 0…1, progress of the job when the ability ends.
            stream: forward generated text to the progress.
        """
        return Callbacks(
            on_prompt=self._record_prompt,
            on_text=self.progress.partial if stream else Callbacks.on_text,
            on_fraction=lambda value: self.progress.fraction(start + (end - start) * value),
            on_note=self.note,
            on_tokens=self._count,
            cancelled=self.progress.cancelled,
        )

    def _count(self, read: int, written: int) -> None:
        self.tokens = (self.tokens[0] + read, self.tokens[1] + written)

    def _record_prompt(self, prompt: str) -> None:
        if prompt not in self.prompts:
            self.prompts.append(prompt)

    def slices_seen(self, views: list[View]) -> tuple[SliceReference, ...]:
        """Record the slices and return references to them."""
        references = tuple(slice_reference(view) for view in views)
        self.slices += [str(r) for r in references if str(r) not in self.slices]
        return references

    def looked_through(self, geometry: Geometry, plane: str, numbers: Sequence[int]) -> tuple[SliceReference, ...]:
        """Record a range of slices that were examined together; return references to its first, middle and last slice.

        Args:
            geometry: grid of the volume.
            plane: sagittal, coronal or axial; "picture" for pictures.
            numbers: slice numbers along the plane's index axis, at least one, ascending.
        """
        axis = geometry.index_axis(plane)
        chosen = sorted({numbers[0], numbers[len(numbers) // 2], numbers[-1]})
        references = []
        for number in chosen:
            index = (np.array(geometry.shape) - 1) / 2
            index[axis] = number
            references.append(SliceReference(plane, int(number), tuple(float(c) for c in geometry.to_world(index))))
        if geometry.is_picture:
            text = f"pictures {numbers[0] + 1} to {numbers[-1] + 1}"
        else:
            text = f"{plane} slices {numbers[0]} to {numbers[-1]}"
        self.slices += [text] if text not in self.slices else []
        return tuple(references)

    def note(self, text: str) -> None:
        """Report a message to the user and record it in the provenance."""
        if text not in self.notes:
            self.notes.append(text)
            self.progress.note(text)


@dataclass(frozen=True)
class TaskOption:
    """An option of a task. The panel's widget, the command's option and the check of a value come from this description.

    Args:
        name: in `Request.options`; with dashes for underscores, the command's option.
        label: text of the panel's widget.
        help: one sentence, for tool tip and command.
        default: its value if left out; its type is the option's: bool (a check box), int, float or str.
        choices: values that a str may have; empty for any.
    """

    name: str
    label: str
    help: str
    default: bool | int | float | str
    choices: tuple[str, ...] = ()

    def check(self, value: Any) -> bool | int | float | str:
        """Return a value as the option's type.

        Raises:
            InputError: if it is of another type or none of the choices.
        """
        kind = type(self.default)
        fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value, fits = float(value), True
        if not fits:
            raise InputError(f"The option '{self.name}' must be {_KINDS[kind]}, not {value!r}.")
        if self.choices and value not in self.choices:
            raise InputError(f"The option '{self.name}' must be one of {', '.join(self.choices)}, not '{value}'.")
        return value


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class Task(Protocol):
    """One thing that MedFM can do; a file in MedFMLib/tasks with a module-level `TASK`."""

    name: str
    """In requests and on the command line."""

    needs: tuple[str, ...]
    """Abilities of the model, of `storage.model_card.ABILITIES`. A task that needs fewer for pictures without a place in a
    patient names those in `needs_for_pictures`."""

    title: str
    """Of its tab in the panel."""

    summary: str
    """What it does, in one sentence: tool tip and help of the command."""

    button: str
    """Text of the panel's button while its tab is open."""

    tab: int
    """Place of its tab, from 1; 0 for a task without one."""

    options: tuple[TaskOption, ...]
    """The task's own options. The engine refuses an image that the model was not made for, unless the task has a
    method `answers_outside_domain(request)` that returns true: then it says so itself, and shows nothing of the model's."""

    def check(self, request: Request, card: ModelCard) -> None:
        """Check a request before a model is loaded.

        Args:
            request: the request.
            card: card of its model.

        Raises:
            InputError: if the request can't be done with this image or model.
        """

    def run(self, request: Request, context: TaskContext) -> tuple[Finding, ...]:
        """Run the request and return its findings.

        Args:
            request: the request.
            context: model, progress and provenance.

        Raises:
            Cancelled: if the job was cancelled.
        """


def needs_of(task: Task, image: Image) -> tuple[str, ...]:
    """Return the abilities that a task needs for an image.

    Args:
        task: the task.
        image: a volume, or pictures without a place in a patient.
    """
    return getattr(task, "needs_for_pictures", task.needs) if image.is_picture else task.needs


def options_of(task: Task, given: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Return the value of every option of a task.

    Args:
        task: the task.
        given: values by name; those left out get their defaults.

    Raises:
        InputError: if the task has no such option, or can't have that value.
    """
    known = {option.name: option for option in task.options}
    for name in given:
        if name not in known:
            names = f"it has {', '.join(known)}" if known else "it has none"
            raise InputError(f"The task '{task.name}' has no option '{name}'; {names}.")
    return {name: option.check(given.get(name, option.default)) for name, option in known.items()}

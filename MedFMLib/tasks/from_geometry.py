"""Answer questions about a volume from the outlines of structures, instead of a model's words; see also `from_header`.

Knows the ability `SegmentsVolumes`, never an architecture. What geometry can't know, such as whether a liver is enlarged,
is not answered here: the model is asked. Numbers of an outline that failed an anatomical check are never stated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.findings import Measurement, Segment, SliceReference
from ..core.measurements import by_segment, unmarked_segmentation
from ..core.request import Request, SliceChoice
from ..core.terminology import normalize, split_side
from ..fact_check import VolumeQuestion, phrase, read_question
from ..fact_check.questions import HEADER
from ..imaging.slices import choose_slices
from ..interfaces.task import TaskContext
from ..measure import measure_fully, plain
from .from_header import GeometricAnswer, answer_from_header

OUTLINE = "measured from the model's outline"
"""What an answer rests on, in parentheses at its end."""

EXTENTS = ("extent left-right", "extent front-back", "extent head-foot")
MIRRORED = ("axial", "coronal")
"""Planes whose pictures show the patient's right on the left of the picture."""

NEARLY = 0.1
"""Difference of two volumes, as a fraction of their mean, below which they are called about equal."""

MOST_REFERENCES = 12
"""Largest number of slices that an answer about many structures cites."""


def answer_from_geometry(request: Request, context: TaskContext, question: str) -> GeometricAnswer | None:
    """Return the answer to a question that geometry knows, or None if the model has to be asked.

    Only for models that segment whole volumes, and questions about a volume or some of its slices.

    Args:
        request: with the image.
        context: model, progress and provenance.
        question: the question.
    """
    image, card = request.image, context.card
    draws = "segments" in card.abilities and getattr(context.model, "draws_volumes", False)
    if image.is_picture or request.prompts or not draws:
        return None
    asked = read_question(question, card.labels_for(image.modality))
    if asked is None:
        return None
    if asked.kind in HEADER:
        domain = context.domain(image)
        known = asked.kind != "region" or domain.region or request.image.facts.get("BodyPartExamined")
        return answer_from_header(asked, request, domain) if known else None
    sided = any(split_side(label)[0] for label in asked.labels)
    if not image.geometry.oriented and (sided or asked.kind in ("side", "picture side", "where", "extent")):
        return None
    impossible = {normalize(part) for part in context.domain(image).parts_outside}
    outside = [label for label in asked.labels if normalize(label) in impossible]
    if outside and len(outside) == len(asked.labels) and not request.outside_domain:
        no = "No, " if asked.kind == "presence" else ""
        subject = _list(map(_the, outside))
        return GeometricAnswer(_sentence(f"{no}{subject} can't be in the field of view of this image"))
    return _Outlines(request, context, asked).answer()


class _Outlines:
    """One question about structures.

    Args:
        request: with the image, and the slices that the question is about.
        context: model, progress and provenance.
        asked: the question.
    """

    def __init__(self, request: Request, context: TaskContext, asked: VolumeQuestion):
        self._request, self._context, self._asked = request, context, asked
        self._image = request.image
        choice, geometry = request.slices, request.image.geometry
        self._plane, numbers = choose_slices(geometry, choice)
        self._first, self._last = numbers[0], numbers[-1]
        count = geometry.shape[geometry.index_axis(self._plane)]
        self._all = (self._first, self._last) == (0, count - 1)
        self._segments: dict[str, Segment] = {}
        self._values: dict[str, dict[str, Measurement]] = {}

    def answer(self) -> GeometricAnswer | None:
        """Return the answer; None if the outlines don't tell."""
        self._draw()
        kind = self._asked.kind.replace(" ", "_")
        return getattr(self, f"_{kind}")()

    def _draw(self) -> None:
        """Segment the whole volume, or the structures that the question names, and measure what is asked for."""
        self._context.progress.stage("Measuring the structures that the question is about")
        labels = self._asked.labels
        plain_request = replace(
            self._request, labels=labels, prompts=(), slices=SliceChoice(), refine=self._request.refine
        )
        drawn, *measured = self._context.run_task("segment", plain_request)
        drawn = unmarked_segmentation(drawn)
        if labels:  # few, so that all of their measurements take no long time
            measured = measure_fully(drawn, self._image)
        by_place = {place: values for (place, _), values in by_segment(measured).items()}
        for place, segment in enumerate(drawn.segments, 1):
            if segment.boxed.inside.any():
                self._segments[normalize(segment.label)] = segment
                self._values[normalize(segment.label)] = by_place.get(place, {})
        self._drawn = drawn

    # -- kinds ---------------------------------------------------------------------------------------------

    def _presence(self) -> GeometricAnswer:
        found, doubted, missing = self._split(self._asked.labels)
        parts = [f"{_the(label)} is visible, in {self._range(label)}" for label in found]
        parts += map(self._doubt, doubted)
        parts += [self._absent(label, f" in {self._looked()}") for label in missing]
        sure = "Yes" if not missing + doubted else "In part" if found else "Perhaps" if doubted else "No"
        return self._made(f"{sure}, {_list(parts)}", found + doubted)

    def _which(self) -> GeometricAnswer:
        found, doubted, missing = self._split(self._asked.labels)
        if not found + doubted:
            return self._made(f"None: {_list(self._absent(x, f' in {self._looked()}') for x in missing)}", ())
        parts = [f"{_the(label)} is visible, in {self._range(label)}" for label in found]
        parts += map(self._doubt, doubted)
        parts += map(self._absent, missing)
        return self._made(_list(parts), found + doubted)

    def _side(self) -> GeometricAnswer | None:
        sided = {split_side(label)[1] for label in self._asked.labels}
        if len(self._asked.labels) > 1 and not self._asked.value and len(sided) < len(self._asked.labels):
            return self._presence_of_pair()
        return self._each(self._side_words)

    def _presence_of_pair(self) -> GeometricAnswer:
        """Answer "on which side is the kidney?": where there is one."""
        found, doubted, missing = self._split(self._asked.labels)
        if doubted:
            return self._each(self._side_words)
        if not found:
            return self._missing(missing)
        sides = [str(self._values[label]["side"].value) for label in found if "side" in self._values[label]]
        where = "on both sides" if {"left", "right"} <= set(sides) else f"on the {_list(dict.fromkeys(sides))}"
        names = {split_side(label)[1] for label in found}
        return self._made(f"There is {_list(f'a {name}' for name in names)} {where}", found)

    def _side_words(self, label: str) -> str:
        side = self._values[label].get("side")
        if side is None:
            return f"the side of {_the(label)} could not be measured"
        where = "crosses the midline" if side.value == "midline" else f"lies on the patient's {side.value}"
        if not self._asked.value:
            return f"{_the(label)} {where}"
        return f"{'Yes' if side.value == self._asked.value else 'No'}, {_the(label)} {where}"

    def _picture_side(self) -> GeometricAnswer | None:
        label = self._asked.labels[0]
        side = str(self._values.get(label, {}).get("side", Measurement("", "", "")).value)
        if len(self._asked.labels) != 1 or self._plane not in MIRRORED:
            return None
        if label not in self._values or is_doubted(self._values[label]):
            return self._each(lambda label: "")
        if side not in ("left", "right"):
            return None
        other = {"left": "right", "right": "left"}[side]
        return self._made(
            f"{_the(label)} lies on the {other} of the picture, which is the patient's {side} in {self._plane} slices",
            [label],
        )

    def _where(self) -> GeometricAnswer | None:
        def words(label: str) -> str:
            position = self._values[label].get("position")
            where = f": {position.value} of the imaged body" if position is not None else ""
            return f"{_the(label)} lies in {self._range(label, whole=True)}{where}"

        return self._each(words)

    _level = _where

    def _size(self) -> GeometricAnswer | None:
        return self._each(self._size_words)

    def _size_words(self, label: str) -> str:
        values = self._values[label]
        size = values.get("volume") or values.get("area")
        if size is None:
            return ""
        text = f"{_the(label)} has {self._least(label)}{_with_interval(size)}"
        if all(name in values for name in EXTENTS):
            extents = " × ".join(f"{float(values[name].value):.0f}" for name in EXTENTS)
            text += f" and extends over {extents} mm (left–right × front–back × head–foot)"
        return text + self._cut(label)

    def _diameter(self) -> GeometricAnswer | None:
        def words(label: str) -> str:
            values = self._values[label]
            if "longest diameter" not in values:
                return ""
            text = f"the longest diameter of {_the(label)} is {self._least(label)}{_number(values['longest diameter'])}"
            if "long axis" in values and "short axis" in values:
                text += f", and {_number(values['long axis'])} × {_number(values['short axis'])} in one slice"
            return text + self._cut(label)

        return self._each(words)

    def _extent(self) -> GeometricAnswer | None:
        name = f"extent {self._asked.value}"
        directions = {
            "left-right": "from left to right",
            "front-back": "from front to back",
            "head-foot": "from head to foot",
        }

        def words(label: str) -> str:
            value = self._values[label].get(name)
            if value is None:
                return ""
            where = directions[self._asked.value]
            return f"{_the(label)} measures {self._least(label)}{_number(value)} {where}{self._cut(label)}"

        return self._each(words)

    def _intensity(self) -> GeometricAnswer | None:
        def words(label: str) -> str:
            values = self._values[label]
            if "mean intensity" not in values or "intensity SD" not in values:
                return ""
            mean, spread = values["mean intensity"], values["intensity SD"]
            unit = {"[hnsf'U]": " HU", "": " (arbitrary units)"}.get(mean.unit, f" {mean.unit}")
            return f"the mean of {_the(label)} is {plain(float(mean.value))} ± {plain(float(spread.value))}{unit}"

        return self._each(words)

    def _largest(self) -> GeometricAnswer | None:
        sizes = self._sizes(self._split(tuple(self._segments))[0])
        if not sizes:
            return self._made(f"No structure was found in {self._looked()}", ())
        order = sorted(sizes, key=lambda label: sizes[label], reverse=self._asked.value == "largest")
        first = order[0]
        of = (
            f"the {self._asked.value} of the {len(sizes)} outlined structures"
            if len(sizes) > 1
            else "the only one outlined"
        )
        return self._made(f"{_the(first)} is {of}, with {_number(self._size_of(first))}", [first])

    def _compare(self) -> GeometricAnswer | None:
        groups = self._asked.structures if len(self._asked.structures) == 2 else tuple((x,) for x in self._asked.labels)
        if (lacking := self._lacking()) is not None:
            return lacking
        sums = [self._sum(group) for group in groups]
        if None in sums:
            return None
        names = [_list(map(_the, group)) for group in groups]
        bigger = sums[0] > sums[1]
        first, second = (0, 1) if bigger == (self._asked.value == "larger") else (1, 0)
        unit = self._unit(self._asked.labels[0])
        stated = f"{plain(sums[first])} {unit} against {plain(sums[second])} {unit}"
        if sums[0] == sums[1]:
            return self._made(f"{names[0]} and {names[1]} are equally large, {stated}", self._asked.labels)
        return self._made(f"{names[first]} is {self._asked.value} than {names[second]}: {stated}", self._asked.labels)

    def _equal(self) -> GeometricAnswer | None:
        first, second = self._asked.labels
        if (lacking := self._lacking()) is not None:
            return lacking
        sizes = self._sizes(self._asked.labels)
        if len(sizes) < 2:
            return None
        share = abs(sizes[first] - sizes[second]) / ((sizes[first] + sizes[second]) / 2)
        equal = "about equally large" if share < NEARLY else "of different size"
        each = f"{_the(first)} has {_number(self._size_of(first))}, {_the(second)} {_number(self._size_of(second))}"
        return self._made(
            f"they are {equal}: {each}, a difference of {100 * share:.0f} % of their mean", self._asked.labels
        )

    def _count(self) -> GeometricAnswer:
        found, doubted, missing = self._split(self._asked.labels)
        if not found + doubted:
            return self._made(f"None: {_list(self._absent(x, f' in {self._looked()}') for x in missing)}", ())
        each = _list(f"{_the(label)}, in {self._range(label)}" for label in found) or "none that is sure"
        less = "".join(f"; {text}" for text in [*map(self._absent, missing), *map(self._doubt, doubted)])
        return self._made(f"{len(found)}: {each}{less}", found + doubted)

    def _count_all(self) -> GeometricAnswer:
        return self._list()

    def _list(self) -> GeometricAnswer:
        found, doubted, _ = self._split(tuple(self._segments))
        more = f"; outlined, but failed an anatomical check: {', '.join(doubted)}" if doubted else ""
        if not found:
            return self._made(f"No structure that the model knows was found in {self._looked()}{more}", doubted)
        count = f"{len(found)} structure{'s are' if len(found) > 1 else ' is'} visible in {self._looked()}"
        return self._made(f"{count}: {_list(found)}{more}", found)

    # -- words ---------------------------------------------------------------------------------------------

    def _each(self, words) -> GeometricAnswer | None:
        """Return one sentence of `words` for each structure that the question names; None if a number is not known."""
        labels = self._asked.labels
        doubted = [label for label in labels if is_doubted(self._values.get(label, {}))]
        found = [label for label in labels if label in self._values and label not in doubted]
        missing = [label for label in labels if label not in self._values]
        if not found + doubted:
            return self._missing(missing)
        parts = [words(label) for label in found]
        if not all(parts):
            return None
        parts += [*map(self._doubt, doubted), *(self._absent(label, " in the volume") for label in missing)]
        return self._made(_list(parts, ", and"), found + doubted)

    def _lacking(self) -> GeometricAnswer | None:
        """Return what to say if a structure that the question names has no outline to rely on; None if all have."""
        labels = self._asked.labels
        if missing := [label for label in labels if label not in self._values]:
            return self._missing(missing)
        doubted = [label for label in labels if is_doubted(self._values[label])]
        return self._made(_list(map(self._doubt, doubted), ", and"), doubted) if doubted else None

    def _doubt(self, label: str) -> str:
        """Return that a structure was outlined, and why none of its numbers is stated."""
        why = next((m.failed for m in self._values[label].values() if m.failed), "")
        return f"{_the(label)} was outlined, but the outline failed an anatomical check" + (f" ({why})" if why else "")

    def _missing(self, labels: Sequence[str]) -> GeometricAnswer:
        absent = _list((self._absent(label, " in the volume") for label in labels), ", and")
        return self._made(f"{absent}, so nothing could be measured", ())

    def _absent(self, label: str, where: str = "") -> str:
        """Return that a structure was not found, or that its outline was left out, with the reason."""
        why = getattr(self._context, "not_drawn", {}).get(label, "")
        return (
            f"the outline of {_the(label)} was left out because it can't be right ({why})"
            if why
            else f"no {label} was found{where}"
        )

    def _made(self, text: str, labels: Sequence[str]) -> GeometricAnswer:
        evidence = self._evidence(labels)
        return GeometricAnswer(f"{text[0].upper()}{text[1:]} ({OUTLINE}).", evidence)

    def _split(self, labels: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
        """Return (labels found in the slices that are asked about, those whose outline failed a check, those not found)."""
        there = [label for label in labels if label in self._segments and self._numbers(label)]
        doubted = [label for label in there if is_doubted(self._values[label])]
        return [x for x in there if x not in doubted], doubted, [label for label in labels if label not in there]

    def _numbers(self, label: str, whole: bool = False) -> list[int]:
        """Return the slices that show a structure, of those that are asked about or of the whole volume."""
        boxed, axis = self._segments[label].boxed, self._image.geometry.index_axis(self._plane)
        there = np.flatnonzero(boxed.inside.any(axis=tuple(a for a in range(3) if a != axis))) + boxed.start[axis]
        return [int(n) for n in there if whole or self._first <= n <= self._last]

    def _range(self, label: str, whole: bool = False) -> str:
        numbers = self._numbers(label, whole)
        if len(numbers) == 1:
            return f"{self._plane} slice {numbers[0]}"
        return f"{self._plane} slices {numbers[0]} to {numbers[-1]}"

    def _looked(self) -> str:
        if self._all:
            return "this volume"
        if self._first == self._last:
            return f"{self._plane} slice {self._first}"
        return f"{self._plane} slices {self._first} to {self._last}"

    def _size_of(self, label: str) -> Measurement | None:
        return self._values[label].get("volume") or self._values[label].get("area")

    def _sizes(self, labels: Sequence[str]) -> dict[str, float]:
        """Return label → volume of the structures that have one which passed the checks."""
        good = [label for label in labels if not is_doubted(self._values[label])]
        return {label: float(size.value) for label in good if (size := self._size_of(label)) is not None}

    def _sum(self, group: Sequence[str]) -> float | None:
        sizes = self._sizes(group)
        return sum(sizes.values()) if len(sizes) == len(group) else None

    def _unit(self, label: str) -> str:
        size = self._size_of(label)
        return _number(size).rpartition(" ")[2] if size is not None else ""

    def _least(self, label: str) -> str:
        return "at least " if "cut off" in self._values[label] else ""

    def _cut(self, label: str) -> str:
        return "; it is cut off at the image's edge" if "cut off" in self._values[label] else ""

    def _evidence(self, labels: Sequence[str]) -> tuple[SliceReference, ...]:
        """Return the first, the largest and the last slice of a structure; of several the largest, in their order."""
        shown: dict[int, SliceReference] = {}
        whole = self._asked.kind not in ("presence", "which", "count", "list", "count all", "largest")
        for label in labels:
            numbers = self._numbers(label, whole) or self._numbers(label, True)
            boxed, axis = self._segments[label].boxed, self._image.geometry.index_axis(self._plane)
            areas = {n: int(np.take(boxed.inside, n - boxed.start[axis], axis).sum()) for n in numbers}
            best = max(numbers, key=lambda n: areas[n])
            for number in (numbers[0], best, numbers[-1]) if len(labels) <= 2 else (best,):
                shown.setdefault(number, self._reference(label, number))
            stated = f"{self._plane} slices {numbers[0]} to {numbers[-1]}"
            self._context.slices += [stated] if stated not in self._context.slices else []
        return tuple(shown[number] for number in sorted(shown)[:MOST_REFERENCES])

    def _reference(self, label: str, number: int) -> SliceReference:
        """Return a slice, centred on what it shows of a structure."""
        boxed, geometry = self._segments[label].boxed, self._image.geometry
        axis = geometry.index_axis(self._plane)
        index = np.empty(3)
        index[[a for a in range(3) if a != axis]] = np.argwhere(
            np.take(boxed.inside, number - boxed.start[axis], axis)
        ).mean(0)
        index[axis] = number - boxed.start[axis]
        center = geometry.to_world(index + np.asarray(boxed.start))
        return SliceReference(self._plane, number, tuple(float(c) for c in center))


def is_doubted(values: dict[str, Measurement]) -> bool:
    """Return whether an outline failed an anatomical check, so that its numbers are not stated.

    Args:
        values: the measurements of one segment by name.
    """
    return any(not m.is_reliable for m in values.values())


def _number(measurement: Measurement) -> str:
    unit = {"mm2": "mm²", "{pixels}": "pixels"}.get(measurement.unit)
    return f"{plain(float(measurement.value))} {unit}" if unit else phrase(measurement)


def _with_interval(measurement: Measurement) -> str:
    """Return a value with its 95 % interval, if it has one."""
    if measurement.low is None or measurement.high is None:
        return _number(measurement)
    return f"{_number(measurement)} (95 %: {plain(measurement.low)} to {plain(measurement.high)})"


def _the(label: str) -> str:
    return f"the {label}"


def _list(parts, last: str = "and") -> str:
    parts = list(parts)
    if len(parts) < 2:
        return "".join(parts)
    join = last if last.startswith(",") else f" {last}"
    return f"{', '.join(parts[:-1])}{join} {parts[-1]}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."

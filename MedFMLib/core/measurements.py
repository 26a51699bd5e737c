"""Group measurements by the segment they belong to. Identity is the segment's place, never its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from .domain import unmarked
from .findings import Measurement, Segmentation

SegmentKey = tuple[int, str]
"""(place of a segment in its segmentation from 1, its label); see `Measurement.key`."""


def by_segment(measurements: Iterable[Measurement]) -> dict[SegmentKey, dict[str, Measurement]]:
    """Return key of each segment → name of the measurement → measurement, in the order of the measurements."""
    found: dict[SegmentKey, dict[str, Measurement]] = {}
    for m in measurements:
        found.setdefault(m.key, {})[m.name] = m
    return found


def names_of(keys: Iterable[SegmentKey]) -> dict[SegmentKey, str]:
    """Return a name for each segment that no other has: its label, with its place where several have that label."""
    keys = list(dict.fromkeys(keys))
    common = Counter(label for _, label in keys)
    return {key: key[1] if common[key[1]] == 1 else f"{key[1]} (segment {key[0]})" for key in keys}


def names_in(labels: Sequence[str]) -> list[str]:
    """Return the same names for the segments of a segmentation, given their labels in order."""
    return list(names_of(enumerate(labels, 1)).values())


def of_segment(measurements: Iterable[Measurement], place: int, labels: Sequence[str]) -> list[Measurement]:
    """Return the measurements of one segment.

    Those of older versions state no place; they are found by the label if only one segment has it.

    Args:
        measurements: of all segments.
        place: of the segment in its segmentation, from 1.
        labels: of all segments, in order.
    """
    label = labels[place - 1]
    alone = list(labels).count(label) == 1
    return [m for m in measurements if m.segment == label and (m.number == place or (m.number == 0 and alone))]


def without_marks(measurements: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """Return measurements by the plain names of their segments, without the mark of images outside of a model's domain."""
    return tuple(replace(m, segment=unmarked(m.segment)) for m in measurements)


def unmarked_segmentation(segmentation: Segmentation) -> Segmentation:
    """Return a segmentation with the plain names of its segments, see `without_marks`."""
    plain = (replace(s, label=unmarked(s.label), mask=s.boxed) for s in segmentation.segments)
    return replace(segmentation, segments=tuple(plain))


def column_title(measurement: Measurement) -> str:
    """Return the title of a measurement's column in a table, with its unit: "volume (mL)"."""
    unit = "HU" if measurement.unit == "[hnsf'U]" else measurement.unit.strip("{}")
    return f"{measurement.name} ({unit})" if unit else measurement.name


def plain(value: float) -> str:
    """Return a number with about three digits, never in scientific notation."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 1 else f"{value:.3g}"


def side_words(values: Mapping[str, Measurement]) -> str:
    """Return the measured side of one segment in words: "left", or "midline, shifted 3.4 mm to the left ± 1.2"; "" if unknown.

    Args:
        values: the segment's measurements by name.
    """
    if "side" not in values:
        return ""
    words = str(values["side"].value)
    for direction in ("left", "right"):
        shift = values.get(f"shift to the {direction}")
        if shift is not None:
            unsure = f" ± {plain(shift.high - float(shift.value))}" if shift.high is not None else ""
            words += f", shifted {plain(float(shift.value))} mm to the {direction}{unsure}"
    return words

"""Arrange measurements as a table, with a mark for the verdict on each outline and sentences on those that failed a rule."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.findings import FLAGGED, NOTED, OK, PARTIAL, REJECTED, UNKNOWN, Measurement
from ..core.measurements import SegmentKey, by_segment, column_title, names_of, plain

CHECK = "check"
"""Title of the column with the marks."""

FAILED = "failed checks"
"""Title of the column with the sentences."""

MARKS = {OK: "ok", UNKNOWN: "?", NOTED: "note", PARTIAL: "cut", FLAGGED: "!", REJECTED: "!!", "": ""}
"""Verdict → mark in a table."""

INTERVAL = "95 % interval"
"""Start of the titles of columns with intervals."""


def as_table(
    measurements: Sequence[Measurement],
    names_shown: tuple[str, ...] = (),
    labels: Sequence[str] = (),
    reasons: bool = False,
) -> tuple[list[str], list[list[str]]]:
    """Return (column titles, rows), one row per segment, for tables in scenes, reports and terminals.

    Identity is the segment's place: two segments of one name are two rows, distinguished by their places. An interval has a
    column after its measurement, and the verdict on the outline one after the name, where there are any.

    Args:
        measurements: in any order.
        names_shown: names of the measurements that get a column; all by default.
        labels: of all segments, in order, for names that also differ from those of segments without a measurement.
        reasons: add a last column with the sentences on failed rules, if there are any.
    """
    known = names_of([*enumerate(labels, 1), *(m.key for m in measurements)])
    names: list[str] = [CHECK] if any(m.verdict for m in measurements) else []
    rows: dict[SegmentKey, dict[str, str]] = {}
    for m in measurements:
        if names_shown and m.name not in names_shown:
            continue
        title = column_title(m)
        row = rows.setdefault(m.key, {CHECK: MARKS.get(m.verdict, m.verdict)})
        row[title] = m.value if isinstance(m.value, str) else plain(m.value)
        names += [] if title in names else [title]
        if m.name == "volume" and m.low is not None and m.high is not None:
            title = title.replace("volume", INTERVAL)
            row[title] = interval_text(m)
            names += [] if title in names else [title]
    if reasons:
        for m in measurements:
            if m.checks and m.key in rows:
                rows[m.key][FAILED] = " ".join(check.sentence for check in m.checks)
        names += [FAILED] if any(FAILED in row for row in rows.values()) else []
    return ["segment", *names], [[known[key], *[row.get(n, "") for n in names]] for key, row in rows.items()]


def interval_text(m: Measurement) -> str:
    """Return the interval of a measurement without its unit: "3.4…4.3"; "" if it has none."""
    return "" if m.low is None or m.high is None else f"{plain(m.low)}…{plain(m.high)}"


def remarks(measurements: Sequence[Measurement]) -> list[str]:
    """Return sentences on outlines that failed a rule, worst first, on those that the edge cuts, and on those without a rule.

    Args:
        measurements: of all segments.
    """
    first = {key: next(iter(values.values())) for key, values in by_segment(measurements).items()}
    names = names_of(first)
    found: list[str] = []
    for verdict in (REJECTED, FLAGGED, NOTED):
        for m in first.values():
            if m.verdict == verdict:
                found += [check.sentence for check in m.checks if check.verdict == verdict or (verdict == REJECTED
                          and check.verdict == FLAGGED)]  # fmt: skip
    if cut := [names[key] for key, m in first.items() if any(check.verdict == PARTIAL for check in m.checks)]:
        found.append(f"Cut by the edge of the image, so that sizes are lower bounds: {', '.join(cut)}.")
    if unknown := [names[key] for key, m in first.items() if m.verdict == UNKNOWN]:
        found.append(f"Not checked, since no rule of anatomy covers it: {', '.join(unknown)}.")
    return list(dict.fromkeys(found))

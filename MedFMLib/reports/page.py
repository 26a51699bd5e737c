"""Render a report as one self-contained HTML page that works offline and prints well.

The page's script is allowed by its hash only; nothing may be fetched (Content-Security-Policy).
"""

from __future__ import annotations

from .. import NOTICE
from ..core.findings import Link, Report, SliceReference
from ..files.html import as_json, data, hex_color, script_hash, template
from ..storage import resources

QUIET = ("Provenance", "Limitations")


def page(report: Report) -> str:
    """Return the HTML page.

    Raises:
        ModelError: if jinja2 is missing.
    """
    script = resources.path("reports", "viewer.js").read_text(encoding="utf-8").strip()
    numbers = {label: n for n, label in enumerate(report.colors, start=1)}
    figures = {figure_of(k.slice) for k in report.key_images}

    def lead(link: Link | None) -> dict | None:
        """Return the target of a click on a sentence: a slice of the stack, and the segment on it."""
        if link is None or link.slice is None:
            return None
        figure = figure_of(link.slice)
        return {
            "slice": _nearest(report, link),
            "label": numbers.get(link.segment, 0),
            "figure": figure if figure in figures else "images",
            "row": f"m-{numbers[link.segment]}" if link.segment in numbers else "",
        }

    return template("report.html.j2").render(
        title=report.title,
        notice=NOTICE,
        signed=report.is_signed,
        state=report.state,
        edited=report.edited,
        quiet=QUIET,
        sections=[
            {"title": s.title, "paragraphs": [{"text": text, "lead": lead(link)} for text, link in s.linked]}
            for s in report.sections
        ],
        columns=report.table[0] if report.table else (),
        rows=report.table[1:],
        remarks=report.remarks,
        numbers=numbers,
        pictures=[
            {
                "caption": k.caption,
                "plain": data(k.png),
                "overlay": data(k.overlay_png),
                "id": figure_of(k.slice) if first else "",
            }
            for k, first in zip(report.key_images, _first_of_each(report), strict=True)
        ],
        stack=[{"name": str(s.slice), "jpeg": data(s.jpeg), "labels": data(s.labels_png)} for s in report.stack],
        start=len(report.stack) // 2,
        edges=report.stack[0].edges if report.stack else (),
        legend=as_json([[label, [round(255 * c) for c in color]] for label, color in report.colors.items()]),
        colors={label: hex_color(color) for label, color in report.colors.items()},
        script=script,
        script_hash=script_hash(script),
    )


def figure_of(where: SliceReference) -> str:
    """Return the id of a key image in the page."""
    return f"{where.plane}-{where.number}"


def _first_of_each(report: Report) -> list[bool]:
    """Return for each key image whether it is the first of its slice, which gets the slice's id; ids must be unique."""
    seen: set[str] = set()
    return [not (figure in seen or seen.add(figure)) for figure in (figure_of(k.slice) for k in report.key_images)]


def _nearest(report: Report, link: Link) -> int:
    """Return the index in the stack of the link's slice, or of the nearest one; -1 without a stack of that plane."""
    near = [
        (abs(s.slice.number - link.slice.number), n)
        for n, s in enumerate(report.stack)
        if s.slice.plane == link.slice.plane
    ]
    return min(near)[1] if near else -1

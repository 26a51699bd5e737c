"""A report as one self-contained HTML page: opens offline, asks nobody for anything, prints well. Computes nothing.

The page's script is allowed by its hash alone, and no other; nothing may be fetched (Content-Security-Policy).
"""

from __future__ import annotations

import base64
import hashlib
import json

from .. import NOTICE
from ..core.findings import Link, Report, SliceReference
from ..core.view import EDGE_LETTERS
from ..storage import resources

QUIET = ("Provenance", "Limitations")


def page(report: Report) -> str:
    """The page.

    Raises:
        ModelError: if jinja2 is missing.
    """
    script = resources.path("reports", "viewer.js").read_text(encoding="utf-8").strip()
    numbers = {label: n for n, label in enumerate(report.colors, start=1)}
    figures = {figure_of(k.slice) for k in report.key_images}

    def lead(link: Link | None) -> dict | None:
        """Where a click on a sentence goes: a slice of the stack, and the segment that is shown there."""
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
        signed=report.signed,
        edited=report.edited,
        quiet=QUIET,
        sections=[
            {"title": s.title, "paragraphs": [{"text": text, "lead": lead(link)} for text, link in s.linked]}
            for s in report.sections
        ],
        columns=report.table[0] if report.table else (),
        rows=report.table[1:],
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
        edges=EDGE_LETTERS[report.stack[0].slice.plane] if report.stack else (),
        legend=as_json([[label, [round(255 * c) for c in color]] for label, color in report.colors.items()]),
        colors={label: hex_color(color) for label, color in report.colors.items()},
        script=script,
        script_hash=script_hash(script),
    )


def template(name: str):
    """A page's template among the resources.

    Raises:
        ModelError: if jinja2 is missing.
    """
    try:
        from jinja2 import Environment
    except ImportError:
        from ..errors import ModelError

        raise ModelError(
            "The report page needs the package jinja2; install it with `pip install medfm[report]`."
        ) from None
    source = resources.path("reports", name).read_text(encoding="utf-8")
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)


def script_hash(script: str) -> str:
    """As a Content-Security-Policy names a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def as_json(value) -> str:
    """JSON that may stand in a page's script element, whatever names are in it."""
    return json.dumps(value).replace("<", "\\u003c")


def data(content: bytes) -> str:
    """Bytes for a data: address."""
    return base64.b64encode(content).decode()


def figure_of(where: SliceReference) -> str:
    """The id of a key image in the page."""
    return f"{where.plane}-{where.number}"


def hex_color(color) -> str:
    """Red, green, blue in 0…1 as #rrggbb."""
    return "#" + "".join(f"{round(255 * c):02x}" for c in color)


def _first_of_each(report: Report) -> list[bool]:
    """For each key image: is it the first of its slice? That one has the slice's name; an id may stand in a page only once."""
    seen: set[str] = set()
    return [not (figure in seen or seen.add(figure)) for figure in (figure_of(k.slice) for k in report.key_images)]


def _nearest(report: Report, link: Link) -> int:
    """Number, in the stack, of the slice that a link names, or of the one beside it; -1 without a stack of that plane."""
    near = [
        (abs(s.slice.number - link.slice.number), n)
        for n, s in enumerate(report.stack)
        if s.slice.plane == link.slice.plane
    ]
    return min(near)[1] if near else -1

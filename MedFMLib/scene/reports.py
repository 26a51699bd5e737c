"""A report as nodes of a scene: its words with links for panels, its page, and itself, to be changed and signed later.

Everything is text nodes: `report` for people, `report-view` with links, `report-html` the page, `report-data` the kept report in
base64, which no one reads but MedFM.
"""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from ..core.findings import Report
from ..errors import InputError, OutputError
from .nodes import find

KINDS = {
    "report": "report", "report-view": "report with links", "report-html": "report page", "report-data": "report data",
}  # fmt: skip
"""Kind of node → how its name ends."""

LINK = "slice:"
"""Scheme of a link to a position: `slice:R,A,S` in mm."""


def texts_of(report: Report, kept: bytes) -> dict[str, str]:
    """Kind of node → its text.

    Args:
        kept: the report as `reports.revising.keep` writes it; b"" if there is none.
    """
    return {
        "report": report.text,
        "report-view": linked(report),
        "report-html": report.html,
        "report-data": base64.b64encode(kept).decode(),
    }


def linked(report: Report) -> str:
    """The words as simple HTML; a sentence that rests on a place is a link to it."""
    state = f"Signed: {report.signed}" if report.signed else "Draft, not signed"
    parts = [f"<h3>{escape(report.title)}</h3><p><i>{escape(state)}</i></p>"]
    for section in report.sections:
        edited = " (edited)" if section.title in report.edited else ""
        parts.append(f"<h4>{escape(section.title + edited)}</h4>")
        for text, link in section.linked:
            words = escape(text)
            if link is not None and link.slice is not None:
                position = ",".join(f"{value:.2f}" for value in link.slice.center)
                words = f'<a href="{LINK}{position}">{words}</a>'
            parts.append(f"<p>{words}</p>")
    return "".join(parts)


def stored_report(scene, volume) -> bytes:
    """The newest report of a volume, as `reports.revising.kept` reads it from a file.

    Raises:
        InputError: if there is none.
    """
    node = find(scene, volume, "report-data") if volume is not None else None
    text = node.GetText() if node is not None else ""
    if not text:
        raise InputError("There is no report of this volume; draft one first.")
    return base64.b64decode(text)


def replace_report(scene, volume, report: Report, kept: bytes) -> None:
    """Put a changed report in the place of the newest one of a volume: all of its nodes, or none.

    Raises:
        OutputError: if one of them has gone meanwhile; the others are as they were.
    """
    nodes = {kind: find(scene, volume, kind) for kind in KINDS}
    missing = [kind for kind, node in nodes.items() if node is None]
    if missing:
        raise OutputError(
            "The report was deleted from the scene meanwhile, so its changes were not written; draft it again."
        )
    for kind, text in texts_of(report, kept).items():
        nodes[kind].SetText(text)


def dicom_series(volume, database) -> tuple[Path, str] | None:
    """(folder, series UID) of the files that a volume was loaded from, or None if it came from elsewhere.

    Args:
        database: Slicer's DICOM database (`slicer.dicomDatabase`), or None.
    """
    uids = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
    if not uids or database is None:
        return None
    file = database.fileForInstance(uids[0])
    if not file:
        return None
    return Path(file).parent, database.seriesForFile(file)

"""Store a report as text nodes of a scene: its text, its text with links, its HTML page, and its serialized data.

The kinds are `report` (plain text), `report-view` (text with links), `report-html` (the page) and `report-data` (the
serialized
report in base64, which MedFM reads to edit and sign it later).
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
"""Kind of node → suffix of its name."""

LINK = "slice:"
"""Scheme of a link to a position: `slice:R,A,S` in mm."""


def texts_of(report: Report, kept: bytes) -> dict[str, str]:
    """Return a mapping from kind of node to text.

    Args:
        report: the report.
        kept: the serialized report, as `reports.finalize` writes it; b"" if there is none.
    """
    return {
        "report": report.text,
        "report-view": linked(report),
        "report-html": report.html,
        "report-data": base64.b64encode(kept).decode(),
    }


def linked(report: Report) -> str:
    """Return the report's text as simple HTML; a sentence with a position links to it."""
    parts = [f"<h3>{escape(report.title)}</h3><p><i>{escape(report.state)}</i></p>"]
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
    """Return the newest serialized report of a volume.

    Args:
        scene: the MRML scene.
        volume: the volume node.

    Raises:
        InputError: if there is none.
    """
    node = find(scene, volume, "report-data") if volume is not None else None
    text = node.GetText() if node is not None else ""
    if not text:
        raise InputError("There is no report of this volume; draft one first.")
    return base64.b64decode(text)


def replace_report(scene, volume, report: Report, kept: bytes) -> None:
    """Replace the newest report of a volume by a changed one: all of its nodes, or none.

    Args:
        scene: the MRML scene.
        volume: the volume node.
        report: the changed report.
        kept: its serialized form.

    Raises:
        OutputError: if one of the nodes was deleted; the others are unchanged.
    """
    nodes = {kind: find(scene, volume, kind) for kind in KINDS}
    missing = [kind for kind, node in nodes.items() if node is None]
    if missing:
        raise OutputError("The report was deleted from the scene, so its changes were not written; draft it again.")
    for kind, text in texts_of(report, kept).items():
        nodes[kind].SetText(text)


def first_instance(volume) -> str:
    """Return the SOP Instance UID of the first of a volume node's slices, "" if it was not loaded from DICOM."""
    return next(iter((volume.GetAttribute("DICOM.instanceUIDs") or "").split()), "")


def dicom_series(volume, database) -> tuple[Path, str] | None:
    """Return (folder, series UID) of the files that a volume was loaded from, or None if it was not loaded from DICOM.

    Args:
        volume: the volume node.
        database: Slicer's DICOM database (`slicer.dicomDatabase`), or None.
    """
    instance = first_instance(volume)
    if not instance or database is None:
        return None
    file = database.fileForInstance(instance)
    if not file:
        return None
    return Path(file).parent, database.seriesForFile(file)

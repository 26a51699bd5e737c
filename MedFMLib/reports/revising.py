"""What a clinician does with a draft: change its words, sign it, keep it in a file. Knows reports; nothing of scenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ..core.findings import Report, ReportSection, SignOff
from ..core.request import Response
from ..errors import InputError
from ..execution import serialization
from ..files.writing import write_bytes
from .document import rendered

FIXED = ("Limitations", "Provenance", "Questions and answers")
"""Sections that nobody may change: what the tool can't know, how the report came about, and what was really asked."""

SUFFIX = ".medfm-report"


def edit(report: Report, changes: Mapping[str, str]) -> Report:
    """The report with some sections' words replaced, one paragraph a line; a signed one is a draft again.

    A paragraph that stays word for word keeps its link to what it rests on.

    Raises:
        InputError: for a section that isn't there, may not be changed, or would be empty.
    """
    sections = {section.title: section for section in report.sections}
    changed = []
    for title, text in changes.items():
        if title not in sections:
            raise InputError(f"The report has no section '{title}'; it has {', '.join(sections)}.")
        paragraphs = tuple(line.strip() for line in text.splitlines() if line.strip())
        if paragraphs == sections[title].paragraphs:
            continue
        if title in FIXED:
            raise InputError(f"The section '{title}' records what happened and can't be changed; add words elsewhere.")
        if not paragraphs:
            raise InputError(f"The section '{title}' would be empty; write at least a sentence, such as “None.”")
        before = dict(sections[title].linked)
        sections[title] = ReportSection(title, paragraphs, tuple(before.get(paragraph) for paragraph in paragraphs))
        changed.append(title)
    if not changed:
        return report
    edited = tuple(title for title in sections if title in {*report.edited, *changed})
    return rendered(replace(report, sections=tuple(sections.values()), edited=edited, signed=None))


def sign(report: Report, name: str, now: datetime | None = None) -> Report:
    """The report, signed by a person who read the images and takes responsibility for its words.

    Raises:
        InputError: without a name.
    """
    name = " ".join(name.split())
    if not name:
        raise InputError("A report is signed with a name; write yours.")
    when = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")
    return rendered(replace(report, signed=SignOff(name, when)))


def keep(path: Path, response: Response) -> Path:
    """Write a response with its report, so that the report can be changed, signed and exported later.

    Raises:
        InputError: if there is no report. OutputError: if the file can't be written.
    """
    if response.report is None:
        raise InputError("There is no report to keep; draft one first.")
    return write_bytes(path, serialization.dumps(with_report(response, replace(response.report, kept=b""))))


def read_editable_report(path: Path) -> Response:
    """What `keep` wrote.

    Raises:
        InputError: if it is no such file, or damaged.
    """
    try:
        response = serialization.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"The report '{path.name}' can't be read ({error.strerror}); give a file {SUFFIX}.") from error
    if not isinstance(response, Response) or response.report is None:
        raise InputError(f"'{path.name}' holds no report; give a file {SUFFIX} that `medfm report` wrote.")
    return response


def with_report(response: Response, report: Report) -> Response:
    """The same response with another report."""
    return Response(
        tuple(report if isinstance(finding, Report) else finding for finding in response.findings), response.provenance
    )

"""Edit and sign a draft, and store it in a file. Depends on reports; knows no scenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ..core.findings import Report, ReportSection, SignOff
from ..core.request import Response
from ..errors import InputError
from ..execution import serialization
from ..files.limits import memory_for_reading, size_text
from ..files.presence import check_path
from ..files.writing import write_bytes
from .document import rendered
from .seal import opened, sealed

FIXED = ("Limitations", "Provenance", "Questions and answers")
"""Sections that must not be edited: the limitations, the provenance, and the actual questions and answers."""

SUFFIX = ".medfm-report"


def edit(report: Report, changes: Mapping[str, str]) -> Report:
    """Replace the text of some sections, one paragraph per line; a signed report becomes a draft again.

    An unchanged paragraph keeps its link.

    Args:
        report: the report.
        changes: section → its new text.

    Raises:
        InputError: for a section that does not exist, must not be edited, or would be empty.
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
            raise InputError(f"The section '{title}' can't be edited; add text to another section.")
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
    """Return the signed report.

    Args:
        report: the report.
        name: of the signer, who read the images and takes responsibility for the text.
        now: time of signing; the present by default.

    Raises:
        InputError: without a name.
    """
    name = " ".join(name.split())
    if not name:
        raise InputError("A signature needs a name; enter yours.")
    when = (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds")
    return rendered(replace(report, signed=SignOff(name, when)))


def keep(path: Path, response: Response) -> Path:
    """Write a response with its report, so that the report can be edited, signed and exported later.

    Args:
        path: the file.
        response: with a report.

    Returns:
        `path`

    Raises:
        InputError: if there is no report.
        OutputError: if the file can't be written.
    """
    if response.report is None:
        raise InputError("There is no report to save; draft one first.")
    return write_bytes(path, sealed(serialization.dumps(with_report(response, replace(response.report, kept=b"")))))


def read_editable_report(path: Path) -> Response:
    """Read a response written by `keep`.

    A signature in a file whose seal is missing or wrong does not hold; see `seal`, `Report.state`.

    Raises:
        InputError: if it is no such file, or damaged.
    """
    try:
        check_path(path)
        memory = memory_for_reading()
        if path.stat().st_size > memory:
            raise InputError(
                f"The report '{path.name}' has {size_text(path.stat().st_size)}; {size_text(memory)} may be used."
            )
        return editable_report(path.read_bytes(), path.name, memory)
    except OSError as error:
        raise InputError(f"The report '{path.name}' can't be read ({error.strerror}); give a file {SUFFIX}.") from error


def editable_report(data: bytes, name: str = "report", memory: int | None = None) -> Response:
    """Return the response in the content of a file written by `keep`.

    Args:
        data: the content, with or without a seal.
        name: of the file, for messages.
        memory: largest number of bytes that it may take; see `serialization.loads`.

    Raises:
        InputError: if it has no report, or is damaged.
    """
    content, doubt = opened(data)
    response = serialization.loads(content, memory=memory)
    if not isinstance(response, Response) or response.report is None:
        raise InputError(f"'{name}' has no report; give a file {SUFFIX} written by `medfm report`.")
    report = response.report
    if doubt and report.signed is not None:
        doubted = replace(report.signed, doubt=report.signed.doubt or doubt)
        return with_report(response, rendered(replace(report, signed=doubted)))
    return response


def with_report(response: Response, report: Report) -> Response:
    """Return the same response with another report.

    Args:
        response: the response.
        report: replaces its report.
    """
    return Response(
        tuple(report if isinstance(finding, Report) else finding for finding in response.findings), response.provenance
    )

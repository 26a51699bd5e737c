"""A kept report with changes and a signature, in the forms that are asked for. All is checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..core.request import Response
from ..errors import InputError
from ..files.writing import make_folder, write_bytes, write_text
from .revising import SUFFIX, edit, keep, read_editable_report, sign, with_report

FORMS = ("page", "text", "pdf", "patient", "dicom")
"""HTML, plain text, PDF, the patient's page, and SEG, SR, key images, encapsulated PDF and FHIR of the study."""


@dataclass(frozen=True)
class FinalizeRequest:
    """What is to be done.

    Args:
        report: a file that `reports.revising.keep` wrote.
        folder, name: where the files go, and how their names begin; never patient data.
        changes: section → its new words. by: who signs; "" leaves a draft.
        forms: of `FORMS`.
        study, series: for "dicom": the folder and UID of the series that the image was read from.
        plain: the clinician's own sentences for the patient, one a line; "" for those that are made.
        language: of the patient's page.
    """

    report: Path
    folder: Path
    name: str
    changes: Mapping[str, str] = field(default_factory=dict)
    by: str = ""
    forms: tuple[str, ...] = ("page", "text", "pdf")
    study: Path | None = None
    series: str = ""
    plain: str = ""
    language: str = "en"


@dataclass(frozen=True)
class FinalizedReport:
    """What was done: the response with its report as it is now, and the files, the kept report first."""

    response: Response
    files: tuple[Path, ...]


def finalize(task: FinalizeRequest) -> FinalizedReport:
    """Do it.

    Raises:
        InputError: a change, form, signature or patient's text that can't be; nothing was written.
        OutputError: a file can't be written; what was there before is there still.
    """
    unknown = set(task.forms) - set(FORMS)
    if unknown:
        raise InputError(f"There is no form '{sorted(unknown)[0]}'; choose of {', '.join(FORMS)}.")
    response = read_editable_report(task.report)
    report = edit(response.report, task.changes)
    report = sign(report, task.by) if task.by.strip() else report
    response = with_report(response, report)
    leaflet, source, pdf = None, None, b""
    if "patient" in task.forms:
        from ..patient import make_leaflet

        leaflet = make_leaflet(response, task.language, task.plain)
    if "dicom" in task.forms:
        from ..exports import read_source

        if task.study is None:
            raise InputError("DICOM objects are written of a DICOM series; choose its folder, or leave out this form.")
        source = read_source(task.study, series=task.series)
    if "pdf" in task.forms:
        from .pdf import as_pdf

        pdf = as_pdf(report, response.measurements)
    folder = make_folder(task.folder)
    files = [keep(folder / f"{task.name}{SUFFIX}", response)]
    if "page" in task.forms:
        files.append(write_text(folder / f"{task.name}.report.html", report.html))
    if "text" in task.forms:
        files.append(write_text(folder / f"{task.name}.report.txt", report.text))
    if pdf:
        files.append(write_bytes(folder / f"{task.name}.report.pdf", pdf))
    if leaflet is not None:
        files.append(write_text(folder / f"{task.name}.patient.html", leaflet.html))
    if source is not None:
        from ..exports import write_dicom

        files += [path for path in write_dicom(folder, task.name, response, source) if path not in files]
    return FinalizedReport(response, tuple(files))

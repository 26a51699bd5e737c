"""Apply changes and a signature to a stored report and export it. Everything is checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..core.request import Response
from ..errors import InputError
from ..files.writing import make_folder, write_bytes, write_text
from .revising import SUFFIX, edit, keep, read_editable_report, sign, with_report

FORMS = ("page", "text", "pdf", "patient", "dicom")
"""HTML, plain text, PDF, the patient's page, and for "dicom" SEG, SR, key images, encapsulated PDF and FHIR of the study."""


@dataclass(frozen=True)
class FinalizeRequest:
    """Changes, signature and output formats of a report.

    Args:
        report: a file written by `reports.revising.keep`.
        folder: destination.
        name: prefix of the file names; never patient data.
        changes: section → its new text.
        by: name of the signer; "" leaves a draft.
        forms: of `FORMS`.
        study: for "dicom": the folder of the series that the image was read from.
        series: for "dicom": UID of that series.
        plain: the clinician's own sentences for the patient, one per line; "" for generated ones.
        language: of the patient's page; "" for that of the visit, else English.
        visit: what the patient asked and collected, as JSON (`patient.visit`); "" for nothing.
        frame: for "dicom": which volume of a series with several, from 0.
        instance: for "dicom": SOP Instance UID of one of the image's slices, which chooses the volume without `frame`.
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
    language: str = ""
    visit: str = ""
    frame: int | None = None
    instance: str = ""


@dataclass(frozen=True)
class FinalizedReport:
    """Result: the response with the changed report, and the files, the stored report first."""

    response: Response
    files: tuple[Path, ...]


def finalize(task: FinalizeRequest) -> FinalizedReport:
    """Apply the changes, sign, and write the files.

    Raises:
        InputError: for an invalid change, form, signature or patient's text; nothing was written.
        OutputError: if a file can't be written; existing files are unchanged.
    """
    unknown = set(task.forms) - set(FORMS)
    if unknown:
        raise InputError(f"Unknown output form '{sorted(unknown)[0]}'; choose from {', '.join(FORMS)}.")
    response = read_editable_report(task.report)
    report = edit(response.report, task.changes)
    report = sign(report, task.by) if task.by.strip() else report
    response = with_report(response, report)
    leaflet, source, pdf = None, None, b""
    if "patient" in task.forms:
        from ..patient import make_leaflet, read_visit

        leaflet = make_leaflet(response, task.language, task.plain, visit=read_visit(task.visit))
    if "dicom" in task.forms:
        from ..exports import check, read_source

        if task.study is None:
            raise InputError("DICOM objects need the DICOM series of the image; choose its folder, or omit this form.")
        source = read_source(task.study, series=task.series, frame=task.frame, instance=task.instance)
        segmentation = response.segmentation
        check(source, task.folder, segmentation.geometry if segmentation is not None else None, pdf=True)
    if {"pdf", "dicom"} & set(task.forms):
        from .pdf import as_pdf

        pdf = as_pdf(report, response.measurements)
    folder = make_folder(task.folder)
    files = [keep(folder / f"{task.name}{SUFFIX}", response)]
    if "page" in task.forms:
        files.append(write_text(folder / f"{task.name}.report.html", report.html))
    if "text" in task.forms:
        files.append(write_text(folder / f"{task.name}.report.txt", report.text))
    if "pdf" in task.forms:
        files.append(write_bytes(folder / f"{task.name}.report.pdf", pdf))
    if leaflet is not None:
        files.append(write_text(folder / f"{task.name}.patient.html", leaflet.html))
    if source is not None:
        from ..exports import write_dicom

        files += [path for path in write_dicom(folder, task.name, response, source, pdf) if path not in files]
    return FinalizedReport(response, tuple(files))

"""Write all DICOM and FHIR objects of one response, each atomically."""

from __future__ import annotations

import json
from pathlib import Path

from ..core.request import Response
from ..files.writing import make_folder, replace_file, write_bytes, write_text
from .encapsulated import encapsulated_pdf
from .fhir import diagnostic_report
from .key_objects import key_objects
from .segmentation import segmentation_object
from .source import Source
from .structured import measurement_report


def write_dicom(folder: Path, name: str, response: Response, source: Source, pdf: bytes = b"") -> list[Path]:
    """Write segmentation and measurements; with a report also its PDF, key images and FHIR resource.

    Args:
        folder: destination.
        name: prefix of every file's name; never patient data.
        response: segmentation, measurements and, if there is one, the report to export.
        source: headers of the series that the image was read from.
        pdf: the report as a PDF (`reports.pdf.as_pdf`); required if there is a report.

    Raises:
        InputError: if the result's grid differs from the source's, or there is nothing to export.
        OutputError: if a file can't be written; existing files are unchanged.
    """
    if response.report is not None and not pdf:
        raise ValueError("a report is exported with its PDF")
    folder = make_folder(folder)
    segmentation = segmentation_object(response.segmentation, source, response.provenance)
    report = response.report
    made = {
        "seg": segmentation,
        "sr": measurement_report(
            response.measurements, response.segmentation, segmentation, source, response.provenance,
            report.signed if report is not None else None,
        ),
    }  # fmt: skip
    files: list[Path] = []
    if report is not None:
        made["pdf"] = encapsulated_pdf(pdf, report.title, source)
        if report.key_images:
            made["kos"] = key_objects(report.key_images, response.segmentation.geometry, source)
        files.append(write_bytes(folder / f"{name}.report.pdf", pdf))
        state = "signed" if report.signed else "draft"
        resource = diagnostic_report(report, response.measurements, source, response.provenance, pdf, state)
        files.append(write_text(folder / f"{name}.fhir.json", json.dumps(resource, indent=2)))
    return [*files, *(_write(folder / f"{name}.{kind}.dcm", dataset) for kind, dataset in made.items())]


def _write(path: Path, dataset) -> Path:
    return replace_file(path, lambda temporary: dataset.save_as(temporary, enforce_file_format=True))

"""All objects of one response, each written whole or not at all. Knows file names; what is in them is the other files' work."""

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


def write_dicom(folder: Path, name: str, response: Response, source: Source) -> list[Path]:
    """Segmentation and measurements; with a report also its PDF, key images and FHIR resource.

    Args:
        name: begins every file's name; never patient data.

    Raises:
        InputError: the result lies elsewhere than the source, or there is nothing to export.
        OutputError: a file can't be written; what was there before is there still.
    """
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
        from ..reports.pdf import as_pdf

        pdf = as_pdf(report, response.measurements)
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

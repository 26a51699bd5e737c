"""Write all DICOM and FHIR objects of one response, each atomically; and check beforehand that it will be possible."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from ..core.findings import Code
from ..core.geometry import Geometry, picture_geometry
from ..core.request import Response
from ..errors import InputError, ModelError
from ..files.writing import make_folder, replace_file, write_bytes, write_text
from .encapsulated import encapsulated_pdf
from .fhir import diagnostic_report
from .key_objects import key_objects
from .segmentation import check_in_patient, segment_numbers, segmentation_object
from .source import Source, concept, equipment_of_document, highdicom
from .structure_set import check_contours, structure_set
from .structured import measurement_report


def check(
    source: Source,
    folder: Path | None = None,
    geometry: Geometry | None = None,
    *,
    pdf: bool = False,
    rtstruct: bool = False,
) -> None:
    """Check, before a long job, what `write_dicom` will need: packages, headers, grid and folder.

    Args:
        source: the series that the image is read from.
        folder: destination, created if needed; None to leave it unchecked.
        geometry: grid of the image; None to leave it unchecked.
        pdf: whether a report's PDF will be made.
        rtstruct: whether a structure set will be written.

    Raises:
        ModelError: if a package is missing, with its name.
        InputError: if the headers can't be referenced, or the grid is not that of the series.
        OutputError: if the folder can't be written to.
    """
    hd = highdicom()
    if pdf and importlib.util.find_spec("reportlab") is None:
        raise ModelError("The PDF needs the package reportlab; install it with `pip install medfm[report]`.")
    if rtstruct:
        check_contours()
    if geometry is not None:
        source.check_grid(geometry)
    if not pdf or rtstruct:
        check_in_patient(source)
    # the attributes of patient and study go through a class of the library as they will later
    content = hd.ko.KeyObjectSelection(concept(Code("113000", "DCM", "Of Interest")), [source.first])
    hd.ko.KeyObjectSelectionDocument(evidence=[source.first], content=content, **equipment_of_document(3, "check"))
    if folder is not None:
        make_folder(folder)


def write_dicom(
    folder: Path, name: str, response: Response, source: Source, pdf: bytes = b"", *, rtstruct: bool = False
) -> list[Path]:
    """Write segmentation and measurements; with a report also its PDF, key images and FHIR resource.

    A report without a segment, or on pictures without a place in the patient, has no segmentation that DICOM could
    hold; its other objects are written.

    Args:
        folder: destination.
        name: prefix of every file's name; never patient data.
        response: segmentation, measurements and, if there is one, the report to export.
        source: the series that the image was read from.
        pdf: the report as a PDF (`reports.pdf.as_pdf`); required if there is a report.
        rtstruct: also write the segments as an RT Structure Set.

    Raises:
        InputError: if the result's grid differs from the source's, or there is nothing to export.
        OutputError: if a file can't be written; existing files are unchanged.
    """
    if response.report is not None and not pdf:
        raise ValueError("a report is exported with its PDF")
    folder = make_folder(folder)
    report, segmentation = response.report, response.segmentation
    made = {}
    if segmentation is None and report is None:
        raise InputError("There is neither a segmentation nor a report, so there is nothing to export.")
    if report is None or (source.in_patient and segmentation is not None and segment_numbers(segmentation)):
        made["seg"] = segmentation_object(segmentation, source, response.provenance)
        made["sr"] = measurement_report(
            response.measurements, segmentation, made["seg"], source,
            report.signed if report is not None and report.is_signed else None,
        )  # fmt: skip
    if rtstruct and segmentation is not None:
        made["rtstruct"] = structure_set(segmentation, source, response.provenance)
    files: list[Path] = []
    if report is not None:
        made["pdf"] = encapsulated_pdf(pdf, report.title, source)
        if report.key_images:
            made["kos"] = key_objects(report.key_images, _grid(response, source), source)
        files.append(write_bytes(folder / f"{name}.report.pdf", pdf))
        state = "signed" if report.is_signed else "draft"
        resource = diagnostic_report(report, response.measurements, source, response.provenance, pdf, state)
        files.append(write_text(folder / f"{name}.fhir.json", json.dumps(resource, indent=2, allow_nan=False)))
    return [*files, *(_write(folder / f"{name}.{kind}.dcm", dataset) for kind, dataset in made.items())]


def _grid(response: Response, source: Source) -> Geometry:
    """Return the grid that the report's pictures lie on."""
    if response.segmentation is not None:
        return response.segmentation.geometry
    return picture_geometry(int(source.first.Columns), int(source.first.Rows), len(source.slices))


def _write(path: Path, dataset) -> Path:
    return replace_file(path, lambda temporary: dataset.save_as(temporary, enforce_file_format=True))

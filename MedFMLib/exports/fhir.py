"""Convert a report to a FHIR R5 DiagnosticReport with an Observation for each measurement, as JSON. Sends nothing.

Source: HL7 FHIR R5 (hl7.org/fhir/R5), DiagnosticReport and Observation; the study is referenced by its DICOM UID, as in
the HL7 Europe imaging report. The patient is referenced by the study's identifier only.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from ..core.findings import Code, Measurement, Report
from ..core.measurements import SegmentKey, names_of
from ..core.request import Provenance
from .codes import CODES, notes_on, unit_of
from .source import Source

SYSTEMS = {
    "SCT": "http://snomed.info/sct", "DCM": "http://dicom.nema.org/resources/ontology/DCM", "LN": "http://loinc.org",
    "IBSI": "http://dicom.nema.org/resources/ontology/IBSI", "UCUM": "http://unitsofmeasure.org",
}  # fmt: skip
STATUS = {"draft": "preliminary", "signed": "final"}


def diagnostic_report(
    report: Report,
    measurements: Sequence[Measurement],
    source: Source | None,
    provenance: Provenance,
    pdf: bytes = b"",
    state="draft",
) -> dict[str, Any]:
    """Return a DiagnosticReport resource; a draft has the status 'preliminary'.

    Args:
        report: the report.
        measurements: one Observation each.
        source: the series, or None if the volume was not read from DICOM.
        provenance: of the results.
        pdf: the report as a PDF, b"" for none.
        state: "draft" or "signed".
    """
    names = names_of(m.key for m in measurements)
    observations = [_observation(n, m, names) for n, m in enumerate(measurements, 1) if not isinstance(m.value, str)]
    impression = next((s.paragraphs for s in report.sections if s.title == "Impression"), ())
    content: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "status": STATUS[state],
        "category": [{"coding": [_coding(Code("394914008", "SCT", "Radiology"))]}],
        "code": {"coding": [_coding(Code("18748-4", "LN", "Diagnostic imaging study"))], "text": report.title},
        "issued": provenance.started or None,
        "contained": observations,
        "result": [{"reference": f"#{o['id']}"} for o in observations],
        "conclusion": "\n".join(impression) or None,
        "presentedForm": [
            {
                "contentType": "text/plain",
                "data": base64.b64encode(report.text.encode()).decode(),
                "title": report.title,
            }
        ],
    }
    if pdf:
        content["presentedForm"].append(
            {"contentType": "application/pdf", "data": base64.b64encode(pdf).decode(), "title": report.title}
        )
    if source is not None:
        study = {"system": "urn:dicom:uid", "value": f"urn:oid:{source.first.StudyInstanceUID}"}
        content["study"] = [{"type": "ImagingStudy", "identifier": study}]
        if getattr(source.first, "PatientID", ""):
            content["subject"] = {"type": "Patient", "identifier": {"value": str(source.first.PatientID)}}
    return _without_empty(content)


def _observation(number: int, m: Measurement, names: dict[SegmentKey, str]) -> dict[str, Any]:
    code = CODES.get(m.name)
    unit = unit_of(m.unit).value
    return {
        "resourceType": "Observation",
        "id": f"m{number}",
        "status": "preliminary",
        "code": {"coding": [_coding(code)] if code else [], "text": f"{names[m.key]} {m.name}"},
        "valueQuantity": {
            "value": round(float(m.value), 6), "unit": "HU" if "hnsf" in unit else m.unit or unit,
            "system": SYSTEMS["UCUM"], "code": unit,
        },
        "method": {"text": m.method} if m.method else None,
        "note": [{"text": text} for text in notes_on(m)],
        "bodyStructure": None,
    }  # fmt: skip


def _coding(code: Code) -> dict[str, str]:
    return {"system": SYSTEMS.get(code.scheme, code.scheme), "code": code.value, "display": code.meaning}


def _without_empty(value):
    if isinstance(value, dict):
        return {k: _without_empty(v) for k, v in value.items() if v not in (None, [], {}, "")}
    return [_without_empty(v) for v in value] if isinstance(value, list) else value

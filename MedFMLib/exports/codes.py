"""Map measurement names and units to their DICOM codes for structured reports.

SCT is SNOMED CT, IBSI the Image Biomarker Standardisation Initiative (both as in DICOM PS3.16), UCUM the units.
"""

from __future__ import annotations

from ..core.findings import Code, Measurement
from ..core.measurements import plain

CODES: dict[str, Code] = {
    "volume": Code("118565006", "SCT", "Volume"),
    "area": Code("42798000", "SCT", "Area"),
    "longest diameter": Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh"),
    "long axis": Code("103339001", "SCT", "Long Axis"),
    "short axis": Code("103340004", "SCT", "Short Axis"),
    "surface": Code("C0JK", "IBSI", "Surface Area of Mesh"),
    "mean intensity": Code("Q4LE", "IBSI", "Mean intensity"),
    "intensity SD": Code("386136009", "SCT", "Standard Deviation"),
    "median intensity": Code("Y12H", "IBSI", "Median intensity"),
    "10th percentile": Code("QG58", "IBSI", "10th intensity percentile"),
    "90th percentile": Code("8DWT", "IBSI", "90th intensity percentile"),
    "minimum": Code("1GSF", "IBSI", "Minimum intensity"),
    "maximum": Code("84IY", "IBSI", "Maximum intensity"),
}
"""Name of a measurement → its concept; a name that is missing here has no standard code and is exported as text."""

UNITS: dict[str, Code] = {
    "mL": Code("mL", "UCUM", "milliliter"),
    "mm": Code("mm", "UCUM", "millimeter"),
    "mm2": Code("mm2", "UCUM", "square millimeter"),
    "[hnsf'U]": Code("[hnsf'U]", "UCUM", "Hounsfield unit"),
    "Gy": Code("Gy", "UCUM", "gray"),
    "Bq/mL": Code("Bq/ml", "UCUM", "Becquerels per milliliter"),
    "g/mL": Code("g/ml", "UCUM", "grams per milliliter"),
    "{counts}": Code("{counts}", "UCUM", "counts"),
    "{pixels}": Code("{pixels}", "UCUM", "pixels"),
    "": Code("1", "UCUM", "no units"),
}
"""Unit of a measurement → its concept."""


def unit_of(unit: str) -> Code:
    """Return the concept of a unit; every other UCUM unit names itself."""
    return UNITS.get(unit) or Code(unit[:16], "UCUM", unit)


def notes_on(measurement: Measurement) -> list[str]:
    """Return what a reader must know of a measurement: its 95 % interval, and the rules of anatomy that its outline failed."""
    notes = [check.sentence for check in measurement.checks]
    if measurement.low is not None and measurement.high is not None:
        low, high = plain(measurement.low), plain(measurement.high)
        notes.insert(0, f"95 % interval {low} to {high} {measurement.unit}".rstrip())
    return notes

"""Report files that somebody edited, names of patients on their way into results, cells that start formulas."""

from __future__ import annotations

import csv
import io
import sys

import pydicom
import pytest
from support.batch_in_test import write_volume

from MedFMLib.batch import reading
from MedFMLib.batch.cases import SeriesChoice
from MedFMLib.batch.manifest import Manifest
from MedFMLib.batch.plan import CaseOptions, step_from
from MedFMLib.core.findings import Report, ReportSection
from MedFMLib.core.request import Provenance, Response
from MedFMLib.execution import serialization
from MedFMLib.files.dicom.facts import facts_of
from MedFMLib.files.dicom.headers import Header
from MedFMLib.files.pseudonyms import KeyFile
from MedFMLib.files.tables import as_csv
from MedFMLib.reports.revising import keep, read_editable_report, sign, with_report


@pytest.fixture
def signed(tmp_path, monkeypatch):
    """(Response, file) of a signed report of an installation without a keyring."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setitem(sys.modules, "keyring", None)
    sections = (ReportSection("Findings", ("Liver: 5 mL.",)), ReportSection("Limitations", ("None.",)))
    response = Response((Report("R", sections),), Provenance("report", "m"))
    response = with_report(response, sign(response.report, "Dr A. B."))
    return response, keep(tmp_path / "case.medfm-report", response)


@pytest.mark.parametrize("how", ["words changed", "seal removed", "made elsewhere"])
def test_an_edited_report_does_not_read_as_signed(how, signed, tmp_path, attack):
    _, file = signed
    assert read_editable_report(file).report.is_signed
    line, _, content = file.read_bytes().partition(b"\n")
    if how == "words changed":
        content = content.replace(b"Liver: 5 mL.", b"Liver: 9 mL.")
        file.write_bytes(line + b"\n" + content)
    elif how == "seal removed":
        file.write_bytes(content)
    else:
        (tmp_path / "config" / "MedFM" / "report-seal.key").write_text("0" * 64)
    report = read_editable_report(file).report
    assert not report.is_signed and "does not hold" in report.text and "does not hold" in report.html
    attack("read as signed", f"not signed: {report.signed.doubt}")


def test_a_report_made_by_hand_is_not_signed(signed, tmp_path, attack):
    response, _ = signed
    file = tmp_path / "forged.medfm-report"
    file.write_bytes(serialization.dumps(response))
    assert not read_editable_report(file).report.is_signed
    attack("read as signed", "not signed")


def test_the_manifest_of_a_batch_has_no_path_of_a_patient(tmp_path, attack):
    write_volume(tmp_path / "Doe, Jane 4711" / "Doe_Jane.nrrd")
    found = reading.find_cases(
        tmp_path, (step_from("segment"),), CaseOptions(), SeriesChoice(), 60.0, lambda text: None
    )
    key = KeyFile(tmp_path / "key.csv")
    cases = reading.with_numbers(found, key, True)
    (tmp_path / "out").mkdir()
    manifest = Manifest(tmp_path / "out", key.read())
    manifest.take(cases)
    assert manifest.cases() == cases and cases[0].id == "case-0001"
    manifest.close()
    content = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert b"case-0001" in content and b"Doe" not in content and b"4711" not in content
    attack("paths with names in the manifest", "case numbers; a key file apart")


def test_free_text_of_a_header_reaches_no_report(attack):
    data = pydicom.Dataset()
    data.Manufacturer, data.ManufacturerModelName, data.BodyPartExamined = "Doe^Jane 1970", "for Jane Doe", "HEAD DOE"
    assert not [
        value for value in facts_of(Header(None, data)).values() if "oe" in value.lower() and "stated" not in value
    ]
    attack("in the report's technique", "known words only")


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_starts_no_formula(cell, attack):
    _, row = csv.reader(io.StringIO(as_csv(("name",), [(cell,)]), newline=""))
    assert row[0][0] not in "=+-@\t\r" and cell.strip() in row[0]
    attack("a formula", f"{row[0]!r}")

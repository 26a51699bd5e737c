"""A draft becomes files: edited, signed, in every format, in this process and in a separate one; or nothing is written."""

import json
import shutil
import subprocess

import pydicom
import pytest
from exports.test_dicom_objects import respond as respond_on
from exports.test_dicom_objects import study

from MedFMLib.errors import InputError
from MedFMLib.files import read_image
from MedFMLib.interfaces.jobs import NoProgress
from MedFMLib.reports.finalize import FinalizeRequest, finalize
from MedFMLib.reports.finalize_in_subprocess import finalize_in_subprocess
from MedFMLib.reports.revising import keep, read_editable_report


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """(folder of a DICOM study, a kept draft on it)."""
    folder = study(tmp_path_factory.mktemp("study"))
    return folder, keep(tmp_path_factory.mktemp("draft") / "case.medfm-report", respond_on(read_image(folder)))


@pytest.fixture(scope="module")
def signed(case, tmp_path_factory):
    """Everything that can be written of a signed report."""
    series, draft = case
    out = tmp_path_factory.mktemp("out")
    task = FinalizeRequest(
        draft, out, "case", {"Impression": "Normal."}, "Jane Q. Doe", ("page", "text", "pdf", "dicom"), series
    )
    return finalize(task)


def test_every_form_is_written_and_says_who_signed(signed):
    names = sorted(path.name for path in signed.files)
    assert names == [
        "case.fhir.json", "case.kos.dcm", "case.medfm-report", "case.pdf.dcm", "case.report.html", "case.report.pdf",
        "case.report.txt", "case.seg.dcm", "case.sr.dcm",
    ]  # fmt: skip
    folder = signed.files[0].parent
    assert read_editable_report(signed.files[0]).report.signed.name == "Jane Q. Doe"
    assert json.loads((folder / "case.fhir.json").read_text())["status"] == "final"
    assert "Signed: Jane Q. Doe" in (folder / "case.report.html").read_text()
    report = pydicom.dcmread(folder / "case.sr.dcm")
    assert (report.VerificationFlag, report.CompletionFlag) == ("VERIFIED", "COMPLETE")
    assert str(report.VerifyingObserverSequence[0].VerifyingObserverName) == "Doe^Jane Q."


def test_the_validator_finds_no_error_in_a_signed_report(signed):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    for path in signed.files:
        if path.suffix == ".dcm":
            said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
            errors = [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")]
            assert not errors, (path.name, errors)


def test_a_draft_is_no_verified_report(case, tmp_path):
    series, draft = case
    finalize(FinalizeRequest(draft, tmp_path, "case", forms=("dicom",), study=series))
    assert pydicom.dcmread(tmp_path / "case.sr.dcm").VerificationFlag == "UNVERIFIED"
    assert json.loads((tmp_path / "case.fhir.json").read_text())["status"] == "preliminary"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"forms": ("page", "fax")}, "output form 'fax'"),
        ({"forms": ("dicom",)}, "choose its folder"),
        ({"changes": {"Provenance": "x"}}, "can't be edited"),
        ({"forms": ("page", "patient"), "plain": "You have a tumor."}, "can't be given to a patient"),
    ],
)
def test_what_cannot_be_done_writes_nothing(case, tmp_path, change, words):
    folder = tmp_path / "out"
    with pytest.raises(InputError, match=words):
        finalize(FinalizeRequest(case[1], folder, "case", **change))
    assert not folder.exists()


def test_a_process_of_its_own_does_the_same(case, tmp_path):
    files = finalize_in_subprocess(
        FinalizeRequest(case[1], tmp_path, "case", {}, "A B", ("page", "patient")), NoProgress()
    )
    assert [path.name for path in files] == ["case.medfm-report", "case.report.html", "case.patient.html"]
    assert read_editable_report(files[0]).report.signed.name == "A B"
    with pytest.raises(InputError, match="no section 'X'"):
        finalize_in_subprocess(FinalizeRequest(case[1], tmp_path, "case", {"X": "y"}), NoProgress())

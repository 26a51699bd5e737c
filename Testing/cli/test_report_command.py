"""`medfm report`, `sign`, `patient` and `templates`, as a person runs them."""

import json

import pytest
from phantoms import ct_phantom
from reports.conftest import respond

from MedFMLib.reports.revising import keep, kept


@pytest.fixture
def draft(tmp_path):
    """A kept draft in a folder of its own."""
    return keep(tmp_path / "case.medfm-report", respond(ct_phantom()))


def test_a_draft_is_changed_signed_and_written_in_every_form(medfm, draft):
    done = medfm("sign", draft, "--by", "Dr Jane Doe", "--set", "Impression=Normal for the age.", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["state"].startswith("signed: Dr Jane Doe")
    assert {path.rsplit("case.", 1)[1] for path in said["files"]} == {
        "report.html", "report.txt", "medfm-report", "report.pdf",
    }  # fmt: skip
    report = kept(draft).report
    assert report.signed.name == "Dr Jane Doe" and report.section("Impression").paragraphs == ("Normal for the age.",)
    assert "Signed: Dr Jane Doe" in (draft.parent / "case.report.txt").read_text()


def test_a_wrong_change_leaves_the_draft_as_it_was(medfm, draft):
    before = draft.read_bytes()
    wrong = {"Impression": "SECTION=TEXT", "Limitations=None.": "can't be changed", "Impression=@no.txt": "no.txt"}
    for change, words in wrong.items():
        done = medfm("sign", draft, "--set", change)
        assert done.returncode == 2 and words in done.stderr
    assert draft.read_bytes() == before and list(draft.parent.iterdir()) == [draft]


def test_the_patients_version_is_written_or_refused_with_its_reason(medfm, draft, tmp_path):
    done = medfm("patient", draft)
    assert done.returncode == 0, done.stderr
    assert "Your liver takes up" in (draft.parent / "case.patient.html").read_text()
    own = tmp_path / "own.txt"
    own.write_text("Your spleen is enlarged.")
    done = medfm("patient", draft, "--text", own)
    assert done.returncode == 2 and "can't be given to a patient" in done.stderr


def test_the_templates_are_told(medfm):
    done = medfm("templates", "--json")
    assert {"general", "brain-mr", "chest-ct", "abdomen", "volumetry"} <= set(json.loads(done.stdout))

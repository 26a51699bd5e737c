"""`medfm report`, `sign`, `patient` and `templates`, as a person runs them."""

import json
import shutil

import pytest
from reports.conftest import respond
from support.phantoms import ct_phantom

from MedFMLib.reports.revising import keep, read_editable_report
from MedFMLib.storage import resources


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
    report = read_editable_report(draft).report
    assert report.signed.name == "Dr Jane Doe" and report.section("Impression").paragraphs == ("Normal for the age.",)
    assert "Signed: Dr Jane Doe" in (draft.parent / "case.report.txt").read_text()


def test_a_wrong_change_leaves_the_draft_as_it_was(medfm, draft):
    before = draft.read_bytes()
    wrong = {"Impression": "SECTION=TEXT", "Limitations=None.": "can't be edited", "Impression=@no.txt": "no.txt"}
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


@pytest.mark.slow
def test_a_report_is_drafted_with_a_healthy_case_and_an_explained_answer(medfm, tmp_path):
    pytest.importorskip("torch")
    head = resources.path("healthy", "cases", "average-healthy-brain-t1") / "image.nrrd"
    scan = shutil.copy(head, tmp_path / "case.nrrd")
    done = medfm("report", scan, "-o", tmp_path / "out", "--modality", "MR", "--reference", "average-healthy-brain-t1",
                 "--question", "is the skull visible?", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out" / "case.report.txt").read_text()
    assert (
        "COMPARISON WITH HEALTHY\nCompared with: Average healthy brain, T1." in text
        and "Q: is the skull visible?" in text
    )
    captions = [
        picture.caption for picture in read_editable_report(tmp_path / "out" / "case.medfm-report").report.key_images
    ]
    assert any("next to" in caption for caption in captions) and any("rests on" in caption for caption in captions)


def test_an_unknown_healthy_case_is_refused_before_anything_is_drawn(medfm, draft, tmp_path):
    from support.phantoms import torso

    from MedFMLib.files.writing import write_volume

    image, _ = torso()
    scan = write_volume(tmp_path / "case.nii.gz", image.scalars, image.geometry)
    done = medfm("report", scan, "-o", tmp_path / "out", "--compare", "--reference", "nobody")
    assert done.returncode == 2 and "There is no healthy case 'nobody'" in done.stderr


def test_the_templates_are_reported(medfm):
    done = medfm("templates", "--json")
    assert {"general", "brain-mr", "chest-ct", "abdomen", "volumetry"} <= set(json.loads(done.stdout))

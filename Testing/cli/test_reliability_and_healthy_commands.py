"""`medfm ask` with its checks, `explain`, `reliability`, `healthy` and `compare`, on a phantom with a very small random model."""

from __future__ import annotations

import json

import pytest
import SimpleITK as sitk
from cli.conftest import medfm_process
from support.phantoms import torso

from MedFMLib.files.writing import write_segmentation, write_volume
from MedFMLib.storage import resources


@pytest.fixture(autouse=True)
def own_library(tmp_path_factory, monkeypatch):
    """Each test has a library of its own: a case that another one added would be chosen."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(image, segmentation) of a phantom."""
    folder = tmp_path_factory.mktemp("phantom")
    image, segmentation = torso()
    return (
        write_volume(folder / "phantom.nii.gz", image.scalars, image.geometry),
        write_segmentation(folder / "phantom.seg.nrrd", segmentation),
    )


def run(*arguments, ok=True):
    done = medfm_process(*map(str, arguments))
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done


def test_an_answer_is_looked_into_with_its_cost_said_before_and_explained(files, tmp_path):
    pytest.importorskip("torch")
    image, _ = files
    target = tmp_path / "where.nii.gz"
    done = run("ask", image, "what is this?", "--first", 12, "--last", 12, "--agreement", 4, "--blind-control",
               "--saliency", target, "--outside-domain")  # fmt: skip
    assert "at most 8 × the time of an answer" in done.stderr
    assert "of 4 further answers agree" in " ".join(done.stderr.split())
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(target)))
    assert values.shape[0] == 1 and values.max() == 1 and values.min() >= 0
    summary = json.loads(run("ask", image, "what is this?", "--agreement", 3, "--json", "--outside-domain").stdout)
    reliability = summary["answers"][0]["reliability"]
    assert (
        len(reliability["samples"]) == 9
        and 0 <= reliability["agreement"] <= 1
        and reliability["confidence"] is not None
    )


def test_an_explanation_is_a_picture(files, tmp_path):
    pytest.importorskip("torch")
    done = run(
        "explain", files[0], "which plane is this?", "--first", 12, "--last", 12, "-o", tmp_path / "a" / "where.png",
        "--outside-domain",
    )  # fmt: skip
    assert (tmp_path / "a" / "where.png").read_bytes().startswith(b"\x89PNG")
    assert "does not prove" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain", "{image}", "what?", "-o", "where.txt"), "not 'where.txt'"),
        (("explain", "{image}", "what?", "--method", "magic"), "attention, occlusion"),
        (("ask", "{image}", "what?", "--agreement", "1"), "2 to 64 samples"),
        (("ask", "{image}", "what?", "--other", "{image}"), "add --blind-control"),
        (("reliability", "calibrate", "--data", "nowhere"), "no folder 'nowhere'"),
        (("compare", "{image}", "--reference", "nobody"), "no healthy case 'nobody'"),
    ],
)
def test_what_can_not_be_done_is_one_sentence(files, arguments, message):
    done = run(*(a.format(image=files[0]) for a in arguments), ok=False)
    assert message in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


def test_what_is_known_of_the_embedded_model_is_shown():
    assert "are withheld" in run("reliability", "show").stdout
    assert "somebody/else is not calibrated" in " ".join(run("reliability", "show", "somebody/else").stdout.split())


def test_a_case_is_added_listed_and_removed(files, tmp_path):
    image, segments = files
    library = ("--library", tmp_path / "library")
    added = run(
        "healthy", "add", image, "--title", "adult torso", "--segmentation", segments, "--modality", "CT", *library
    )
    assert "Added adult-torso: liver" in added.stdout
    assert "adult-torso: adult torso (CT, axial, person; 3 structures)" in run("healthy", "list", *library).stdout
    run("healthy", "remove", "adult-torso", "--yes", *library)
    assert json.loads(run("healthy", "list", "--json", *library).stdout) == []


@pytest.mark.slow
def test_a_head_is_compared_with_the_average_one(tmp_path):
    pytest.importorskip("torch")
    out, head = tmp_path / "out", resources.path("healthy", "cases", "average-healthy-brain-t1") / "image.nrrd"
    done = run("compare", head, "--modality", "MR", "-l", "left thalamus", "-o", out)
    assert "Compared with: Average healthy brain, T1." in done.stdout
    content = json.loads((out / "image.compare.json").read_text())
    assert content["reference"] == "average-healthy-brain-t1" and content["slices"]
    assert list(out.glob("image.compare-axial-*.png"))


def test_those_that_ship_are_listed_for_what_they_are():
    listed = run("healthy", "list").stdout
    assert "MR T1, axial, average" in listed and "CT, axial, synthetic" in listed


def test_a_case_of_which_the_model_knows_no_structure_is_named(files, tmp_path):
    pytest.importorskip("torch")
    done = run("compare", files[0], "--modality", "CT", "-o", tmp_path, ok=False)
    assert "can segment nothing that “Computed torso” has" in " ".join(done.stderr.split())
    assert not list(tmp_path.glob("*"))

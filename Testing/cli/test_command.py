"""The `medfm` command as a user runs it, with a very small random model."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from cli.conftest import ROOT, medfm_process
from support.dicom_writer import write_series
from support.phantoms import affine, ct_phantom, oblique_geometry

from MedFMLib.core.geometry import Geometry, lps_from_ras
from MedFMLib.core.image import Image
from MedFMLib.files.reading import read_image
from MedFMLib.files.sitk import geometry_of


def save(image: Image, path: Path) -> Path:
    picture = sitk.GetImageFromArray(np.ascontiguousarray(image.scalars.transpose(2, 1, 0)))
    matrix = lps_from_ras(image.geometry.affine)
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    picture.SetSpacing(spacing.tolist())
    picture.SetDirection((matrix[:3, :3] / spacing).ravel().tolist())
    picture.SetOrigin(matrix[:3, 3].tolist())
    sitk.WriteImage(picture, str(path))
    return path


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return save(ct_phantom(), tmp_path_factory.mktemp("in") / "scan ä.nii.gz")


def test_segment_writes_a_segmentation_on_the_inputs_grid(medfm, scan, tiny_folder, tmp_path):
    done = medfm("segment", scan, "--model", tiny_folder, "--output", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    path = tmp_path / "scan ä.seg.nrrd"
    assert str(path) in facts["files"]
    assert facts["provenance"]["model"] == str(tiny_folder)
    assert facts["provenance"]["precision"] == "nf4 weights in fp32"
    picture = sitk.ReadImage(str(path))
    assert geometry_of(picture).matches(read_image(scan).geometry)
    assert json.loads((tmp_path / "scan ä.measurements.json").read_text())["notice"].startswith("Research")


def test_ask_prints_the_answer_and_the_slices_in_a_process_of_its_own(scan, tiny_folder):
    done = medfm_process("ask", scan, "which plane is this?", "--model", tiny_folder, "--first", 10, "--last", 10)
    assert done.returncode == 0, done.stderr
    assert "Seen on: axial slice 10" in done.stdout
    assert "not a medical device" in done.stdout


def test_report_writes_page_text_and_segmentation(medfm, scan, tiny_folder, tmp_path):
    done = medfm("report", scan, "--model", tiny_folder, "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "scan ä.report.html").read_text()
    assert "data:image/png;base64," in page
    assert "Research and education only" in page
    assert "TECHNIQUE" in (tmp_path / "scan ä.report.txt").read_text()
    assert (tmp_path / "scan ä.seg.nrrd").exists()


def test_models_list_and_stats_speak_json(medfm):
    pytest.importorskip("torch")
    listed = json.loads(medfm("models", "list", "--json").stdout)
    assert "google/paligemma-3b-mix-224" in {card["id"] for card in listed}
    stats = json.loads(medfm("models", "stats", "google/paligemma-3b-mix-224", "--json").stdout)
    assert stats["parameters"] == 2_923_466_480
    assert stats["dense_bytes"] == 2 * stats["parameters"]
    assert stats["quantized_bytes"] == sum(layer["quantized_bytes"] for layer in stats["layers"])


def bad_inputs(folder):
    """name → (arguments, exit code, words of the sentence)."""
    rng = np.random.default_rng(0)
    geometry = Geometry((32, 32, 12), affine(spacing=(1, 1, 3)))
    good = Image(rng.normal(100, 9, (1, *geometry.shape)).astype(np.float32), geometry, "MR", "good")
    save(good, folder / "good.nrrd")
    save(good.with_voxels(np.zeros_like(good.voxels)), folder / "constant.nii.gz")
    holes = good.voxels.copy()
    holes[0, 3, 3, 3] = np.nan
    save(good.with_voxels(holes), folder / "nan.mha")
    sitk.WriteImage(sitk.GetImageFromArray(rng.random((20, 20)).astype(np.float32)), str(folder / "flat.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(rng.random((9, 20, 20, 3)), isVector=True), str(folder / "rgb.nrrd"))
    series = sitk.JoinSeries([sitk.GetImageFromArray(rng.random((9, 20, 20)))] * 5)
    sitk.WriteImage(series, str(folder / "four.nii.gz"))
    whole = (folder / "good.nrrd").read_bytes()
    (folder / "cut.nrrd").write_bytes(whole[: len(whole) // 2])
    (folder / "words.txt").write_text("hello")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "nothing").mkdir()
    return {
        "missing": (["segment", folder / "none.nii"], 2, "no file or folder"),
        "constant": (["segment", folder / "constant.nii.gz"], 2, "is constant"),
        "nan": (["segment", folder / "nan.mha"], 2, "1 voxels that are NaN"),
        "2d": (["ask", folder / "flat.nii.gz", "what?"], 2, "2 dimensions"),
        "rgb": (["segment", folder / "rgb.nrrd"], 2, "3 values per voxel"),
        "4d": (["segment", folder / "four.nii.gz"], 2, "5 frames; choose one with --frame 0 to 4"),
        "4d frame": (["segment", folder / "four.nii.gz", "--frame", 9], 2, "frames 0 to 4"),
        "truncated": (["segment", folder / "cut.nrrd"], 2, "damaged, truncated"),
        "no image": (["segment", folder / "words.txt"], 2, "no DICOM image"),
        "picture": (["segment", folder / "picture.png"], 2, "picture"),
        "empty folder": (["segment", folder / "nothing"], 2, "contains no DICOM images"),
        "unknown model": (["segment", folder / "good.nrrd", "-m", "nope"], 3, "no model 'nope'"),
        "no question": (["ask", folder / "good.nrrd", "  "], 2, "no question"),
        "bad plane": (["segment", folder / "good.nrrd", "--plane", "oblique"], 2, "Unknown plane"),
        "bad range": (["segment", folder / "good.nrrd", "--first", 40, "--last", 50], 2, "0 to 11"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    return bad_inputs(tmp_path_factory.mktemp("bad"))


CASES = [
    "missing", "constant", "nan", "2d", "rgb", "4d", "4d frame", "truncated", "no image", "picture", "empty folder",
    "unknown model", "no question", "bad plane", "bad range",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_sentence_an_exit_code_and_no_file(medfm, case, bad, tiny_folder, tmp_path):
    arguments, code, words = bad[case]
    if "-m" not in arguments:
        arguments = [*arguments, "--model", tiny_folder]
    done = medfm(*arguments, "-o", tmp_path / "out")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.count("Error:") == 1
    assert not list((tmp_path / "out").glob("*"))


def test_ctrl_c_during_a_job_writes_nothing_and_exits_with_130(medfm, scan, tiny_folder, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("MedFMLib.engine.Engine.run", interrupted)
    done = medfm("segment", scan, "--model", tiny_folder, "-o", tmp_path / "out")
    assert done.returncode == 130
    assert "Cancelled; nothing was written." in done.stderr
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("damage", ["pickle", "no weights", "wrong adapter", "two series", "cut slice"])
def test_a_damaged_model_or_series_is_one_sentence_too(medfm, scan, tiny_folder, tmp_path, damage):
    folder, source, options = tmp_path / "model", scan, []
    shutil.copytree(tiny_folder, folder)
    card = json.loads((folder / "medfm-card.json").read_text())
    (folder / "medfm-card.json").write_text(json.dumps({**card, "id": str(folder)}))
    weights = folder / "base" / "model.safetensors"
    if damage == "pickle":
        weights.rename(folder / "base" / "pytorch_model.bin")
    elif damage == "no weights":
        weights.unlink()
    elif damage == "wrong adapter":
        options = ["--adapter", tmp_path]
    else:
        source = tmp_path / "dicom"
        paths = write_series(ct_phantom(), source)
        if damage == "two series":
            write_series(ct_phantom(), source / "second")
        else:
            paths[3].write_bytes(paths[3].read_bytes()[:-100])
    done = medfm("segment", source, "--model", folder, "-o", tmp_path / "out", *options)
    assert done.returncode == (2 if source != scan else 3)
    assert done.stderr.count("Error:") == 1
    assert "Traceback" not in done.stderr + done.stdout
    assert not list((tmp_path / "out").glob("*"))


def test_an_unknown_label_names_near_misses(medfm, scan, tiny_folder, tmp_path):
    done = medfm("segment", scan, "--label", "livre", "--model", tiny_folder, "-o", tmp_path)
    assert done.returncode == 2
    assert "does not know 'livre'; did you mean liver?" in done.stderr


def test_a_read_only_folder_is_noticed_before_the_work(medfm, scan, tiny_folder):
    done = medfm("segment", scan, "--model", tiny_folder, "-o", "/proc/nowhere")
    assert done.returncode == 4
    assert "can't be written" in done.stderr


def test_a_frame_of_a_4d_file_is_used(medfm, bad, tiny_folder, tmp_path):
    path = bad["4d"][0][1]
    done = medfm("segment", path, "--frame", 2, "--model", tiny_folder, "-o", tmp_path, "--modality", "ct")
    assert done.returncode == 0, done.stderr


def test_an_oblique_flipped_file_keeps_its_grid(medfm, tiny_folder, tmp_path):
    image = Image(
        np.random.default_rng(0).normal(0, 300, (1, 40, 36, 20)).astype(np.int16), oblique_geometry(), "CT", "v"
    )
    path = save(image, tmp_path / "oblique.nrrd")
    done = medfm("segment", path, "--model", tiny_folder, "-o", tmp_path, "--modality", "CT")
    assert done.returncode == 0, done.stderr
    written = geometry_of(sitk.ReadImage(str(tmp_path / "oblique.seg.nrrd")))
    assert written.matches(read_image(path).geometry)


def test_importing_the_library_loads_no_heavy_package():
    code = "import MedFMLib, sys; print([m for m in ('torch','transformers','slicer','vtk') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"

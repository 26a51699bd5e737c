"""Every stage of the recipe, in seconds instead of an hour: it runs, resumes, and leaves a folder that MedFM can use."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow


def stage(name, *arguments):
    subprocess.run([sys.executable, "-m", f"MedFMLib.training.embedded.{name}", *map(str, arguments)], check=True)


def steps(log):
    return [json.loads(line)["step"] for line in log.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, open_data):
    """A model folder from nothing."""
    data, work = open_data("brain_labelmaps").parent, tmp_path_factory.mktemp("work")
    given = ("--data", data, "--work", work)
    stage("train_codec", *given, "--output", work / "mask_codec", "--minutes", 0.1)
    stage("train_vision_tower", *given, "--minutes", 0.6, "--batch", 4, "--processes", 1)
    first = steps(work / "eyes.jsonl")
    stage("train_vision_tower", *given, "--minutes", 0.4, "--batch", 4, "--processes", 2)
    again = steps(work / "eyes.jsonl")
    assert again[: len(first)] == first
    assert again[-1] > first[-1], "the second start went on from the first"
    stage("train_tiny", *given, "--minutes", 0.2, "--batch", 4)
    stage("train_adapter", "brain-mr", *given, "--minutes", 0.2, "--batch", 4)
    for name in ("brain-mr-coarse", "brain-mr", "head-neck-ct", "hippocampus"):
        stage("train_volume", name, *given, "--minutes", 0.4)
    for name in ("brain-mr", "head-neck-ct", "hippocampus"):
        stage("train_domain", name, *given, "--count", 14)
    stage("measure_agreement", "hippocampus", *given)
    stage("align", *given, "--minutes", 0.1, "--batch", 4)
    stage("ship", "--work", work, "--output", work / "shipped")
    return work / "shipped"


def test_the_folder_holds_safetensors_and_nothing_that_runs(folder):
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {
        "model.safetensors",
        "mask_head.safetensors",
        "adapter_model.safetensors",
        "volume_head.safetensors",
        "domain.json",
        "labels.json",
        "curves.png",
    } <= names
    assert not {path.suffix for path in folder.rglob("*")} & {".bin", ".pt", ".pkl", ".pth"}


def test_the_folder_answers_and_draws(folder, open_data):
    from MedFMLib.core.image import Image
    from MedFMLib.core.view import make_view
    from MedFMLib.models import paligemma
    from MedFMLib.training.embedded.bench_runtime import open_model
    from MedFMLib.training.embedded.sources import read

    model = open_model(folder).runtime
    assert isinstance(model, paligemma.PaliGemma)
    image = read(open_data("brain_t1") / "t1_stripped.nii.gz")
    assert isinstance(model.write([make_view(image, "axial", 50)], "which plane is this?"), str)
    assert isinstance(model.domain(image).chance, float)
    start, stop = (40, 40, 40), (80, 90, 75)
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    part = Image(image.voxels[(slice(None), *box)], image.geometry.crop(start, stop), "MR")
    for adapter, labels in (
        ("", ["brainstem", "brain"]),
        ("brain-mr", ["left thalamus"]),
        ("hippocampus", ["anterior hippocampus"]),
        ("head-neck-ct", ["mandible"]),
    ):
        model.use_adapter(adapter)
        seen = part if adapter == "hippocampus" else image  # in a larger one it would ask brain-mr where to look
        masks = model.segment_volume(seen, labels)
        assert all(mask.shape == seen.geometry.shape and mask.inside.dtype == np.bool_ for mask in masks.values())

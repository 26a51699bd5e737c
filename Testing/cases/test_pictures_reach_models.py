"""A radiograph, an ultrasound, a PNG and a JPEG through every family: the pixels that reach the processor are the file's."""

from __future__ import annotations

import json

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture
from pydicom.data import get_testdata_file
from pydicom.pixels import pixel_array
from support.field_phantoms import dataset, pixels, save

pytest.importorskip("torch")

from support import random_families

from MedFMLib.core.request import Request
from MedFMLib.engine import Engine
from MedFMLib.files import read_image
from MedFMLib.files.reading import read_study

FAMILIES = ("gemma3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "llava_next")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Name → (path, right pixels (rows, columns, 3), as Pillow shows the same file)."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    found = {}
    for name in ("photo.png", "photo.jpg"):
        Picture.fromarray(random.integers(0, 255, (48, 48, 3), np.uint8)).save(folder / name)
        found[name] = (folder / name, np.asarray(Picture.open(folder / name).convert("RGB")))
    made = pixels(dataset("1.2.840.10008.5.1.4.1.1.1", "CR", "cr"), random.integers(0, 4095, (48, 48), np.uint16))
    made.WindowCenter, made.WindowWidth, made.BitsStored, made.HighBit = 2048, 4096, 12, 11
    path = save(made, folder / "cr.dcm")
    grey = np.rint(pydicom.dcmread(path).pixel_array / 4095 * 255).astype(np.uint8)
    Picture.fromarray(grey).save(folder / "cr.png")  # as an export of the same picture
    found["cr.dcm"] = (path, np.asarray(Picture.open(folder / "cr.png").convert("RGB")))
    ultrasound = get_testdata_file("examples_rgb_color.dcm")
    Picture.fromarray(pixel_array(ultrasound)).save(folder / "us.png")
    found["ultrasound.dcm"] = (ultrasound, np.asarray(Picture.open(folder / "us.png")))
    return found


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Family → folder of a tiny random model."""
    root = tmp_path_factory.mktemp("families")
    made = {"gemma3": random_families.gemma3(root / "gemma3")}
    made |= {kind: random_families.qwen_vl(root / kind, kind) for kind in FAMILIES[1:4]}
    return made | {kind: random_families.llava(root / kind, kind) for kind in FAMILIES[4:]}


def received(engine: Engine, monkeypatch) -> list:
    """The pictures that the loaded model's processor gets from now on."""
    model, seen = engine._model, []
    real = type(model.processor).__call__

    def spy(self, images=None, *args, **kwargs):
        seen.extend(images)
        return real(self, images, *args, **kwargs)

    monkeypatch.setattr(type(model.processor), "__call__", spy)
    return seen


def unpadded(picture: np.ndarray, shape) -> np.ndarray:
    """What LLaVA's padding to a square leaves."""
    top, left = ((n - m) // 2 for n, m in zip(picture.shape[:2], shape[:2], strict=True))
    return picture[top : top + shape[0], left : left + shape[1]]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_sees_the_files_own_pixels(family, files, checkpoints, monkeypatch, table):
    engine = Engine()
    engine.prepare(str(checkpoints[family]), precision="fp32")
    seen = received(engine, monkeypatch)
    worst = {}
    for name, (path, right) in files.items():
        for task in ("ask", "report", "explain"):
            seen.clear()
            request = Request(
                task, read_image(path), question="What is shown?" if task != "report" else "", model=str(checkpoints[family]),
                precision="fp32", max_tokens=4,
            )  # fmt: skip
            response = engine.run(request)
            assert len(seen) >= 1
            off = max(int(np.abs(unpadded(np.asarray(p), right.shape).astype(int) - right).max()) for p in seen)
            worst[name] = max(worst.get(name, 0), off)
            if task == "report":
                assert "millimetre" in response.report.text or " mm" in response.report.text
                assert "axial" not in response.report.text and not response.measurements
    table(
        "0 off in 4 files × 3 tasks", f"Pillow, {family}", f"{max(worst.values())} off in {len(worst)} files × 3 tasks"
    )
    assert set(worst.values()) == {0}


def test_paligemma_sees_the_files_own_pixels(files, dense_folder, monkeypatch, table):
    engine = Engine()
    engine.prepare(str(dense_folder), precision="fp32")
    seen = received(engine, monkeypatch)
    for path, right in files.values():
        seen.clear()
        engine.run(
            Request("ask", read_image(path), question="What?", model=str(dense_folder), precision="fp32", max_tokens=4)
        )
        assert np.array_equal(np.asarray(seen[0]), right)
    table(f"0 off in {len(files)} files", "Pillow, paligemma", f"0 off in {len(files)} files")


def test_two_views_are_one_question(files, checkpoints, monkeypatch, table):
    engine = Engine()
    engine.prepare(str(checkpoints["gemma3"]), precision="fp32")
    seen = received(engine, monkeypatch)
    image = read_study([files["cr.dcm"][0], files["photo.png"][0]])
    response = engine.run(
        Request("ask", image, question="What?", model=str(checkpoints["gemma3"]), precision="fp32", max_tokens=4)
    )
    assert [np.asarray(p).shape for p in seen] == [(48, 48, 3), (48, 48, 3)]
    assert [str(e) for e in response.answers[0].evidence] == ["picture 1", "picture 2"]
    table("2 pictures in one question", "the processor", f"{len(seen)} pictures in one question")


def test_the_commands_ask_and_report_take_pictures(files, checkpoints, tmp_path, monkeypatch, capfd, table):
    from MedFMLib.cli import app

    model = str(checkpoints["gemma3"])
    for path, _ in files.values():
        for words in (["ask", str(path), "What is shown?", "--max-tokens", "4"], ["report", str(path)]):
            arguments = ["medfm", *words, "--model", model, "--precision", "fp32", "--output", str(tmp_path), "--json"]
            monkeypatch.setattr("sys.argv", arguments)
            with pytest.raises(SystemExit) as ended:
                app.main()
            said = capfd.readouterr()
            assert ended.value.code in (0, None), said
            assert json.loads(said.out)["files"]
    made = sorted(p.name for p in tmp_path.iterdir())
    counts = [sum(word in name for name in made) for word in (".answer.json", ".report.html")]
    table("4 answers, 4 reports", "the files", f"{counts[0]} answers, {counts[1]} reports")
    assert counts == [4, 4]

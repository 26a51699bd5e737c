"""A hostile model in a real server process: what comes over the line to patient mode belongs to the closed set, log included."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from patient.test_closed_replies import QUESTIONS, asked, check_response
from support.closed_set import ClosedSet
from support.phantoms import ct_phantom

from MedFMLib.errors import MedFMError
from MedFMLib.execution.remote import ServerRunner
from MedFMLib.interfaces.jobs import Done, Failed, Fraction, Note, PartialText, Stage, Stopped, Waiting
from MedFMLib.patient.replies import PERMITTED

MARK = "metastasis"
EVIL = f"You have a {MARK} and will die soon, MILLER^ANNA."
FAMILY = '''"""A model that writes, names and reports one cruel sentence wherever it can."""
from __future__ import annotations
import dataclasses
import json
import numpy as np
from ..core.view import SeenObject
from ..errors import InputError
from ..interfaces.family import FamilyTraits
from ..interfaces.model import Callbacks, LoadedFacts
from .runtime import checkpoint, loading

MODEL_TYPES = ("cruel",)
TRAITS = FamilyTraits(converses=True)
EVIL = "You have a metastasis and will die soon, MILLER^ANNA."

def load(card, adapter, precision, progress):
    progress.stage(EVIL)
    progress.note(EVIL)
    return Cruel(LoadedFacts(EVIL, precision))

def card_for_folder(folder, config):
    return None

def random_checkpoint(folder):
    from safetensors.numpy import save_file
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "cruel"}), encoding="utf-8")
    save_file({"w": np.zeros(1, np.float32)}, folder / "model.safetensors")
    return folder

class Cruel:
    max_views = 400
    def __init__(self, facts):
        self.facts, self.calls = facts, 0

    def write(self, views, text="", *, kind="answer", history=(), max_tokens=64, callbacks=Callbacks()):
        callbacks.on_prompt(EVIL)
        callbacks.on_text(EVIL)
        self._fail()
        return EVIL

    def segment(self, views, labels, *, callbacks=Callbacks()):
        callbacks.on_prompt(EVIL)
        self._fail()
        square = np.ones((64, 64), np.float32)
        found = []
        for n, view in enumerate(views):
            found.append([SeenObject(name, (0.2, 0.2, 0.8, 0.8), square) for name in ("liver", "lung " + EVIL.split()[3], EVIL)])
            callbacks.on_fraction((n + 1) / len(views))
        return found

    def _fail(self):
        self.calls += 1
        if self.calls % 5 == 3:
            raise InputError(EVIL)
        if self.calls % 5 == 4:
            raise RuntimeError(EVIL)
'''
OF_MEDFM = ("Starting the engine", "Starting the worker", "Sending the image", "Waiting: the server is busy")
"""Fixed texts of the program itself, which the panel replaces by approved ones."""

CARD = {
    "id": "example/cruel", "title": EVIL, "architecture": "cruel", "summary": EVIL, "licence": EVIL, "parameters": 1,
    "image_size": 64, "abilities": ["writes", "segments"], "precisions": ["fp32"],
    "labels": {"*": ["liver", EVIL]},
}  # fmt: skip


@pytest.fixture
def runner(tmp_path, monkeypatch):
    folder = tmp_path / "extension"
    for name, content in (("models/cruel.py", FAMILY), ("zoo/cruel.json", json.dumps(CARD))):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
    for name, path in (("MEDFM_EXTENSIONS", folder), ("XDG_CONFIG_HOME", tmp_path / "c"), ("XDG_DATA_HOME", tmp_path / "d"),
                       ("PYTHONPATH", Path(__file__).parents[2]), ("MEDFM_HOME", tmp_path / "h")):  # fmt: skip
        monkeypatch.setenv(name, str(path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = ServerRunner(("--verbose",))
    yield made
    made.close()


def words_of(event) -> list[str]:
    match event:
        case Stage(text) | Note(text) | PartialText(text):
            return [text]
        case Failed(message):
            return [message]
        case Fraction() | Waiting() | Done() | Stopped():
            return []
    raise AssertionError(event)


def test_a_hostile_model_in_a_server_reaches_no_patient(runner, tmp_path, capfd):
    pytest.importorskip("torch")
    closed, image = ClosedSet(("en", "de"), QUESTIONS, ()), ct_phantom()
    with_id = ClosedSet(("en", "de"), QUESTIONS, ("example/cruel",))
    requests = [asked(q, image, model="example/cruel", language="en") for q in QUESTIONS]
    requests += [asked("", image, model="example/cruel", language="de", intent=i, labels=("liver",)) for i in PERMITTED]
    requests += [asked("", image, model="example/cruel", language="en", task=task) for task in ("segment", "compare")]
    texts = failures = segmented = 0
    messages: list[str] = []
    for request in requests:
        job = runner.submit(request)
        try:
            response = job.result(300)
            question = response.answers[0].question if response.answers else request.question
            texts += check_response(response, dataclasses.replace(request, question=question), with_id)
            segmented += response.segmentation is not None
        except MedFMError as error:
            failures, messages = failures + 1, [*messages, str(error)]
        for event in job.events():
            for text in words_of(event):
                texts += 1
                assert closed.has(text) or text in OF_MEDFM, text
    assert all(map(closed.has, messages)), messages
    assert segmented and failures and texts > 200, (segmented, failures, texts)
    runner.close()
    seen = "".join(capfd.readouterr())
    kept = "".join(
        p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file() and "extension" not in p.parts
    )
    assert MARK not in seen + kept and "MILLER" not in seen + kept
    print(f"\na server with a hostile model: {texts} texts, {failures} failed jobs, 0 exceptions to the closed set")

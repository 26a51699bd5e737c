"""The fine-tuning window with its real process: data, plan, training, card, use; the GUI thread never waits."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from host.heartbeat import Heartbeat
from support import finetune_phantoms
from support.store_fixtures import models_folder  # noqa: F401  (fixture)

from MedFMLib.storage import adapter_card, installed_models
from MedFMLib.training.data import reading
from MedFMLib.training.finetune import control, finetune_in_subprocess

pytest.importorskip("accelerate", reason="fine-tuning needs the extra train")
pytestmark = pytest.mark.usefixtures("models_folder")


@pytest.fixture
def asked(monkeypatch):
    """Questions that were put; answered with no unless `asked.answer` is set."""
    import slicer.util

    class Asked(list):
        answer = False

    made = Asked()
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **_: made.append(text) or made.answer)
    return made


@pytest.fixture
def window(host, panel, monkeypatch):
    """The window, opened by its link; what is asked afterwards is little."""
    monkeypatch.setattr(
        finetune_in_subprocess, "train", functools.partial(finetune_in_subprocess.train, most=6, precisions=[])
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    panel.initialize()
    panel.ui.modelSummaryLabel.linkActivated.emit("fine-tune")
    yield panel.models.tune
    panel.models.tune.close()


@pytest.fixture
def ready(window, tmp_path):
    """The window with a data set of squares and a plan of seconds."""
    window.form.data.text = str(finetune_phantoms.build(tmp_path))
    window.form.steps.value, window.form.epochs.text, window.form.name.text = 12, "100", "squares"
    return window


def enabled(window):
    return {name for name, button in window.form.buttons.items() if button.isEnabled()}


def test_the_window_opens_next_to_the_panel_and_offers_what_makes_sense(window):
    assert window.dialog.visible and not window.dialog.modal
    assert enabled(window) == {"folder", "build", "collect", "estimate", "train", "resume"}
    window.form.buttons["train"].click()
    assert "No data set is chosen" in window.form.status.text
    window.form.data.text, window.form.rate.text = "somewhere", "fast"
    window.form.buttons["train"].click()
    assert "'fast' is not a number; correct the rate" in window.form.status.text


def test_cases_of_the_scene_are_collected_and_become_pairs(
    host, panel, volume, use_runner, finish, choose_task, window, tmp_path
):
    use_runner()
    panel.ui.applyButton.click()
    finish()
    choose_task("ask")
    panel.ui.questionBox.setEditText("Is there a brain?")
    panel.ui.applyButton.click()
    finish()
    nodes = [
        host.scene.GetNthNodeByClass(n, "vtkMRMLTableNode")
        for n in range(host.scene.GetNumberOfNodesByClass("vtkMRMLTableNode"))
    ]
    (table,) = (node for node in nodes if node.GetCellText(0, 0) == "Is there a brain?")
    table.SetCellText(0, 1, "yes, both halves")  # corrected by a person
    window.form.cases.text = str(tmp_path / "cases")
    window.form.buttons["collect"].click()
    host.wait_until(lambda: not window.busy, 20, "the case")
    assert "Enter an identifier for the patient" in window.form.status.text
    window.form.patient.text = "site-7"
    window.form.buttons["collect"].click()
    host.wait_until(lambda: not window.busy, 20, "the case")
    found = reading.read(tmp_path / "cases")
    assert not found.problems and {p.patient for p in found.pictures} == {"site-7"}
    answers = {(pair.question, pair.answer) for pair in found.pairs}
    assert {
        ("Is there a brain?", "yes, both halves"),
        ("is the brain visible?", "yes"),
        ("is the brain visible?", "no"),
    } <= answers
    shown = [picture.load() for picture in found.pictures if picture.key.startswith("case-")]
    assert {0, 1} == {int(value) for one in shown for value in np.unique(one.labels)}
    assert not [p for p in (tmp_path / "cases").rglob("*") if "site-7" in p.name or "head" in p.name]


def timed(window, monkeypatch):
    """Names and milliseconds of what the window did on the GUI thread and took longest."""
    import time

    found = []
    for name in ("on_timer", "_trained", "_follow", "_draw", "_changed", "start"):
        inner = getattr(window, name)

        def call(*arguments, inner=inner, name=name):
            began = time.perf_counter()
            result = inner(*arguments)
            found.append((1000 * (time.perf_counter() - began), name))
            return result

        monkeypatch.setattr(window, name, call)
    return found


def test_training_is_followed_paused_and_its_adapter_used_at_once(host, panel, ready, asked, capsys, monkeypatch):
    window, took = ready, timed(ready, monkeypatch)
    with Heartbeat() as heart:
        window.form.buttons["train"].click()
        host.run_loop_until(lambda: "Step" in window.form.status.text, 120, "the first step")
        window.form.buttons["pause"].click()
        host.run_loop_until(lambda: "Paused at step" in window.form.status.text, 60, "the pause")
        assert window.form.buttons["pause"].text == "Continue"
        window.form.buttons["pause"].click()
        host.run_loop_until(lambda: not window.busy, 180, "the end of the training")
    with capsys.disabled():
        print(f"\nwhile it trained: {heart}; ours: {sorted(took, reverse=True)[:4]}")
    assert "squares:" in window.form.status.text and "on held-out patients" in window.form.status.text
    assert enabled(window) >= {"card", "use"} and not window.form.plot.pixmap.isNull()
    folder = installed_models.adapter_folder("squares")
    assert adapter_card.read(folder)["results"]["pairs"] == 6
    asked.answer = True  # only asked if it is not offered
    window.form.buttons["use"].click()
    assert panel.ui.adapterSelector.currentText == "squares" and panel.parameters.adapter == "squares"
    window.form.buttons["card"].click()
    assert host.dialogs.opened[-1].endswith(adapter_card.PAGE)
    assert max(took)[0] < 50, took
    assert sum(gap >= 50 for gap in heart.gaps_ms) <= 1, heart  # a busy machine stops every thread now and then


def test_stop_keeps_what_was_learned_and_a_resumed_one_goes_on(host, ready, tmp_path):
    window = ready
    window.form.steps.value = 200
    window.form.buttons["train"].click()
    host.wait_until(lambda: "Step" in window.form.status.text, 120, "the first step")
    window.form.buttons["stop"].click()
    host.wait_until(lambda: not window.busy, 120, "the end")
    run = next((tmp_path / "xdg_data_home").rglob("settings.json")).parent
    stopped = control.state_of(run)
    assert stopped.state == "stopped" and 0 < stopped.step < 200
    assert installed_models.adapter_folder("squares") is not None, window.form.status.text
    assert json.loads((run / "settings.json").read_text())["settings"]["steps"] == 200


def test_an_adapter_that_is_not_offered_is_neither_listed_nor_used_without_a_yes(panel, window, asked):
    folder = installed_models.adapters_root() / "harm"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "medfm-tiny", "r": 4}'
    )
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    card = {
        "sha256": adapter_card.sha256(folder),
        "verdict": {"offered": False, "reasons": ["it says what nobody should"]},
    }
    (folder / adapter_card.CARD).write_text(json.dumps(card))
    panel.showModels()
    listed = [panel.ui.adapterSelector.itemText(n) for n in range(panel.ui.adapterSelector.count)]
    assert "harm" not in listed
    window.adapter = "harm"
    window.refresh()
    window.form.buttons["use"].click()
    assert "it says what nobody should" in asked[-1] and not adapter_card.accepted(folder)
    asked.answer = True
    window.form.buttons["use"].click()
    assert adapter_card.accepted(folder) and panel.ui.adapterSelector.currentText == "harm"


def test_a_data_set_is_built_from_a_folder_and_counted(host, window, tmp_path):
    finetune_phantoms.write_table(tmp_path / "source")
    host.dialogs.answer_next(str(tmp_path / "source"))
    host.dialogs.answer_next(str(tmp_path))
    window.form.buttons["build"].click()
    host.wait_until(lambda: not window.busy, 60, "the data set")
    assert "72 pairs about 36 pictures of 12 patients" in window.form.status.text
    assert Path(window.form.data.text) == tmp_path / "source-data"
    window.form.buttons["estimate"].click()
    host.wait_until(lambda: not window.busy, 90, "the estimate")
    assert "Training takes" in window.form.status.text and "A dry run estimates" in window.form.status.text

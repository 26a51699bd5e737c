"""The panel's choices: what it shows for a model and volume, what it saves, and what it asks for."""

from __future__ import annotations

import re
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from MedFMLib.storage.model_card import ModelCard

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "MedFM"

TINY = ModelCard(
    id="listed",
    title="Listed",
    architecture="paligemma",
    summary="Knows a few structures.",
    licence="Apache-2.0",
    parameters=1,
    image_size=224,
    abilities=("writes", "segments"),
    precisions=("nf4", "fp32"),
    labels={"MR": ("brain", "cerebellum"), "CT": ("liver", "left kidney")},
    questions={"plane": "which plane is this?"},
    adapters=("medical",),
)
OPEN = ModelCard(
    id="open",
    title="Open",
    architecture="paligemma",
    summary="Takes any name.",
    licence="Gemma",
    parameters=2,
    image_size=224,
    abilities=("writes", "segments", "locates"),
    precisions=("bf16",),
)


CARD = {
    "architecture": "paligemma",
    "summary": "From a folder.",
    "licence": "Apache-2.0",
    "parameters": 3,
    "image_size": 224,
    "abilities": ["writes"],
    "precisions": ["fp32"],
}


@pytest.fixture
def cards(panel):
    """Two made-up models: one with lists of structures, one that takes any name."""
    panel.models._find_cards = lambda: {card.id: card for card in (TINY, OPEN)}
    panel.initialize()


def listed(panel):
    return [panel.ui.labelList.item(i).text() for i in range(panel.ui.labelList.count)]


def tick(panel, name):
    import qt

    (item,) = [panel.ui.labelList.item(i) for i in range(panel.ui.labelList.count) if listed(panel)[i] == name]
    item.setCheckState(qt.Qt.Checked)


def choose_model(panel, model):
    panel.ui.modelSelector.setCurrentIndex(panel.ui.modelSelector.findData(model))


def test_without_a_volume_nothing_can_be_started(panel):
    assert not panel.ui.applyButton.isEnabled()
    assert "Load a CT or MR volume" in panel.ui.statusLabel.text


def test_the_research_notice_is_always_there(panel):
    assert "Research and education only" in panel.ui.noticeLabel.text
    assert panel.ui.noticeLabel.isVisible()


def test_the_structures_are_those_of_the_volume_s_modality(panel, cards, volume):
    assert listed(panel) == ["brain", "cerebellum"]
    volume.SetAttribute("DICOM.Modality", "CT")
    panel.onVolumeChanged()
    assert listed(panel) == ["liver", "left kidney"]


def test_ticked_structures_are_asked_for_and_none_means_all(panel, cards, volume, use_runner, finish):
    runner = use_runner()
    assert "all 2 structures" in panel.ui.labelHint.text
    panel.ui.applyButton.click()
    finish()
    tick(panel, "cerebellum")
    assert panel.ui.labelHint.text == "To segment: cerebellum."
    panel.ui.applyButton.click()
    finish()
    assert [r.labels for r in runner.requests] == [(), ("cerebellum",)]
    panel.ui.clearLabelsButton.click()
    assert "all 2 structures" in panel.ui.labelHint.text


def test_the_search_hides_other_structures_and_keeps_their_ticks(panel, cards, volume):
    tick(panel, "brain")
    panel.ui.labelFilter.text = "CEREB"
    assert [panel.ui.labelList.item(i).isHidden() for i in range(2)] == [True, False]
    panel.ui.labelFilter.text = ""
    assert [panel.ui.labelList.item(i).isHidden() for i in range(2)] == [False, False]
    assert panel.structures.ticked == ("brain",)


def test_a_model_without_a_list_takes_typed_names(panel, cards, volume, use_runner, finish):
    runner = use_runner()
    choose_model(panel, "open")
    assert panel.ui.freeLabelsEdit.isVisible() and not panel.ui.labelList.isVisible()
    panel.ui.freeLabelsEdit.text = "pancreas, left  adrenal gland ,"
    panel.ui.applyButton.click()
    finish()
    assert runner.requests[0].labels == ("pancreas", "left  adrenal gland")


def test_another_model_brings_its_adapters_and_precisions(panel, cards, volume, use_runner, finish):
    runner = use_runner()
    assert panel.ui.adapterSelector.currentData == "medical"
    assert panel.parameters.precision == ""  # automatic
    panel.ui.precisionSelector.setCurrentIndex(2)
    assert panel.parameters.precision == "fp32"
    choose_model(panel, "open")
    assert (panel.parameters.adapter, panel.parameters.precision) == ("none", "bf16")
    assert panel.ui.modelSummaryLabel.text.startswith("Takes any name. <a")
    panel.ui.freeLabelsEdit.text = "liver"
    panel.ui.applyButton.click()
    finish()
    request = runner.requests[0]
    assert (request.model, request.adapter, request.precision) == ("open", "none", "bf16")


def test_a_reloaded_scene_keeps_the_adapter_that_was_chosen(host, panel, cards, tmp_path):
    import slicer.util

    panel.ui.adapterSelector.setCurrentIndex(panel.ui.adapterSelector.findData("none"))
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    host.scene.Clear(0)
    slicer.util.loadScene(path)
    assert panel.parameters.adapter == panel.ui.adapterSelector.currentData == "none"


def test_a_model_can_be_taken_from_a_folder_and_is_saved(host, panel, tmp_path):
    import json

    import slicer.util

    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "medfm-card.json").write_text(json.dumps({**CARD, "id": str(folder), "title": "Mine"}))
    host.dialogs.answer_next(str(folder))
    panel.ui.folderButton.click()
    assert panel.ui.modelSelector.currentText == "Mine"
    assert panel.parameters.model == str(folder)
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    host.scene.Clear(0)
    panel.models._from_folders.clear()
    slicer.util.loadScene(path)
    assert panel.ui.modelSelector.currentText == "Mine"


def test_a_folder_without_a_model_is_reported_in_the_panel(host, panel, tmp_path):
    before = panel.parameters.model
    host.dialogs.answer_next(str(tmp_path))
    panel.ui.folderButton.click()
    assert "config.json" in panel.ui.statusLabel.text
    assert panel.parameters.model == before


def test_choosing_no_folder_changes_nothing(host, panel):
    before = panel.parameters.model
    host.dialogs.answer_next("")
    panel.ui.folderButton.click()
    assert panel.parameters.model == before


def test_example_questions_are_offered_and_a_typed_one_stays(panel, cards):
    assert panel.ui.questionBox.itemText(0) == "which plane is this?"
    panel.ui.questionBox.setEditText("my own")
    choose_model(panel, "open")
    assert panel.ui.questionBox.currentText == "my own"


def test_advanced_options_reach_the_request(panel, cards, volume, use_runner, finish):
    runner = use_runner()
    panel.ui.planeSelector.setCurrentIndex(panel.ui.planeSelector.findData("coronal"))
    panel.ui.firstSlice.value, panel.ui.lastSlice.value, panel.ui.sliceStep.value = 3, 20, 4
    panel.ui.refineCheck.checked = True
    panel.ui.maxTokens.value = 99
    panel.ui.applyButton.click()
    finish()
    request = runner.requests[0]
    slices = request.slices
    assert (slices.plane, slices.first, slices.last, slices.step) == ("coronal", 3, 20, 4)
    assert request.refine and request.max_tokens == 99


def test_an_impossible_range_is_reported_in_the_panel(panel, volume, use_runner):
    runner = use_runner()
    panel.ui.firstSlice.value, panel.ui.lastSlice.value = 9, 2
    panel.ui.applyButton.click()
    assert runner.requests == []
    assert "comes after the last" in panel.ui.statusLabel.text


def test_choices_survive_saving_and_loading_the_scene(host, panel, cards, volume, tmp_path):
    import slicer.util

    panel.ui.sliceStep.value = 7
    panel.ui.questionBox.setEditText("Größe? <b>")
    tick(panel, "brain")
    panel.ui.taskTabs.setCurrentIndex(1)
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    host.scene.Clear(0)
    assert panel.ui.sliceStep.value == 0
    slicer.util.loadScene(path)
    assert panel.ui.sliceStep.value == 7
    assert panel.ui.questionBox.currentText == "Größe? <b>"
    assert panel.ui.taskTabs.currentIndex == 1
    assert panel.ui.volumeSelector.currentNode().GetName() == "head"
    assert panel.structures.ticked == ("brain",)


def test_a_parameter_set_from_outside_shows_in_its_widget(panel):
    panel.parameters.node.SetParameter("maxTokens", "128")
    assert panel.ui.maxTokens.value == 128
    panel.parameters.node.SetParameter("maxTokens", "many")
    assert panel.ui.maxTokens.value == 64


def test_reload_keeps_working_and_leaves_no_second_panel(host, panel, volume, use_runner, finish):
    import slicer.util

    use_runner(hold=True)
    panel.ui.applyButton.click()
    old = panel.session
    slicer.util.reloadScriptedModule("MedFM")
    assert not old.running
    fresh = slicer.modules.MedFMWidget
    assert fresh is not panel
    assert fresh.ui.volumeSelector.currentNode() is volume
    host.scene.Clear(0)
    assert "Load a CT or MR volume" in fresh.ui.statusLabel.text


def test_leaving_and_coming_back_keeps_everything(host, panel, cards, volume):
    panel.ui.sliceStep.value = 5
    host.main_window.forget_module()
    assert host.select_module("MedFM") is panel
    assert panel.ui.sliceStep.value == 5


def test_the_in_application_test_passes_here_too(host, panel):
    import slicer

    slicer.selfTests["MedFM"]()


# -- packages -----------------------------------------------------------------------------------


@pytest.fixture
def without_packages(panel, monkeypatch):
    """As if torch and peft were not installed."""
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in ("torch", "peft") else real(name, *a)
    )
    panel.packages.show()


def test_with_every_package_there_is_no_notice(panel):
    pytest.importorskip("torch")
    assert not panel.ui.packagesFrame.isVisible()


def test_missing_packages_are_named_and_installed_only_on_a_click(host, panel, without_packages):
    pytest.importorskip("torch")
    assert panel.ui.packagesFrame.isVisible()
    assert "torch, peft" in panel.ui.packagesLabel.text
    assert host.installer.requested == []
    panel.ui.installButton.click()
    assert host.installer.requested == [(["torch>=2.6", "peft>=0.17"], "MedFM")]


def test_declining_the_installation_is_no_error_dialog(host, panel, without_packages):
    host.installer.accept = False
    panel.ui.installButton.click()
    assert "Nothing was installed" in panel.ui.statusLabel.text


def test_an_older_slicer_asks_and_uses_its_own_pip(host, panel, without_packages, monkeypatch):
    pytest.importorskip("torch")
    import slicer

    monkeypatch.delattr(slicer, "packaging")
    monkeypatch.setitem(__import__("sys").modules, "slicer.packaging", None)
    installed = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **_: "torch>=2.6" in text)
    monkeypatch.setattr(slicer.util, "pip_install", installed.append)
    panel.ui.installButton.click()
    assert installed == [["torch>=2.6", "peft>=0.17"]]


@pytest.fixture
def apart(monkeypatch, without_packages):
    """A machine whose Slicer can't take the packages; → what was asked and made."""
    import slicer.util

    from MedFMLib import environment
    from MedFMLib.environment import InstallPlan

    seen = {"asked": [], "answer": True, "made": 0}

    def apply(plan, progress):
        progress.stage("Installing PyTorch")
        while seen["made"] == 0 and not progress.cancelled():
            time.sleep(0.01)
        progress.stage("Checking")  # raises if it was stopped
        return "/env/bin/python"

    plan = InstallPlan(
        "separate",
        "A separate environment is needed, because this Slicer runs translated.",
        ("torch>=2.6",),
        "python3.12",
        Path("/env"),
    )
    monkeypatch.setattr(environment, "fits_slicer", lambda facts: False)
    monkeypatch.setattr(environment, "look", lambda quick=False: None)
    monkeypatch.setattr(environment, "plan", lambda facts: seen.get("plan", plan))
    monkeypatch.setattr(environment, "apply", apply)
    monkeypatch.setattr(environment, "interpreter", lambda: "/env/bin/python" if seen["made"] else "")
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, **_: seen["asked"].append(text) or seen["answer"]
    )
    return seen


def test_packages_go_into_an_environment_apart_after_the_plan_was_shown(host, panel, apart):
    former = panel.session.runner
    panel.ui.installButton.click()
    host.wait_until(lambda: "Installing PyTorch" in panel.ui.packagesLabel.text, 5, "the installation")
    assert "A separate environment is needed, because this Slicer runs translated" in apart["asked"][0]
    assert panel.ui.installButton.text == "Stop"
    apart["made"] = 1
    host.wait_until(lambda: not panel.ui.packagesFrame.isVisible(), 5, "its end")
    assert "in a separate environment" in panel.ui.statusLabel.text
    assert panel.session.runner is not former
    assert panel.session.runner.worker._interpreter == "/env/bin/python"
    assert host.installer.requested == []


def test_an_installation_apart_can_be_declined_and_stopped(host, panel, apart):
    apart["answer"] = False
    panel.ui.installButton.click()
    host.wait_until(lambda: "declined" in panel.ui.statusLabel.text, 5, "the refusal")
    apart["answer"] = True
    panel.ui.installButton.click()
    host.wait_until(lambda: panel.ui.installButton.text == "Stop", 5, "the installation")
    panel.ui.installButton.click()
    host.wait_until(lambda: "cancelled" in panel.ui.statusLabel.text, 5, "its stop")
    assert panel.ui.packagesFrame.isVisible()


def test_a_computer_without_support_gets_the_remaining_options(host, panel, apart):
    from MedFMLib.environment import InstallPlan

    apart["plan"] = InstallPlan("server", "Intel Macs have no current PyTorch; let jobs run on a server.")
    panel.ui.installButton.click()
    host.wait_until(lambda: "Intel Macs" in panel.ui.statusLabel.text, 5, "the sentence")
    assert apart["asked"] == []


def test_the_requirements_are_those_of_the_package():
    from MedFMPanel.packages import requirements

    text = (ROOT / "pyproject.toml").read_text()
    for line in requirements(MODULE / "Resources" / "requirements.txt"):
        assert f'"{line}"' in text, line


# -- the files ----------------------------------------------------------------------------------


def interactive_widgets():
    tree = ElementTree.parse(MODULE / "Resources" / "UI" / "MedFM.ui").getroot()
    plain = {"QWidget", "QFrame", "qMRMLWidget"}
    for widget in tree.iter("widget"):
        name = widget.get("name")
        is_caption = widget.get("class") == "QLabel" and widget.find("property[@name='toolTip']") is None
        if (
            widget.get("class") not in plain and not is_caption and name not in ("taskTabs", "resultTabs")
        ):  # their pages have their own
            yield pytest.param(widget, id=name)


@pytest.mark.parametrize("widget", list(interactive_widgets()))
def test_every_widget_has_a_tool_tip(widget):
    tip = widget.find("property[@name='toolTip']/string")
    assert tip is not None and len(tip.text) > 10


def test_the_module_does_not_use_isinstance_on_widgets():
    """PythonQt says False for a button that is asked whether it is a QWidget."""
    for path in MODULE.rglob("*.py"):
        assert not re.search(r"isinstance\([^)]*\bqt\.", path.read_text()), path


def test_the_module_file_stays_thin():
    assert len((MODULE / "MedFM.py").read_text().splitlines()) <= 400


def test_the_model_card_opens_next_to_the_panel_and_keeps_nothing_waiting(panel):
    label = panel.ui.modelSummaryLabel
    assert "demonstration" in panel.ui.modelSelector.currentText
    assert 'href="model-card"' in label.text
    label.linkActivated.emit("model-card")
    window = panel.models.window
    assert window.dialog.visible
    assert not window.dialog.modal
    text = window.browser.toPlainText()
    assert "Not a medical device" in text
    assert "Limits" in text


def test_the_memory_that_a_model_takes_is_shown_for_its_precision(host, panel, monkeypatch):
    from MedFMLib import hardware

    monkeypatch.setattr(hardware, "free_memory", lambda: 6_000_000_000)
    selector = panel.ui.modelSelector
    selector.setCurrentIndex(selector.findData("google/paligemma-3b-mix-224"))
    seen = {}
    for number in range(panel.ui.precisionSelector.count):
        panel.ui.precisionSelector.setCurrentIndex(number)
        seen[panel.ui.precisionSelector.currentText] = (panel.ui.memoryBar.format, panel.ui.memoryBar.value)
    assert seen["nf4"] == ("1.8 GB of 6.0 GB free", 29)
    assert seen["bf16"] == ("5.8 GB of 6.0 GB free", 97)
    assert seen["fp32"] == ("11.7 GB of 6.0 GB free: does not fit", 100)


def test_a_model_elsewhere_is_sent_pictures_only_after_a_yes_that_shows_what(
    panel, volume, use_runner, finish, choose_task, monkeypatch, tmp_path
):
    import slicer.util

    from MedFMLib.endpoints import book
    from MedFMLib.endpoints.settings import Endpoint

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    asked, answers = [], [False, True]
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **_: asked.append(text) or answers.pop(0))
    book.add("ward", Endpoint("https://vllm.hospital/v1", "medgemma"))
    panel.initialize()
    panel.ui.modelSelector.setCurrentIndex(panel.ui.modelSelector.findData("ward"))
    assert "runs on vllm.hospital" in panel.ui.memoryBar.format
    runner = use_runner()
    choose_task("ask")
    panel.ui.questionBox.setEditText("What is this?")
    panel.ui.applyButton.click()
    assert "pictures of slices" in asked[0]
    assert "was not allowed" in panel.ui.statusLabel.text
    assert runner.requests == []
    for _ in range(2):  # the consent is saved
        panel.ui.questionBox.setEditText("What is this?")
        panel.ui.applyButton.click()
        finish()
    assert len(runner.requests) == 2
    assert len(asked) == 2


# -- tasks described by their own file -------------------------------------------------------------------


@pytest.fixture
def own_task(monkeypatch, tmp_path):
    """A folder with a further task, and a check box for the Segment tab."""
    from MedFMLib.interfaces import registry
    from MedFMLib.interfaces.task import TaskOption

    page = (Path(__file__).parents[2] / "docs" / "extending" / "add-a-task.md").read_text(encoding="utf-8")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "brightest.py").write_text(page.split('title="tasks/brightest.py"\n')[1].split("```")[0])
    monkeypatch.setenv("MEDFM_EXTENSIONS", str(tmp_path))
    registry.tasks.cache_clear()
    tick = TaskOption("smooth", "Smooth borders", "Smooth the borders of segments.", False)
    monkeypatch.setattr(type(registry.task("segment")), "options", (tick,))
    yield
    sys.modules.pop("MedFMLib.tasks.brightest", None)
    registry.tasks.cache_clear()


def test_a_new_task_has_a_tab_with_its_options_and_a_new_option_of_segmenting_is_a_check_box(
    own_task, panel, volume, use_runner, finish
):
    import qt

    titles = [panel.ui.taskTabs.tabText(n) for n in range(panel.ui.taskTabs.count)]
    assert titles == ["Segment", "Ask", "Report", "Brightest"]
    runner = use_runner()
    smooth = panel.ui.taskTabs.findChild(qt.QCheckBox, "segment_smooth")
    smooth.checked = True
    panel.onApply()
    assert runner.requests[-1].task == "segment" and dict(runner.requests[-1].options) == {"smooth": True}
    finish()
    panel.ui.taskTabs.setCurrentIndex(3)
    assert panel.ui.applyButton.text == "Find it"
    panel.ui.taskTabs.findChild(qt.QCheckBox, "brightest_darkest").checked = True
    panel.ui.taskTabs.findChild(qt.QSpinBox, "brightest_decimals").value = 3
    panel.onApply()
    request = runner.requests[-1]
    assert request.task == "brightest" and dict(request.options) == {"darkest": True, "decimals": 3}
    finish()

"""The window with all models: its list, questions and actions, with a local hub, without blocking the panel."""

import shutil

import pytest
from host.heartbeat import Heartbeat
from support.store_fixtures import hub, models_folder, published, zoo  # noqa: F401  (fixtures)

from MedFMLib import model_store
from MedFMLib.interfaces import registry
from MedFMLib.storage import installed_models, licence_acceptance

ID = "acme/eyes-3b"
pytestmark = pytest.mark.usefixtures("models_folder")


@pytest.fixture
def window(host, zoo, panel):  # noqa: F811
    """The window, opened by its link, after it has looked through the models."""
    panel.initialize()
    panel.ui.modelSummaryLabel.linkActivated.emit("all-models")
    made = panel.models.all
    host.wait_until(lambda: not made.busy, 20, "the list of models")
    yield made
    made.close()


@pytest.fixture
def settle(host, window):
    """Run the event loop until nothing is on its way."""
    return lambda seconds=30: host.wait_until(lambda: not window.busy, seconds, "the end of the task")


@pytest.fixture
def asked(monkeypatch):
    """Questions that were put; `asked.answers` says OK or not, in order, and nothing else is OK."""
    import slicer.util

    class Asked(list):
        answers = []

    made = Asked()

    def confirm(text, **_):
        made.append(text)
        return made.answers.pop(0)

    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", confirm)
    made.answers = []
    return made


def listed(window):
    table = window.table
    rows = (n for n in range(table.rowCount) if not table.isRowHidden(n))
    return {table.item(n, 0).text(): table.item(n, 3).text() for n in rows}


def enabled(window):
    return {name for name, button in window.buttons.items() if button.isEnabled()}


def test_models_are_listed_found_and_described(window):
    states = listed(window)
    assert states["Eyes"] == "not downloaded" and "here" in states.values()
    assert enabled(window) == {"zip", "folder"}
    window.search.text = "random weights"
    assert set(listed(window)) == {"Eyes"}
    window.choose(ID)
    assert enabled(window) == {"get", "zip", "folder"}
    assert "Random weights." in window.details.text
    window.search.text = ""
    window.choose("medfm-tiny")
    assert enabled(window) == {"use", "export", "zip", "folder"}
    assert not window.dialog.modal


def test_a_model_is_got_after_two_questions_and_can_be_used(panel, window, settle, hub, zoo, asked):  # noqa: F811
    card = zoo(gate="Accept its terms.", licence="Some licence")
    window.refresh()
    settle()
    window.choose(ID)
    assert "MedFM stores no token" in window.details.text
    asked.answers = [False]
    window.buttons["get"].click()
    assert "were not accepted; nothing was downloaded" in window.status.text and not licence_acceptance.accepted(card)
    assert "Accept its terms." in asked[-1]
    asked.answers = [True, False]
    window.buttons["get"].click()
    settle()
    assert window.status.text == "Nothing was downloaded." and installed_models.model_folder(ID) is None
    assert "1.4 MB" in asked[-1] and hub.url in asked[-1] and "Some licence" in asked[-1]
    asked.answers = [True]
    window.buttons["get"].click()
    settle()
    assert "checked against the hub's checksums" in window.status.text
    assert installed_models.model_folder(ID) and listed(window)["Eyes"] == "here; gated, accepted"
    assert window.chosen == ID and "use" in enabled(window)
    window.buttons["use"].click()
    assert panel.parameters.model == ID
    asked.answers = [True]
    window.buttons["delete"].click()
    settle()
    settle()
    assert window.status.text == "Eyes was deleted." and installed_models.model_folder(ID) is None
    assert "become free" in asked[-1]


def test_a_download_blocks_the_window_less_than_50_ms_and_can_be_stopped(
    host,
    window,
    settle,
    hub,  # noqa: F811
    published,  # noqa: F811
    asked,
    capsys,
):
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"filler": np.zeros(30_000_000, np.uint8)}, published / "more.safetensors")
    hub.slow = 0.05
    blocks = []
    for _ in range(3):
        window.choose(ID)
        asked.clear()
        asked.answers = [True]
        window.buttons["get"].click()
        host.wait_until(lambda: bool(asked), 20, "the question")
        host.process_events()
        with Heartbeat() as heart:
            host.run_loop_until(lambda: window.bar.value > 25, 30, "a quarter")
            assert window.cancel.visible and not enabled(window)
            window.cancel.click()
            host.run_loop_until(lambda: not window.busy, 10, "the stop")
        blocks.append(heart.longest_ms)
        with capsys.disabled():
            print(f"\n[models window, download] {heart}", end="")
        assert "was stopped" in window.status.text or "cancelled" in window.status.text
        assert installed_models.model_folder(ID) is None
        if heart.longest_ms < 50:
            break
        shutil.rmtree(installed_models.models_root())
    assert min(blocks) < 50


def test_a_model_is_imported_and_exported_by_dialogs(host, panel, window, settle, tiny_folder, tmp_path):
    zipped = model_store.export_model(registry.card(str(tiny_folder)), tmp_path / "tiny.zip")
    host.dialogs.answer_next("")
    window.buttons["zip"].click()
    assert not window.busy
    host.dialogs.answer_next(str(zipped))
    window.buttons["zip"].click()
    settle()
    settle()
    assert "Random tiny is installed." in window.status.text
    assert "Random tiny" in listed(window)
    assert panel.ui.modelSelector.findData("random-tiny") >= 0
    window.choose("random-tiny")
    host.dialogs.answer_next(str(tmp_path / "out"))
    window.buttons["export"].click()
    settle()
    assert window.status.text == f"Wrote {tmp_path / 'out.zip'}." and (tmp_path / "out.zip").is_file()
    host.dialogs.answer_next(str(zipped.parent / "nothing"))
    (zipped.parent / "nothing").mkdir()
    window.buttons["folder"].click()
    settle()
    assert window.status.text.startswith("⚠ 'nothing' has no .safetensors weights")


def test_a_problem_of_the_network_is_one_sentence(host, window, settle, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    window.choose(ID)
    window.buttons["get"].click()
    settle()
    assert window.status.text.startswith("⚠ 127.0.0.1 can't be reached")
    assert enabled(window) == {"get", "zip", "folder"}


def test_closing_the_module_stops_a_download(host, panel, window, hub):  # noqa: F811
    hub.slow = 5.0
    window.choose(ID)
    window.buttons["get"].click()
    panel.models.close()
    assert not window.busy and not window.dialog.visible


def test_ones_own_adapters_are_offered_but_not_those_for_another_model(panel, window, tiny_folder, tmp_path):
    import json

    from MedFMLib.model_store import adapters

    for name, base in (("mine", "somewhere/else"), ("theirs", ID)):
        copy = shutil.copytree(tiny_folder / "adapters" / "default", tmp_path / name)
        config = json.loads((copy / "adapter_config.json").read_text())
        (copy / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))
        adapters.import_adapter(copy)
    panel.initialize()
    names = [panel.ui.adapterSelector.itemText(n) for n in range(panel.ui.adapterSelector.count)]
    assert "mine" in names and "theirs" not in names and names[-1] == "none"


def offered(window):
    return [window.adapters.selector.itemText(n) for n in range(window.adapters.selector.count)]


def test_an_adapter_is_imported_offered_and_merged(host, panel, window, settle, tiny_folder, tmp_path):
    from MedFMLib.model_store import adapters

    model_store.import_model(tiny_folder, "tiny")
    copy = shutil.copytree(tiny_folder / "adapters" / "default", tmp_path / "lungs")
    (copy / "adapter_model.bin").write_bytes(b"pickle")
    window.came(None, "It came.")
    settle()
    window.choose("tiny")
    assert offered(window) == ["default"]
    host.dialogs.answer_next("")
    window.adapters.buttons["folder"].click()
    assert not window.busy
    host.dialogs.answer_next(str(copy))
    with Heartbeat() as heart:
        window.adapters.buttons["folder"].click()
        assert not any(button.isEnabled() for button in window.adapters.buttons.values())
        host.run_loop_until(lambda: not window.busy, 60, "the import")
    settle()
    print(heart)
    assert window.status.text.startswith("The adapter lungs is installed")
    assert not (installed_models.adapter_folder("lungs") / "adapter_model.bin").exists()
    assert offered(window) == ["default", "lungs"]
    zipped = adapters.export_adapter("lungs", tmp_path / "more.zip")
    adapters.remove_adapter("lungs")
    host.dialogs.answer_next(str(zipped))
    window.adapters.buttons["zip"].click()
    settle()
    settle()
    assert installed_models.adapter_folder("lungs") is not None
    window.adapters.selector.setCurrentIndex(1)
    host.dialogs.answer_next(str(tmp_path))
    window.adapters.buttons["merge"].click()
    settle(60)
    merged = tmp_path / "tiny-lungs"
    assert window.status.text.startswith(f"Wrote {merged}.")
    assert registry.card(str(merged)).adapters == ()
    host.dialogs.answer_next(str(merged))
    window.buttons["folder"].click()
    settle()
    settle()
    assert "Random tiny with lungs" in listed(window)
    host.dialogs.answer_next(str(tmp_path))
    window.choose("tiny")
    window.adapters.selector.setCurrentIndex(1)
    window.adapters.buttons["merge"].click()
    settle(60)
    assert window.status.text == f"⚠ {merged} already exists; choose another name, or delete it first."


def test_an_adapter_that_is_none_is_refused_in_one_sentence_and_leaves_nothing(
    host, window, settle, tiny_folder, tmp_path
):
    broken = shutil.copytree(tiny_folder / "adapters" / "default", tmp_path / "broken")
    (broken / "adapter_model.safetensors").write_bytes(b"pickle")
    host.dialogs.answer_next(str(broken))
    window.adapters.buttons["folder"].click()
    settle(60)
    assert window.status.text.startswith("⚠ ") and "Traceback" not in window.status.text
    assert installed_models.adapters() == {} and not list(installed_models.adapters_root().glob(".*"))
    assert not window.adapters.buttons["merge"].isEnabled()  # no model is chosen


def test_a_merge_can_be_stopped_and_leaves_nothing(host, window, settle, tiny_folder, tmp_path):
    model_store.import_model(tiny_folder, "tiny")
    window.came(None, "It came.")
    settle()
    window.choose("tiny")
    target = tmp_path / "out"
    target.mkdir()
    host.dialogs.answer_next(str(target))
    window.adapters.buttons["merge"].click()
    window.on_cancel()
    settle(60)
    assert window.status.text.startswith("⚠ It was stopped")
    assert list(target.iterdir()) == []

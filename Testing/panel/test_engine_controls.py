"""The choice of backend in the panel: tested, stopped, saved; the queue, the time left and the log."""

from __future__ import annotations

import pytest
from support.server_in_test import COMPUTES, ROOT, TOKEN, ServerInTest

from MedFMLib.execution import backends
from MedFMLib.execution.backends import Backend
from MedFMLib.execution.remote import RemoteRunner, ServerRunner
from MedFMLib.execution.worker import ProcessRunner
from MedFMLib.interfaces.jobs import Fraction, LocalRunner, Stage, Waiting


@pytest.fixture(autouse=True)
def _own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv(backends.KEY, "")
    monkeypatch.delenv(backends.KEY)
    monkeypatch.setenv("PYTHONPATH", f"{COMPUTES}:{ROOT}")


@pytest.fixture
def choose(panel):
    """Choose a place by its kind."""
    return lambda kind: panel.ui.placeSelector.setCurrentIndex(panel.ui.placeSelector.findData(kind))


@pytest.fixture
def shown(panel, host):
    """Wait until the engine's line says something."""
    return lambda text: host.wait_until(lambda: text in panel.ui.engineLabel.text, 20, f"'{text}' next to the engine")


def test_a_process_of_its_own_is_the_default_and_nothing_runs_yet(panel):
    assert type(panel.session.runner) is ProcessRunner
    assert panel.session.runner.state().doing == "stopped"


@pytest.mark.parametrize(("kind", "runner"), [("server", ServerRunner), ("here", LocalRunner)])
def test_another_backend_is_used_and_saved(panel, choose, kind, runner):
    choose(kind)
    assert type(panel.session.runner) is runner
    assert backends.load().kind == kind


@pytest.mark.parametrize("kind", ["process", "server"])
def test_an_engine_is_started_shown_and_stopped(panel, choose, shown, kind):
    pytest.importorskip("starlette")
    choose(kind)
    panel.ui.testButton.click()
    shown("idle")
    assert "The engine answers" in panel.ui.statusLabel.text
    panel.ui.stopButton.click()
    shown("stopped")


def test_a_job_on_this_computer_names_no_server_elsewhere(panel, choose):
    panel.ui.serverEdit.text = "https://server.hospital:8765"
    choose("server")
    assert "This computer" in panel.ui.statusLabel.text
    assert "server.hospital" not in panel.ui.statusLabel.text


def test_the_address_is_asked_for_only_where_it_matters(panel, choose):
    panel.ui.placeButton.collapsed = False
    assert not panel.ui.serverEdit.visible
    choose("remote")
    assert panel.ui.serverEdit.visible
    assert panel.ui.keyEdit.visible
    choose("process")
    assert not panel.ui.keyEdit.visible


def test_a_server_elsewhere_gets_volumes_only_after_a_yes_that_shows_what(panel, choose, monkeypatch):
    import slicer.util

    asked, answers = [], [False, True]
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **_: asked.append(text) or answers.pop(0))
    choose("remote")
    panel.ui.serverEdit.text, panel.ui.keyEdit.text = "https://server.hospital:8765", TOKEN
    panel.ui.testButton.click()
    assert "voxels of the volume" in asked[-1]
    assert "was not allowed" in panel.ui.statusLabel.text
    assert type(panel.session.runner) is ProcessRunner
    assert panel.ui.keyEdit.text == ""
    panel.ui.keyEdit.text = TOKEN
    panel.ui.testButton.click()
    assert type(panel.session.runner) is RemoteRunner
    assert backends.load() == Backend("remote", "https://server.hospital:8765")
    assert TOKEN not in panel.ui.logView.plainText


def test_a_server_is_tested_with_its_key(panel, choose, shown, tmp_path):
    pytest.importorskip("starlette")
    server = ServerInTest()
    try:
        choose("remote")
        panel.ui.serverEdit.text, panel.ui.keyEdit.text = server.url, "not-the-key-0123456789"
        panel.ui.testButton.click()
        shown("key is missing or wrong")
        panel.ui.keyEdit.text = TOKEN
        panel.ui.testButton.click()
        shown("idle")
    finally:
        server.close()


@pytest.mark.parametrize(("url", "sentence"), [("http://server.hospital", "use https"), ("", "is not the address")])
def test_a_bad_address_is_reported_and_nothing_changes(panel, choose, url, sentence):
    choose("remote")
    panel.ui.serverEdit.text = url
    panel.ui.testButton.click()
    assert sentence in panel.ui.statusLabel.text
    assert type(panel.session.runner) is ProcessRunner


def test_a_saved_server_without_a_key_leaves_the_panel_usable(host):
    backends.save(Backend("remote", "https://server.hospital:8765"))
    backends.allow("https://server.hospital:8765")
    host.load_module(ROOT / "MedFM" / "MedFM.py")
    panel = host.select_module("MedFM")
    assert type(panel.session.runner) is ProcessRunner
    assert "key of server.hospital is not known" in panel.ui.statusLabel.text


def test_the_place_can_not_change_while_a_job_runs(panel, volume, use_runner, host):
    runner = use_runner(hold=True)
    panel.ui.applyButton.click()
    assert not panel.ui.placeSelector.enabled
    assert not panel.ui.stopButton.enabled
    runner.release()
    host.wait_until(lambda: not panel.session.running, 10, "the job's end")
    host.process_events()
    assert panel.ui.placeSelector.enabled


def test_the_queue_is_reported(panel):
    for ahead, text in ((3, "3 jobs come first"), (1, "1 job comes first")):
        panel.following.show(Waiting(ahead), "ask")
        assert text in panel.ui.statusLabel.text


def test_the_time_left_is_reported_once_it_is_known(panel):
    now = [0.0]
    panel.following._left._clock = lambda: now[0]
    panel.following.begin()
    panel.following.show(Stage("Looking"), "segment")
    for second, text in ((0, "%p%"), (2, "%p%"), (4, "%p%, about 35 s left"), (20, "%p%, about 20 s left")):
        now[0] = second
        panel.following.show(Fraction(second / 40), "segment")
        assert panel.ui.progressBar.format == text


def test_the_log_is_copied(panel):
    import qt

    panel.status.log("something happened")
    panel.ui.copyLogButton.click()
    assert "something happened" in qt.QApplication.clipboard().text()

"""While a job runs the window must not freeze: the longest block of the GUI thread is measured and printed.

Rendering is paused: how long a frame takes depends on the graphics card, which a test machine lacks.
"""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import psutil
import pytest
from host.heartbeat import Heartbeat
from support.server_in_test import COMPUTE, COMPUTES, ROOT

from MedFMLib.core.request import DEFAULT_MODEL
from MedFMLib.execution.remote import ServerRunner
from MedFMLib.interfaces import registry
from MedFMLib.interfaces.jobs import Fraction, LocalRunner, PartialText, Stage

LIMIT_MS = 50
TASKS = ("segment", "ask", "report")


@pytest.fixture
def quiet_views():
    """Views that don't render."""
    import slicer

    slicer.app.pauseRender()
    yield
    slicer.app.resumeRender()


@pytest.fixture
def large_volume(panel, add_volume):
    """A head of 192×224×192 voxels."""
    return add_volume("large", shape=(192, 224, 192), spacing=(1.0, 1.0, 1.0))


@pytest.fixture
def run_measured(host, panel, capsys):
    """Click Apply and run the event loop until the result is in the scene; prints and returns the longest block.

    The click, reading the volume and writing the result are included. A machine that is busy with other things
    delays every thread now and then, so a job is repeated, at most four times; what is ours shows each time.
    """

    def run(name, seconds=60, repeats=5):
        blocks = []
        for _ in range(repeats):
            host.process_events()
            with Heartbeat() as heart:
                panel.ui.applyButton.click()
                host.run_loop_until(lambda: not panel.session.running, seconds, "the job's end")
            assert "Done" in panel.ui.statusLabel.text
            blocks.append(heart.longest_ms)
            with capsys.disabled():
                print(f"\n[panel, {name}, {panel.parameters.task}] {heart}", end="")
            if heart.longest_ms < LIMIT_MS:
                break
        return min(blocks)

    return run


def test_the_heartbeat_notices_a_block(host):
    import qt

    with Heartbeat() as heart:
        qt.QTimer.singleShot(20, lambda: time.sleep(0.2))
        started = time.monotonic()
        host.run_loop_until(lambda: time.monotonic() - started > 0.4, 5, "0.4 s")
    assert 195 < heart.longest_ms < 400


def test_a_scripted_job_blocks_the_window_less_than_50_ms(
    host, panel, large_volume, quiet_views, use_runner, run_measured, choose_task
):
    script = [Stage("Segmenting the slices")]
    script += [event for n in range(100) for event in (Fraction(n / 100), PartialText("word "))]
    use_runner(script=script, pause=0.005)
    for task in TASKS:
        choose_task(task)
        assert run_measured("scripted job") < LIMIT_MS


def test_a_computing_worker_thread_blocks_the_window_less_than_50_ms(
    host, panel, large_volume, quiet_views, use_runner, respond, run_measured
):
    def compute(request, progress):
        """NumPy and plain Python in turns, as preprocessing is."""
        progress.stage("Computing")
        for n in range(20):
            np.fft.fftn(request.image.scalars[:, :, ::8].astype(np.float32))
            sum(i * i for i in range(100_000))
            progress.fraction(n / 20)
        return respond(request)

    use_runner(LocalRunner(compute))
    assert run_measured("computing worker thread") < LIMIT_MS


def test_a_first_job_in_the_worker_process_blocks_the_window_less_than_50_ms(
    host, panel, large_volume, quiet_views, choose_task, run_measured, tiny_folder
):
    """The first job imports torch and loads a model; a random one, so that this needs no training."""
    card = registry.card(str(tiny_folder))
    panel.models._find_cards = lambda: {card.id: card}
    panel.initialize()
    large_volume.SetAttribute("DICOM.Modality", "CT")
    choose_task("ask")
    panel.ui.questionBox.setEditText("which plane is this?")
    assert run_measured("random model, first job", seconds=240, repeats=1) < LIMIT_MS


@pytest.mark.slow
def test_segment_ask_and_report_with_the_embedded_model_keep_the_window_alive(
    host, panel, large_volume, quiet_views, choose_task, run_measured
):
    pytest.importorskip("torch")
    assert panel.parameters.model == DEFAULT_MODEL
    for task in TASKS:
        choose_task(task)
        panel.ui.questionBox.setEditText("which plane is this?")
        assert run_measured(DEFAULT_MODEL, seconds=300) < LIMIT_MS


def test_a_server_blocks_the_window_less_than_50_ms_even_when_it_dies(
    host, panel, add_volume, quiet_views, use_runner, choose_task, capsys, monkeypatch
):
    """Start, upload of 157 MB, words, a kill in the middle, restart with another upload."""
    pytest.importorskip("starlette")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(COMPUTES), str(ROOT)]))
    add_volume("very large", shape=(300, 512, 512), spacing=(1.0, 1.0, 1.0))
    runner = use_runner(ServerRunner(("--compute", COMPUTE)))
    choose_task("ask")

    def job(name, question, kill=""):
        panel.ui.questionBox.setEditText(question)
        with Heartbeat() as heart:
            panel.ui.applyButton.click()
            if kill:
                host.run_loop_until(lambda: panel.ui.progressBar.value == 10, 60, "the job to run")
                pid = runner.server.pid
                os.kill(pid if kill == "server" else psutil.Process(pid).children()[0].pid, signal.SIGKILL)
            host.run_loop_until(lambda: not panel.session.running, 60, "the job's end")
        with capsys.disabled():
            print(f"\n[panel, own server, {name}] {heart}", end="")
        return heart.longest_ms

    def calm(name, question, end, kill=""):
        """The shortest of at most three longest blocks: a busy machine delays every thread now and then."""
        blocks = []
        while len(blocks) < 3 and min(blocks, default=LIMIT_MS) >= LIMIT_MS:
            blocks.append(job(name, question, kill))
            assert end in panel.ui.statusLabel.text
        return min(blocks)

    words, died = "words " + " ".join(map(str, range(50))), "ended unexpectedly"
    assert calm("start, upload and words", words, "Done") < LIMIT_MS
    for victim in ("worker", "server"):
        assert calm(f"{victim} killed", "sleep 60", died, kill=victim) < LIMIT_MS
        assert calm(f"after the {victim}'s death", words, "Done") < LIMIT_MS

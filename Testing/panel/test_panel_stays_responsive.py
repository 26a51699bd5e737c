"""While a job runs the window must not freeze: the longest block of the GUI thread is measured and printed.

Rendering is paused: how long a frame takes depends on the graphics card, which a test machine lacks.
"""

from __future__ import annotations

import time

import numpy as np
import pytest
from host.heartbeat import Heartbeat

from MedFMLib import registry
from MedFMLib.request import DEFAULT_MODEL
from MedFMLib.runner import Fraction, LocalRunner, PartialText, Stage

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
    delays every thread now and then, so a job is repeated, at most twice; what is ours shows each time.
    """

    def run(name, seconds=60, repeats=3):
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
    script = [Stage("Looking at the slices")]
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


def test_segment_ask_and_report_with_the_embedded_model_keep_the_window_alive(
    host, panel, large_volume, quiet_views, choose_task, run_measured
):
    assert panel.parameters.model == DEFAULT_MODEL
    for task in TASKS:
        choose_task(task)
        panel.ui.questionBox.setEditText("which plane is this?")
        assert run_measured(DEFAULT_MODEL, seconds=300) < LIMIT_MS

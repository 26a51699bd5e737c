"""Jobs in a worker process: values arrive unchanged, and the panel is informed of every fault."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.errors import Cancelled, MedFMError, ModelError
from MedFMLib.execution import payload
from MedFMLib.execution.worker import ProcessRunner
from MedFMLib.execution.worker import runner as worker_runner
from MedFMLib.interfaces.jobs import Done, Fraction, Note, PartialText, Stage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def image():
    """An oblique image whose voxels are not contiguous, as those of a volume node are."""
    affine = np.array([[0, 2, 0, 5.0], [1.5, 0, 0.1, -7], [0, 0, 3, 2], [0, 0, 0, 1]])
    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(6, 5, 4).transpose(2, 1, 0)[None]
    return Image(voxels, Geometry((4, 5, 6), affine, "1.2.3"), "MR", "Größe", {"KVP": "120"})


@pytest.fixture
def runner(monkeypatch):
    """Start a runner whose worker computes one of `worker_examples`; closed afterwards."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "computes"))
    made = []

    def make(name):
        made.append(ProcessRunner(("--compute", f"worker_examples:{name}")))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_request_survives_being_split(image):
    request = Request("ask", image, question="why?", history=(("a", "b"),))
    packed = payload.pack(request)
    joined = payload.unpack(payload.Payload(packed.rest, bytes(packed.voxels)))
    assert np.array_equal(joined.image.voxels, image.voxels)
    assert joined.image.voxels.dtype == image.voxels.dtype
    assert joined.image.geometry == image.geometry
    assert (joined.image.modality, joined.image.name, joined.image.facts) == ("MR", "Größe", {"KVP": "120"})
    assert (joined.question, joined.history) == ("why?", (("a", "b"),))


def test_events_and_response_come_back_and_prints_do_not_disturb(runner, image):
    job = runner("answering").submit(Request("ask", image, question="why?"))
    events = list(job.stream(30))
    assert events[1:] == [Stage("Looking"), Fraction(0.5), PartialText("par"), Note("noted"), Done()]
    response = job.result(0)
    assert response.answers[0].text == f"{image.voxels.sum()} int16 call 1 torch False"
    assert np.array_equal(response.segmentation["x"].mask, image.scalars > 0)
    assert response.segmentation.geometry == image.geometry


def test_the_process_is_kept_for_the_next_job(runner, image):
    one = runner("answering")
    texts = [one.submit(Request("ask", image, question="?")).result(30).answers[0].text for _ in range(2)]
    assert ["call 1" in texts[0], "call 2" in texts[1]] == [True, True]


def test_a_cancelled_job_stops_and_the_process_lives_on(runner, image):
    one = runner("endless")
    for _ in range(2):
        job = one.submit(Request("ask", image))
        next(e for e in job.stream(30) if isinstance(e, Fraction))
        process = one.worker._process
        job.cancel()
        with pytest.raises(Cancelled):
            job.result(5)
        assert process.poll() is None
    assert one.worker._process is process


def test_a_worker_that_does_not_listen_is_ended(runner, image, monkeypatch):
    monkeypatch.setattr(worker_runner, "GRACE_SECONDS", 0.3)
    one = runner("deaf")
    job = one.submit(Request("ask", image))
    next(e for e in job.stream(30) if e == Stage("Deaf"))
    process = one.worker._process
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(5)
    process.wait(5)


def test_errors_keep_their_kind_and_sentence(runner, image):
    one = runner("failing")
    with pytest.raises(ModelError, match="There is no model 'x'"):
        one.submit(Request("ask", image, question="model")).result(30)
    with pytest.raises(MedFMError, match="unexpectedly.*ZeroDivisionError: oops"):
        one.submit(Request("ask", image, question="bug")).result(30)


def test_a_worker_without_its_packages_says_so_each_time(runner, image):
    one = runner("missing")
    for _ in range(2):
        with pytest.raises(ModelError, match="torch"):
            one.submit(Request("ask", image)).result(30)


def test_a_dying_worker_fails_its_job_in_one_sentence_and_the_next_gets_a_new_one(runner, image):
    one = runner("dying")
    for _ in range(2):
        with pytest.raises(MedFMError, match=r"ended unexpectedly \(Killed by a test\); the scene is unchanged"):
            one.submit(Request("ask", image)).result(30)


def test_closing_ends_the_process(runner, image):
    one = runner("endless")
    job = one.submit(Request("ask", image))
    next(e for e in job.stream(30) if isinstance(e, Fraction))
    process = one.worker._process
    started = time.monotonic()
    one.close()
    assert time.monotonic() - started < 0.1  # the window is not kept waiting
    process.wait(5)


@pytest.mark.skipif(os.name == "nt", reason="uses POSIX process states")
def test_the_worker_ends_with_the_application(tmp_path):
    script = f"""
import os, sys
sys.path[:0] = [{str(ROOT / "MedFM")!r}, {str(ROOT)!r}]
import numpy as np
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.interfaces.jobs import Fraction
from MedFMLib.execution.worker import ProcessRunner
runner = ProcessRunner(("--compute", "worker_examples:endless"))
job = runner.submit(Request("ask", Image(np.zeros((1, 2, 2, 2), np.int16), Geometry((2, 2, 2), np.eye(4)))))
next(e for e in job.stream(30) if isinstance(e, Fraction))
print(runner.worker._process.pid, flush=True)
os._exit(1)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent / "computes")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment)
    pid = int(done.stdout)
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("The worker outlived its application.")

"""A worker process that is stopped, closed or preloaded at a bad moment; and what a client's connection must not leak."""

from __future__ import annotations

import subprocess
import threading
import time

import numpy as np
import pytest
import requests
from support.server_in_test import COMPUTE, TOKEN, in_threads, wait_for

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.errors import MedFMError
from MedFMLib.execution.remote import ServerRunner, client
from MedFMLib.execution.remote.client import ServerClient
from MedFMLib.execution.worker import ProcessRunner, frames, runner
from MedFMLib.execution.worker.runner import WorkerProcess
from MedFMLib.interfaces.jobs import Fraction, NoProgress


@pytest.fixture(params=[ProcessRunner, ServerRunner])
def own(request):
    """A runner with a process of its own."""
    made = request.param(("--compute", COMPUTE))
    yield made
    made.close()


def started(job):
    next(e for e in job.stream(30) if isinstance(e, Fraction))
    return job


def test_an_engine_that_is_stopped_while_it_works_stays_stopped(own, request_for):
    own.submit(request_for("mark a")).result(30)
    job = started(own.submit(request_for("sleep 600")))
    own.stop()
    with pytest.raises(MedFMError, match=r"was (stopped|shut down)") as caught:
        job.result(10)
    assert "exit code None" not in str(caught.value)
    time.sleep(1)
    state = own.state()
    assert (state.doing, state.note) == ("stopped", "")
    assert own.submit(request_for("mark b")).result(30).answers[0].text.startswith("b sum")


def test_a_job_whose_worker_was_stopped_ends_though_another_was_started_at_once(request_for):
    own = ProcessRunner(("--compute", COMPUTE))
    job = started(own.submit(request_for("sleep 600")))
    own.stop()
    own.start()
    with pytest.raises(MedFMError, match="was stopped"):
        job.result(10)
    assert own.submit(request_for("mark b")).result(30).answers[0].text.startswith("b sum")
    own.close()


def test_a_worker_that_is_closed_as_a_job_comes_is_not_started_again(request_for, monkeypatch):
    worker = WorkerProcess(("--compute", COMPUTE))
    worker.run(request_for("mark a"), NoProgress())
    first, made, popen = worker.state.pid, [], subprocess.Popen
    monkeypatch.setattr(runner.subprocess, "Popen", lambda *a, **o: made.append(popen(*a, **o)) or made[-1])
    write = frames.FrameWriter.write

    def close_first(self, kind, payload=b""):
        worker.close()
        write(self, kind, payload)

    monkeypatch.setattr(frames.FrameWriter, "write", close_first)
    with pytest.raises(MedFMError):
        worker.run(request_for("deaf 2"), NoProgress())
    assert first
    assert not made


def test_an_interpreter_that_is_not_there_is_named(request_for):
    own = ProcessRunner(("--compute", COMPUTE), "/no/such/python")
    for _ in range(2):
        with pytest.raises(MedFMError, match="can't be started .*/no/such/python"):
            own.submit(request_for("mark a")).result(10)
    own.close()


def test_loading_ahead_comes_between_no_job_and_its_voxels(request_for, monkeypatch):
    worker, kinds, write = WorkerProcess(("--compute", COMPUTE)), [], frames.FrameWriter.write
    worker.start()
    threads = []

    def slow(self, kind, payload=b""):
        kinds.append(kind)
        write(self, kind, payload)
        if kind == frames.REQUEST:
            threads.append(threading.Thread(target=worker.prepare, args=("medfm-tiny",)))
            threads[0].start()
            time.sleep(0.3)

    monkeypatch.setattr(frames.FrameWriter, "write", slow)
    assert worker.run(request_for("mark a"), NoProgress()).answers
    threads[0].join(5)
    assert kinds == [frames.REQUEST, frames.VOXELS, frames.LOAD]
    worker.close()


def test_two_threads_start_one_worker(monkeypatch):
    worker, made, popen = WorkerProcess(("--compute", COMPUTE)), [], subprocess.Popen

    def slow(*arguments, **options):
        time.sleep(0.2)
        made.append(popen(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(runner.subprocess, "Popen", slow)
    in_threads([worker.start, lambda: worker.prepare("medfm-tiny")])
    worker.close()
    for process in made:
        runner.end_process(process)
    assert len(made) == 1


def test_a_reader_that_runs_out_of_memory_ends_the_job():
    class Stream:
        def read(self, size):
            raise MemoryError

    class Process:
        stdout = Stream()

    received = runner.queue.SimpleQueue()
    with pytest.raises(MemoryError):
        runner._read_frames(Process, received)
    assert received.get(timeout=1) == (b"", b"")


def test_an_idle_worker_keeps_no_voxels(request_for):
    worker = WorkerProcess(("--compute", COMPUTE))
    worker.run(request_for("mark a"), NoProgress())
    before = worker.state.memory
    voxels = np.ones((1, 400, 400, 500), np.uint8)
    worker.run(Request("ask", Image(voxels, Geometry(voxels.shape[1:], np.eye(4))), question="mark b"), NoProgress())
    wait_for(lambda: worker.state.memory < before + voxels.nbytes // 2, 5, "memory to be given back")
    worker.close()


# -- a client ------------------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch):
    """(prepared request, how it is sent) of what a client sends; nothing leaves."""
    found = []

    def send(session, prepared, **options):
        found.append((prepared, options))
        raise requests.ConnectionError

    monkeypatch.setattr(requests.Session, "send", send)
    return found


def test_the_key_and_the_authority_are_those_that_were_given(sent, tmp_path, monkeypatch):
    """Neither a .netrc nor another authority in the environment takes their place."""
    (tmp_path / "netrc").write_text("machine server.hospital login jane password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "other.pem").touch()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))
    with pytest.raises(MedFMError):
        ServerClient("https://server.hospital:8765", TOKEN, "/own.pem", alive=lambda: False).state()
    (prepared, options) = sent[0]
    assert prepared.headers["Authorization"] == f"Bearer {TOKEN}"
    assert options["verify"] == "/own.pem"


def test_no_thread_sees_a_session_that_is_not_ready(sent, monkeypatch):
    one, ready = ServerClient("http://127.0.0.1:9", TOKEN), []

    class Watched(requests.Session):
        def __setattr__(self, name, value):
            if name == "trust_env" and value is False:
                ready.append(one._session is None)
            super().__setattr__(name, value)

    monkeypatch.setattr(client.__dict__.get("requests", requests), "Session", Watched)
    with pytest.raises(MedFMError):
        one.state()
    assert ready == [True]

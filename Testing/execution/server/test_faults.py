"""Real faults: killed processes, full disks, broken connections, changed clocks.

Afterwards the server answers, nothing is left behind, and no accepted job is lost.
"""

from __future__ import annotations

import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
import requests
from support.server_in_test import COMPUTE, ROOT, TOKEN, ServerInTest, in_threads, wait_for

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.errors import InputError, MedFMError
from MedFMLib.execution import payload, serialization
from MedFMLib.execution.remote import ServerRunner
from MedFMLib.execution.remote.client import ConnectionLost, ServerClient
from MedFMLib.execution.worker import frames
from MedFMLib.interfaces.jobs import Fraction, NoProgress


def gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def started(job):
    """Wait until a job runs."""
    next(e for e in job.stream(30) if isinstance(e, Fraction))
    return job


# -- the worker ----------------------------------------------------------------------------------------


def test_a_worker_killed_while_generating_fails_that_job_only(server, request_for):
    runner = server.runner()
    assert runner.submit(request_for("mark a")).result(30)
    job = started(runner.submit(request_for("sleep 600")))
    os.kill(server.worker_pid(), signal.SIGKILL)
    with pytest.raises(
        MedFMError, match=r"the system ended it, most likely because the memory ran out.*scene is unchanged"
    ):
        job.result(10)
    text = runner.submit(request_for("count")).result(30).answers[0].text
    assert text.startswith("call 1 prepared 'medfm-tiny'")  # a new one, and the model that was there came back
    runner.close()


def test_a_worker_killed_while_loading_fails_that_job_only(start_server, request_for):
    server = start_server(compute="server_examples:SlowToLoad")
    job = server.runner().submit(request_for("mark a"))
    wait_for(lambda: server.worker_pid(), 10, "the worker")
    time.sleep(0.3)
    os.kill(server.worker_pid(), signal.SIGKILL)
    with pytest.raises(MedFMError, match="ended unexpectedly"):
        job.result(10)
    assert server.client().state()["running"] == 0


def test_a_worker_killed_while_a_volume_comes_costs_nothing(server, request_for):
    assert server.ask(request_for("mark a"))
    killed = server.worker_pid()
    done = in_threads([lambda: server.ask(large("mark b")), lambda: os.kill(killed, signal.SIGKILL)])
    assert done[0].startswith("b sum")


def test_a_job_that_was_done_is_there_after_the_workers_death(server, request_for):
    name = submit(server, request_for("mark done"))
    wait_for(lambda: server.client().state()["running"] == 0, 20, "the job's end")
    os.kill(server.worker_pid(), signal.SIGKILL)
    assert serialization.loads(result(server, name)).answers[0].text.startswith("done sum")


# -- the server ----------------------------------------------------------------------------------------


def test_a_killed_server_leaves_no_process_and_no_file_and_its_runner_starts_another(
    request_for, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    runner = ServerRunner(("--compute", COMPUTE))
    try:
        runner.submit(request_for("mark a")).result(30)
        job = started(runner.submit(request_for("sleep 600")))
        pids = [runner.server.pid, *(child.pid for child in psutil.Process(runner.server.pid).children(recursive=True))]
        os.kill(runner.server.pid, signal.SIGKILL)
        with pytest.raises(MedFMError, match=r"The engine ended unexpectedly \(the system ended it"):
            job.result(10)
        wait_for(lambda: all(map(gone, pids)), 10, f"the processes {pids} to end")
        wait_for(lambda: runner.state().doing == "idle", 10, "the next engine")
        assert "prepared 'medfm-tiny'" in runner.submit(request_for("count")).result(30).answers[0].text
    finally:
        runner.close()
    wait_for(lambda: not list(tmp_path.glob("medfm-server-*")), 10, "no file to stay")


def test_an_application_that_is_killed_takes_its_server_with_it(tmp_path):
    script = f"""
import sys, time
sys.path[:0] = [{str(ROOT)!r}]
import numpy as np
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.execution.remote import ServerRunner
from MedFMLib.core.request import Request
from MedFMLib.interfaces.jobs import Fraction
runner = ServerRunner(("--compute", {COMPUTE!r}))
image = Image(np.arange(64, dtype=np.int16).reshape(1, 4, 4, 4), Geometry((4, 4, 4), np.eye(4)))
job = runner.submit(Request("ask", image, question="sleep 600"))
next(e for e in job.stream(60) if isinstance(e, Fraction))
print(runner.server.pid, flush=True)
time.sleep(600)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as application:
        server = int(application.stdout.readline())
        pids = [server, *(child.pid for child in psutil.Process(server).children(recursive=True))]
        assert len(pids) == 2
        application.kill()
    wait_for(lambda: all(map(gone, pids)), 15, f"the processes {pids} to end")
    wait_for(lambda: not list(tmp_path.glob("medfm-server-*")), 10, "no file to stay")


def test_what_a_killed_server_left_is_swept_by_the_next(start_server, tmp_path):
    left = tmp_path / "temp" / "medfm-server-abc"
    left.mkdir()
    (left.parent / ".medfm-server-abc.lock").touch()
    (left / "x").write_bytes(b"voxels")
    start_server()
    assert not left.exists()


def test_sigterm_lets_running_jobs_end_and_takes_no_more(start_server, request_for):
    server = start_server("--drain", "20")
    runner = server.runner()
    job = started(runner.submit(request_for("sleep 1.5")))
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: requests.get(f"{server.url}/health", timeout=5).json()["status"] == "draining", 5, "draining")
    with pytest.raises(MedFMError, match="The server is shutting down"):
        submit(server, request_for("mark b"))
    assert job.result(10).answers[0].text.startswith("1.5 sum")
    assert server.process.wait(10) == 0


def test_a_drain_that_takes_too_long_ends_the_job_in_one_sentence(start_server, request_for):
    server = start_server("--drain", "0.5")
    job = started(server.runner().submit(request_for("sleep 600")))
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(MedFMError, match="The server was shut down"):
        job.result(10)
    assert server.process.wait(10) == 0


# -- the client ----------------------------------------------------------------------------------------


def test_a_killed_clients_job_is_given_up(start_server):
    server = start_server("--lease", "1")
    script = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
import numpy as np
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.execution.remote.client import ServerClient
from MedFMLib.core.request import Request
from MedFMLib.interfaces.jobs import NoProgress
image = Image(np.arange(64, dtype=np.int16).reshape(1, 4, 4, 4), Geometry((4, 4, 4), np.eye(4)))
ServerClient({server.url!r}, {TOKEN!r}).run(Request("ask", image, question="sleep 600"), NoProgress())
"""
    with subprocess.Popen([sys.executable, "-c", script]) as client:
        wait_for(lambda: server.client().state()["running"] == 1, 20, "the job to run")
        client.kill()
    wait_for(lambda: server.client().state()["running"] == 0, 10, "the job to be given up")


def test_a_line_that_breaks_loses_no_event_and_no_result(server, request_for):
    """The stream of events is cut twice; the third hears the rest, and all are there once."""
    name = submit(server, request_for("words " + " ".join(map(str, range(40)))))
    received = []
    for cut in (5, 12, None):
        with requests.get(
            f"{server.url}/medfm/v1/jobs/{name}/events?after={len(received)}",
            headers=own(server),
            stream=True,
            timeout=20,
        ) as answer:
            while cut is None or len(received) < cut:
                kind, data = frames.read_frame(answer.raw)
                if kind == frames.EVENT and b'"n"' in data:
                    received.append(data)
                if kind == frames.RESPONSE:
                    break
    words = b"".join(received)
    assert [words.count(f'"text": "{n} "'.encode()) for n in range(40)] == [1] * 40


def test_a_runner_goes_on_after_its_line_broke(server, request_for):
    """Through a relay that is cut while the job runs."""
    relay = Relay(server.port)
    runner = ServerClient(f"http://127.0.0.1:{relay.port}", TOKEN)
    threading.Timer(0.7, relay.cut).start()
    response = runner.run(request_for("sleep 2"), NoProgress())
    assert response.answers[0].text.startswith("2 sum")
    assert relay.cuts == 1
    relay.close()


def test_an_upload_goes_on_where_the_line_broke(start_server):
    server = start_server()
    relay = Relay(server.port, limit=20_000_000)
    request = large("mark a")
    response = ServerClient(f"http://127.0.0.1:{relay.port}", TOKEN).run(request, NoProgress())
    assert response.answers[0].text.startswith("a sum")
    assert relay.cuts == 1
    assert relay.passed < 1.5 * request.image.voxels.nbytes  # not all of it again
    relay.close()


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(ConnectionLost, match=r"127\.0\.0\.1:9.* can't be reached .*check that the server runs"):
        ServerClient("http://127.0.0.1:9", TOKEN, alive=lambda: False).state()


# -- files, ports, clocks ------------------------------------------------------------------------------


def test_a_taken_port_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(RuntimeError) as caught:
        ServerInTest("--port", str(taken.getsockname()[1]))
    lines = [line for line in str(caught.value).splitlines() if line]
    assert len(lines) == 1
    assert "choose another port" in lines[0]


def test_a_full_disk_is_one_sentence_and_the_server_goes_on(start_server, request_for):
    server = start_server()
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    with pytest.raises(MedFMError, match="can't store this volume"):
        server.ask(large("mark a"))
    assert server.ask(request_for("mark b")).startswith("b sum")
    folder = next((server.temp).glob("medfm-server-*"))
    assert len(list(folder.iterdir())) == 1  # the small volume; nothing of the large one


def test_a_clock_that_jumps_changes_nothing(start_server, request_for, tmp_path, monkeypatch):
    clock = tmp_path / "clock"
    clock.write_text("0")
    monkeypatch.setenv("MEDFM_TEST_CLOCK", str(clock))
    server = start_server("--lease", "5", "--seconds-per-job", "60")
    runner = server.runner()
    for jump in (10 * 365 * 86400, -86400):
        job = started(runner.submit(request_for("sleep 1")))
        clock.write_text(str(jump))
        assert job.result(20).answers[0].text.startswith("1 sum")
    assert server.client().state()["workers"][0]["crashes"] == 0


def test_a_job_that_takes_too_long_is_ended(start_server, request_for):
    server = start_server("--seconds-per-job", "0.5")
    with pytest.raises(MedFMError, match=r"longer than 0\.5 s, the limit of this server"):
        server.ask(request_for("sleep 600"))
    assert server.ask(request_for("mark b")).startswith("b sum")


def test_an_idle_model_is_unloaded_and_comes_back(start_server, request_for):
    server = start_server("--idle-unload", "0.5")
    assert server.ask(request_for("mark a"))
    wait_for(lambda: server.worker_pid() == 0, 10, "the worker to end")
    assert server.ask(request_for("mark b")).startswith("b sum")


# -- voxels --------------------------------------------------------------------------------------------


def test_a_volume_travels_once(server, request_for):
    for _ in range(3):
        server.ask(request_for("mark a"))
    assert sum("PATCH volume" in line for line in server.log) == 1


def test_damaged_voxels_are_refused_and_can_be_sent_again(server, request_for):
    packed = payload.pack(request_for("mark a"))
    whole = bytes(packed.voxels)
    flipped = bytes([whole[0] ^ 1]) + whole[1:]
    answer = upload(server, packed.digest, flipped)
    assert answer.status_code == 400
    assert "hash differs" in answer.json()["error"]["message"]
    assert upload(server, packed.digest, whole).status_code == 200


def test_a_truncated_upload_is_not_a_volume(server, request_for):
    packed = payload.pack(request_for("mark a"))
    assert upload(server, packed.digest, bytes(packed.voxels)[:-1], len(packed.voxels)).status_code == 202
    with pytest.raises(MedFMError, match="send them first"):
        submit(server, request_for("mark a"), uploaded=True)


def test_a_job_of_another_client_is_not_there(server, request_for):
    name = submit(server, request_for("mark a"))
    headers = {**own(server), "X-MedFM-Client": "another"}
    answer = requests.get(f"{server.url}/medfm/v1/jobs/{name}/events", headers=headers, timeout=5)
    assert answer.status_code == 404


def test_the_log_says_nothing_of_patients(server, request_for):
    server.ask(request_for("mark Jane-Doe"))
    with pytest.raises(InputError):
        server.ask(request_for("fail Jane-Doe"))
    text = "\n".join(server.log)
    assert "PUT job 202" in text
    assert not any(word in text for word in ("Jane", "Größe", TOKEN, payload.pack(request_for("x")).digest))


# -- helpers -------------------------------------------------------------------------------------------


def large(question):
    """40 MB of voxels that don't compress."""
    voxels = np.random.default_rng(0).integers(-1000, 1000, (1, 256, 256, 305), dtype=np.int16)
    return Request("ask", Image(voxels, Geometry(voxels.shape[1:], np.eye(4)), "CT"), question=question)


def own(server):
    return {**server.headers, "X-MedFM-Client": "a-test"}


def upload(server, digest, piece, size=None):
    headers = {**own(server), "Upload-Offset": "0", "Upload-Length": str(size or len(piece))}
    return requests.patch(f"{server.url}/medfm/v1/volumes/{digest}", data=piece, headers=headers, timeout=10)


def submit(server, request, uploaded=False):
    """Submit a job by hand; → its name."""
    packed, name = payload.pack(request), secrets.token_hex(16)
    if not uploaded:
        upload(server, packed.digest, bytes(packed.voxels))
    headers = {**own(server), "MedFM-Volume": packed.digest}
    answer = requests.put(f"{server.url}/medfm/v1/jobs/{name}", data=packed.rest, headers=headers, timeout=10)
    if answer.status_code != 202:
        raise MedFMError(answer.json()["error"]["message"])
    return name


def result(server, name):
    """The response's bytes."""
    with requests.get(
        f"{server.url}/medfm/v1/jobs/{name}/events", headers=own(server), stream=True, timeout=20
    ) as answer:
        while True:
            kind, data = frames.read_frame(answer.raw)
            if kind == frames.RESPONSE:
                return data


class Relay:
    """A line to a port here that can be cut: all its connections, once, by hand or after so many bytes."""

    def __init__(self, port, limit=None):
        self._target, self._limit, self.passed, self.cuts = port, limit, 0, 0
        self._pairs = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        self.cuts += 1
        for pair in self._pairs:
            for end in pair:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self._listener.close()
        self.cut()

    def _accept(self):
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self._target))
            self._pairs.append((here, there))
            for source, sink in ((here, there), (there, here)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source, sink):
        try:
            while data := source.recv(65536):
                self.passed += len(data)
                if self._limit and self.passed > self._limit:
                    self._limit = None
                    return self.cut()
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                end.close()

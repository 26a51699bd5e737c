"""A MedFM server in a separate process, for tests that use it, kill it and check what remains."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

from MedFMLib.execution.remote import RemoteRunner
from MedFMLib.execution.remote.client import ServerClient

ROOT = Path(__file__).parents[2]
COMPUTES = Path(__file__).parents[1] / "execution" / "server" / "computes"
COMPUTE = "server_examples:Scripted"
TOKEN = "a-token-that-only-tests-use-0123456789"


class ServerInTest:
    """A server in a process of its own, and how to talk to it."""

    def __init__(self, *arguments: str, compute: str = COMPUTE, token: str = TOKEN, temp: Path | None = None):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(COMPUTES), str(ROOT)]),
            **({"TMPDIR": str(temp)} if temp else {}),
        }
        command = [
            sys.executable,
            "-u",
            "-m",
            "MedFMLib.execution.server",
            "--child",
            "--compute",
            compute,
            "--verbose",
            *arguments,
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, env=environment
        )
        self.temp = temp
        self.log: list[str] = []
        threading.Thread(target=self._read_log, daemon=True).start()
        self.token = token
        self.process.stdin.write(json.dumps({"token": token}).encode() + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(10)
            time.sleep(0.1)
            raise RuntimeError("\n".join(self.log))
        self.port = json.loads(line)["port"]
        self.url = f"http://127.0.0.1:{self.port}"

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line.decode().rstrip())

    @property
    def headers(self):
        """For plain HTTP requests."""
        return {"Authorization": f"Bearer {self.token}"}

    def client(self) -> ServerClient:
        """A new client of our own wire."""
        return ServerClient(self.url, self.token)

    def runner(self) -> RemoteRunner:
        """A new runner."""
        return RemoteRunner(self.url, self.token)

    def worker_pid(self) -> int:
        """Of its worker process, 0 if it has none."""
        return self.client().state()["workers"][0]["pid"]

    def ask(self, request):
        """The text of the first answer."""
        runner = self.runner()
        try:
            return runner.submit(request).result(30).answers[0].text
        finally:
            runner.close()

    def close(self):
        """End it as its parent's end does."""
        if self.process.poll() is None:
            self.process.stdin.close()
            self.process.wait(15)


def wait_for(condition, seconds: float, what: str):
    """Wait until something holds, or fail."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def in_threads(calls, seconds: float = 60):
    """Run functions at the same time; → results in order, errors raised."""
    results: queue.SimpleQueue = queue.SimpleQueue()

    def run(number, call):
        try:
            results.put((number, call(), None))
        except Exception as error:
            results.put((number, None, error))

    for number, call in enumerate(calls):
        threading.Thread(target=run, args=(number, call), daemon=True).start()
    found = sorted((results.get(timeout=seconds) for _ in calls), key=lambda item: item[0])
    for _, _, error in found:
        if error is not None:
            raise error
    return [value for _, value, _ in found]

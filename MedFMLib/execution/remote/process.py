"""Start and stop a server process of this application on a free loopback port.

The token is sent through the pipe, never on the command line or in the environment. The pipe also ties the server's
lifetime to this application: when it breaks, because the application ended, crashed or was killed, the server ends with
all processes that it started.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import subprocess
import threading
from collections import deque
from pathlib import Path

from ...errors import MedFMError
from ..worker.runner import end_process, python, read_log, why_ended
from .client import ServerClient

START_SECONDS = 120.0
"""How long the server may take to answer on a slow first start."""

BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from MedFMLib.execution.server.__main__ import main; main()"


class ServerProcess:
    """One server process, started when first needed. Used by one thread at a time, except `stop`.

    Args:
        arguments: further arguments for `python -m MedFMLib.execution.server`.
        interpreter: the Python that runs it; Slicer's own or this one if "".
    """

    def __init__(self, arguments: tuple[str, ...] = (), interpreter: str = ""):
        self._arguments, self._interpreter = arguments, interpreter
        self._process: subprocess.Popen | None = None
        self._client: ServerClient | None = None
        self._last_lines: deque[str] = deque(maxlen=20)
        self.pid = 0

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        process = self._process
        return process is not None and process.poll() is None

    def client(self) -> ServerClient:
        """Return a client of the server, which is started if it is not running.

        Raises:
            MedFMError: if it can't be started, with the reason.
        """
        if not self.running or self._client is None:
            self._client = self._start()
        return self._client

    def why(self) -> str:
        """Return in a few words why the process ended; call it only after it has."""
        process = self._process
        try:
            code = process.wait(2) if process else None
        except subprocess.TimeoutExpired:
            code = None
        return why_ended(code, list(self._last_lines))

    def stop(self) -> None:
        """End the process without waiting for it."""
        process, self._process = self._process, None
        if process is not None:
            threading.Thread(target=end_process, args=(process,), daemon=True).start()

    def _start(self) -> ServerClient:
        library, token = Path(__file__).resolve().parents[3], secrets.token_urlsafe(32)
        command = [self._interpreter or python(), "-u", "-c", BOOT, str(library), "--child", *self._arguments]
        self._last_lines = deque(maxlen=20)
        try:
            self._process = process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=os.name != "nt",
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise MedFMError(f"The engine can't be started ({error}); check the Python that runs it.") from error
        threading.Thread(target=read_log, args=(process, self._last_lines), daemon=True).start()
        hello: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=lambda: hello.put(process.stdout.readline()), daemon=True).start()
        try:
            process.stdin.write(json.dumps({"token": token}).encode() + b"\n")
            process.stdin.flush()
            content = json.loads(hello.get(timeout=START_SECONDS))
        except queue.Empty:
            end_process(process)
            raise MedFMError(f"The engine did not answer within {START_SECONDS:g} s; try again, or restart.") from None
        except (OSError, ValueError):
            raise MedFMError(f"The engine can't be started ({self.why()}).") from None
        self.pid = content["pid"]
        return ServerClient(f"http://127.0.0.1:{content['port']}", token, alive=lambda: process.poll() is None)

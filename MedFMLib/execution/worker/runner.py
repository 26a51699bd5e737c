"""Run jobs in a worker process, so that the application neither loads torch nor waits for it. No Qt, no MRML.

Importing torch holds Python's lock (GIL) for hundreds of milliseconds at a time, in whichever thread it happens; a
worker thread would freeze the window meanwhile. A process also returns its memory, and if it crashes only the job
fails.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from ...core.request import Request, Response
from ...errors import Cancelled, MedFMError
from ...hardware import memory_of
from ...interfaces.jobs import EngineState, LocalRunner, Progress
from .. import serialization
from ..messages import error_from_json, event_from_json, relay
from ..payload import Payload, file_of, look, pack
from . import frames

log = logging.getLogger(__name__)

GRACE_SECONDS = 5.0
"""How long a cancelled job may take to stop by itself; then the process is ended."""

WORKER = Path(__file__).with_name("process.py")
KILLED = (-9, 137)
CRASHED = (-11, -7, -6, -4, 139, 134, 0xC0000005, 0xC0000409, -1073741819)


@dataclass(frozen=True)
class WorkerState:
    """State of a worker process.

    Args:
        doing: "stopped", "idle" or "working".
        pid: process id, 0 if there is none.
        memory: main memory in use, bytes; 0 if unknown.
        loaded: the model that answered last, as {"model", "adapter", "precision"}, {} if none.
        crashes: number of unexpected ends.
    """

    doing: str
    pid: int
    memory: int
    loaded: dict[str, str]
    crashes: int


def python() -> str:
    """Return the interpreter for the worker; in Slicer, `sys.executable` is the application itself and can't be used."""
    return shutil.which("PythonSlicer") or sys.executable


class WorkerProcess:
    """One worker process, started when first needed and reused, with its loaded model, for later jobs.

    Used by one thread at a time, except `close`, `stop` and `state`, which any thread may use. After a crash a new
    process starts at once and loads the previous model, unless the process crashed before it had answered anything.

    Args:
        arguments: further arguments for process.py.
        interpreter: the Python that runs it; Slicer's own or this one if "".
    """

    def __init__(self, arguments: tuple[str, ...] = (), interpreter: str = ""):
        self._arguments, self._interpreter = arguments, interpreter
        self._process: subprocess.Popen | None = None
        self._frames: queue.SimpleQueue = queue.SimpleQueue()
        self._sending = threading.Lock()  # at most one process starts; no frame between a request and its voxels
        self._asked: subprocess.Popen | None = None  # the process that runs the job
        self._last_lines: deque[str] = deque(maxlen=20)
        self._loaded: dict[str, str] = {}
        self._working, self._received, self._crashes, self._closed = False, False, 0, False

    def run(self, request: Request, progress: Progress) -> Response:
        """Send a request to the process and relay its events until it is done.

        Args:
            request: the request.
            progress: receives the events.

        Raises:
            MedFMError: the error of the job, or that the process ended unexpectedly.
        """
        payload, file = pack(request), file_of(request.image.voxels)
        if file is not None:
            payload = Payload(payload.rest, file)
        return serialization.loads(self.run_payload(payload, progress))

    def run_payload(self, payload: Payload, progress: Progress) -> bytes:
        """Run a serialized request and return the serialized response.

        Args:
            payload: the request.
            progress: receives the events.

        Raises:
            MedFMError: the error of the job, or that the process ended unexpectedly.
        """
        progress.stage("Starting the worker" if self._process is None else "Sending the image")
        reused, self._received, self._working = self._process is not None, False, True
        try:
            response = self._send(payload, progress)
        except (EOFError, OSError) as error:
            death = self._death()
            if self._received or not reused or self._closed or progress.cancelled():
                raise death from error
            try:
                response = self._send(payload, progress)  # it had ended between two jobs, which this job did not cause
            except (EOFError, OSError) as again:
                raise self._death() from again
        finally:
            self._working = False
        request = look(payload.rest)[0]
        self._loaded = {"model": request.model, "adapter": request.adapter, "precision": request.precision}
        return response

    def prepare(self, model: str, adapter: str = "", precision: str = "") -> None:
        """Preload a model without waiting for it; errors are reported by the job that needs it.

        Args:
            model: id or folder.
            adapter: as in a request.
            precision: as in a request.
        """
        content = {"model": model, "adapter": adapter, "precision": precision}
        try:
            with self._sending:
                self._start().write_json(frames.LOAD, content)
        except (OSError, MedFMError):
            log.warning("The worker ended before it could preload a model")

    def start(self) -> None:
        """Start the process, if it is not running.

        Raises:
            MedFMError: if the interpreter can't be run.
        """
        with self._sending:
            self._start()

    @property
    def state(self) -> WorkerState:
        """Current state of the process."""
        process = self._process
        alive = process is not None and process.poll() is None
        doing = ("working" if self._working else "idle") if alive else "stopped"
        return WorkerState(
            doing, process.pid if alive else 0, memory_of(process.pid) if alive else 0, self._loaded, self._crashes
        )

    def stop(self) -> None:
        """End the process without waiting for it, which frees its memory; the next job starts another one."""
        process, self._process = self._process, None
        if process is not None:
            threading.Thread(target=end_process, args=(process,), daemon=True).start()

    def close(self) -> None:
        """End the process permanently."""
        self._closed = True
        self.stop()

    # -- internals -----------------------------------------------------------------------------

    def _start(self) -> frames.FrameWriter:
        if self._process is None:
            library = Path(__file__).resolve().parents[3]
            self._frames, self._last_lines = queue.SimpleQueue(), deque(maxlen=20)
            try:
                self._process = subprocess.Popen(
                    [self._interpreter or python(), "-u", str(WORKER), str(library), *self._arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=os.name != "nt",  # Ctrl-C in a terminal is for the parent, which then drains
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
                )
            except OSError as error:
                raise MedFMError(
                    f"The worker process can't be started ({error}); check the Python that runs it."
                ) from error
            for target in (_read_frames, read_log):
                arguments = (self._process, self._frames if target is _read_frames else self._last_lines)
                threading.Thread(target=target, args=arguments, daemon=True).start()
            self._writer = frames.FrameWriter(self._process.stdin)
        return self._writer

    def _send(self, payload: Payload, progress: Progress) -> bytes:
        with self._sending:
            writer = self._start()
            self._asked, received = self._process, self._frames
            writer.write(frames.REQUEST, payload.rest)
            if isinstance(payload.voxels, Path):
                writer.write(frames.VOXELS_FILE, os.fsencode(payload.voxels))
            else:
                writer.write(frames.VOXELS, payload.voxels)
        return self._follow(writer, received, progress)

    def _follow(self, writer: frames.FrameWriter, received: queue.SimpleQueue, progress: Progress) -> bytes:
        asked_to_stop = None
        while True:
            if asked_to_stop is None and progress.cancelled():
                asked_to_stop = time.monotonic()
                writer.write(frames.CANCEL)
            try:
                kind, data = received.get(timeout=0.05)
            except queue.Empty:
                if asked_to_stop is not None and time.monotonic() - asked_to_stop > GRACE_SECONDS:
                    self.stop()  # it runs something that can't be interrupted, e.g. an import
                    raise Cancelled() from None
                continue
            self._received = self._received or kind != b""
            if kind == frames.RESPONSE:
                return data
            if kind == frames.ERROR:
                raise error_from_json(json.loads(data))
            if kind == b"":
                raise EOFError
            try:
                relay(event_from_json(json.loads(data)), progress)
            except Cancelled:
                continue  # the worker has to receive the cancellation first

    def _death(self) -> MedFMError:
        process, code = self._asked, None
        if process is not self._process:
            return MedFMError(
                "The worker process was stopped; the scene is unchanged. Run the job again if you need it."
            )
        self._process = None
        if process is not None:
            try:
                code = process.wait(5)
            except subprocess.TimeoutExpired:
                end_process(process)
        self._crashes += 1
        log.error("The worker ended with code %s", code)
        why = why_ended(code, list(self._last_lines))
        loaded, self._loaded = self._loaded, {}
        if loaded and not self._closed:
            self.prepare(**loaded)
        return MedFMError(
            f"The worker process ended unexpectedly ({why}); the scene is unchanged. "
            "Run again, with a lower precision or a smaller model if memory is short."
        )


def why_ended(code: int | None, last_words: list[str]) -> str:
    """Return in a few words why a process ended.

    Args:
        code: exit code; None if unknown.
        last_words: the last lines that it wrote to stderr.
    """
    lines = [line.strip() for line in last_words if line.strip()]
    for line in reversed(lines):
        if found := re.search(r"No module named '([^']+)'", line):
            return f"the Python package '{found[1].partition('.')[0]}' is missing; install MedFM's packages"
        if "MemoryError" in line or "bad_alloc" in line:
            return "the memory ran out"
    if code in KILLED:
        return "the system ended it, most likely because the memory ran out"
    if code in CRASHED:
        return f"it crashed in compiled code, exit code {code}"
    return lines[-1][:200] if lines else f"exit code {code}, no message"


def end_tree(process: subprocess.Popen) -> None:
    """Kill a process and, where the system has process groups, all processes that it started."""
    try:
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    except (OSError, PermissionError):
        pass  # it has ended already


def end_process(process: subprocess.Popen) -> None:
    """End a process that watches its stdin and wait for it; also works through launchers such as PythonSlicer."""
    try:
        process.stdin.close()
    except OSError:
        pass  # it has ended already
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        end_tree(process)
        process.wait()


def _read_frames(process: subprocess.Popen, target: queue.SimpleQueue) -> None:
    try:
        while True:
            target.put(frames.read_frame(process.stdout))
    except (EOFError, OSError, ValueError):
        pass
    finally:  # whatever happens, a job must not wait forever
        target.put((b"", b""))


def read_log(process: subprocess.Popen, target: deque) -> None:
    """Append the lines that a process writes to stderr.

    Args:
        process: with a piped stderr.
        target: receives the lines; its length limits how many are kept.
    """
    for line in process.stderr:
        text = line.decode("utf-8", "replace").rstrip()
        target.append(text)
        log.debug("process %s: %s", process.pid, text)


class ProcessRunner(LocalRunner):
    """A runner whose only thread waits for the worker process.

    Args:
        arguments: see `WorkerProcess`.
        interpreter: see `WorkerProcess`.
    """

    def __init__(self, arguments: tuple[str, ...] = (), interpreter: str = ""):
        self.worker = WorkerProcess(arguments, interpreter)
        super().__init__(self.worker.run)

    def state(self) -> EngineState:
        """Implement `Runner.state`."""
        state, waiting = self.worker.state, super().state().waiting
        note = f"It ended unexpectedly {state.crashes} times." if state.crashes else ""
        return EngineState(state.doing, state.memory, waiting, state.loaded.get("model", ""), note)

    def start(self) -> None:
        """Implement `Runner.start`; loads no model."""
        self.worker.start()

    def stop(self) -> None:
        """Implement `Runner.stop`."""
        self.worker.stop()

    def close(self) -> None:
        """Cancel all jobs and end the process."""
        super().close()
        self.worker.close()

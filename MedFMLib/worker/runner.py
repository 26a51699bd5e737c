"""Runs jobs in a worker process, so that the application neither loads torch nor waits for it. No Qt, no MRML.

Importing torch holds Python's lock for hundreds of milliseconds at a time, whatever thread does it; a worker
thread would freeze the window then. A process also gives its memory back, and when it dies only the job fails.
"""

from __future__ import annotations

import logging
import queue
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from .. import wire
from ..errors import Cancelled, MedFMError
from ..request import Request, Response
from ..runner import LocalRunner, Progress
from . import frames

log = logging.getLogger(__name__)

GRACE_SECONDS = 5.0
"""How long a cancelled job may take to stop by itself; then the process is ended."""

WORKER = Path(__file__).with_name("process.py")


def python() -> str:
    """The interpreter for the worker: in Slicer, `sys.executable` is the application itself."""
    return shutil.which("PythonSlicer") or sys.executable


class WorkerProcess:
    """One worker process, started when it is first needed and kept, with its loaded model, for the next job.

    Used by one thread at a time.

    Args:
        arguments: further ones for process.py, for tests.
    """

    def __init__(self, arguments: tuple[str, ...] = ()):
        self._arguments = arguments
        self._process: subprocess.Popen | None = None
        self._frames: queue.SimpleQueue = queue.SimpleQueue()
        self._last_words: deque[str] = deque(maxlen=20)

    def run(self, request: Request, progress: Progress) -> Response:
        """Send the request and relay what the worker says until it is done.

        Raises:
            MedFMError: what the worker raised, or that it died.
        """
        progress.stage("Starting the worker" if self._process is None else "Sending the image")
        try:
            writer = self._start()
            rest, voxels = frames.split_request(request)
            writer.write(frames.REQUEST, rest)
            writer.write(frames.VOXELS, voxels)
            return self._follow(writer, progress)
        except (EOFError, OSError) as error:
            raise self._death() from error

    def close(self) -> None:
        """End the process without waiting for it."""
        process, self._process = self._process, None
        if process is not None:
            threading.Thread(target=_end, args=(process,), daemon=True).start()

    # -- inside --------------------------------------------------------------------------------

    def _start(self) -> frames.FrameWriter:
        if self._process is None:
            library = Path(__file__).resolve().parents[2]
            self._frames, self._last_words = queue.SimpleQueue(), deque(maxlen=20)
            self._process = subprocess.Popen(
                [python(), "-u", str(WORKER), str(library), *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
            for target in (_read_frames, _read_log):
                arguments = (self._process, self._frames if target is _read_frames else self._last_words)
                threading.Thread(target=target, args=arguments, daemon=True).start()
            self._writer = frames.FrameWriter(self._process.stdin)
        return self._writer

    def _follow(self, writer: frames.FrameWriter, progress: Progress) -> Response:
        tell = {
            frames.STAGE: lambda data: progress.stage(data.decode()),
            frames.FRACTION: lambda data: progress.fraction(*struct.unpack("<d", data)),
            frames.TEXT: lambda data: progress.partial(data.decode()),
            frames.NOTE: lambda data: progress.note(data.decode()),
        }
        asked_to_stop = None
        while True:
            if asked_to_stop is None and progress.cancelled():
                asked_to_stop = time.monotonic()
                writer.write(frames.CANCEL)
            try:
                kind, data = self._frames.get(timeout=0.05)
            except queue.Empty:
                if asked_to_stop is not None and time.monotonic() - asked_to_stop > GRACE_SECONDS:
                    self.close()  # it is deep in something that can't be interrupted, e.g. an import
                    raise Cancelled() from None
                continue
            if kind == frames.DONE:
                return wire.loads(data)
            if kind == frames.ERROR:
                raise frames.error_from(data)
            if kind == b"":
                raise EOFError
            try:
                tell[kind](data)
            except Cancelled:
                continue  # the worker has to hear of it first

    def _death(self) -> MedFMError:
        process, self._process = self._process, None
        code = process.wait(5) if process is not None else None
        log.error("The worker ended with code %s; its last words: %s", code, "\n".join(self._last_words))
        why = next((line for line in reversed(self._last_words) if line.strip()), "no message")
        if code in (-9, 137):
            why = "it was ended by the system, probably for want of memory"
        return MedFMError(
            f"The worker process ended unexpectedly ({why}); the scene is unchanged. "
            "Run again, with a lower precision or a smaller model if memory is short."
        )


def _end(process: subprocess.Popen) -> None:
    """The worker watches its stdin, so this works through launchers such as PythonSlicer, too."""
    try:
        process.stdin.close()
    except OSError:
        pass  # it has gone already
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _read_frames(process: subprocess.Popen, target: queue.SimpleQueue) -> None:
    try:
        while True:
            target.put(frames.read_frame(process.stdout))
    except (EOFError, OSError, ValueError):
        target.put((b"", b""))


def _read_log(process: subprocess.Popen, target: deque) -> None:
    for line in process.stderr:
        text = line.decode("utf-8", "replace").rstrip()
        target.append(text)
        log.debug("worker: %s", text)


class ProcessRunner(LocalRunner):
    """A runner whose one thread only waits for the worker process.

    Args:
        arguments: further ones for process.py, for tests.
    """

    def __init__(self, arguments: tuple[str, ...] = ()):
        self._worker = WorkerProcess(arguments)
        super().__init__(self._worker.run)

    def close(self) -> None:
        """Cancel all jobs and end the process."""
        super().close()
        self._worker.close()

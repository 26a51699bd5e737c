"""Run one task in a subprocess: the task is a JSON line on its stdin, the progress JSON lines on its stdout.

{"result": …} or {"error": …} is the last line; all others report progress. The subprocess ends when its stdin ends.
Knows no task.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from ..errors import Cancelled, MedFMError
from ..interfaces.jobs import Progress
from .worker.runner import python

WAIT_SECONDS = 5
"""How long a subprocess may clean up before it is killed."""


def run(
    script: Path,
    task: dict,
    progress: Progress,
    on_line: Callable[[dict], None],
    words: tuple[str, str],
    environment: dict[str, str],
    interpreter: str = "",
):
    """Run a subprocess to its end and return its result.

    Args:
        script: Python file that takes the library's folder as its argument.
        task: the task, as JSON can hold it.
        progress: for cancellation.
        on_line: receives every line except the result; raises for lines that are errors.
        words: (message if it was cancelled, message if it ended without a result).
        environment: environment variables of the subprocess.
        interpreter: Python interpreter that runs it; "" for `execution.worker.runner.python`.

    Raises:
        Cancelled: if it was cancelled.
        MedFMError: if it ended without a result or can't be started; also what `on_line` raises.
    """
    stopped, ended = words
    process = subprocess.Popen(
        [interpreter or python(), "-u", str(script), str(Path(__file__).resolve().parents[2])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )  # fmt: skip
    lines: queue.SimpleQueue[dict | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    try:
        process.stdin.write(json.dumps(task).encode() + b"\n")
        process.stdin.flush()
        while True:
            if progress.cancelled():
                raise Cancelled(stopped)
            try:
                line = lines.get(timeout=0.2)
            except queue.Empty:
                continue
            if line is None:
                raise MedFMError(ended)
            if "result" in line:
                return line["result"]
            on_line(line)
    except BrokenPipeError:
        raise MedFMError(ended) from None
    finally:
        _end(process)


def forward_progress(progress: Progress, failure: type[MedFMError]) -> Callable[[dict], None]:
    """Return an `on_line` that forwards the lines of `SubprocessProgress` to a progress.

    Args:
        progress: receives stages, fractions and notes.
        failure: class of the exception for an error line.
    """

    def on_line(line: dict) -> None:
        if "error" in line:
            raise failure(line["error"])
        for name in ("stage", "fraction", "note"):
            if name in line:
                getattr(progress, name)(line[name])

    return on_line


def _end(process: subprocess.Popen) -> None:
    try:
        process.stdin.close()  # ends the subprocess, also when it was started through a launcher
    except OSError:
        pass
    try:
        process.wait(WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
    process.stdout.close()


def _read(stream, lines: queue.SimpleQueue) -> None:
    try:
        for line in stream:
            lines.put(json.loads(line))
    except (OSError, ValueError):
        pass  # closed, or an incomplete last line
    lines.put(None)

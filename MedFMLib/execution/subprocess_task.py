"""A process that does one task: told as a JSON line on its stdin, heard as JSON lines from its stdout. Knows no task.

{"result": …} or {"error": …} ends it; anything else is on the way. The child ends when its stdin does.
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
"""How long a child may tidy up before it is killed."""


def run(
    script: Path,
    task: dict,
    progress: Progress,
    on_line: Callable[[dict], None],
    words: tuple[str, str],
    environment: dict[str, str],
    interpreter: str = "",
):
    """Run a child to its end; → its result.

    Args:
        script: takes the library's folder as its argument.
        task: what is told.
        on_line: gets every line but the result; raises for those that are errors.
        words: what to say when it was stopped, and when it ended without a word.
        environment: its variables. interpreter: the Python that runs it; see `execution.worker.runner.python`.

    Raises:
        Cancelled: it was stopped. MedFMError: it ended, or can't be started. And what `on_line` raises.
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
    """What to do with a line of `told.Told`: steps go to the progress.

    Args:
        failure: what an error is raised as.
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
        process.stdin.close()  # the child ends then, also behind a launcher
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
        pass  # closed, or cut off in the middle
    lines.put(None)

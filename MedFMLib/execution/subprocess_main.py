"""Run one task in a subprocess started by `subprocess_task`, and write its progress as JSON lines. Knows no task.

A script contains only:

    if __name__ == "__main__":
        sys.path[:1] = [sys.argv[1]]  # the library's folder, instead of the script's
        from MedFMLib.execution.subprocess_main import serve

        serve(work, "Adapters need the Python package '{}', which is missing; install MedFM's packages.")
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from ..errors import MedFMError
from ..interfaces.jobs import Event, Fraction, Note, ProgressBase, Stage


class SubprocessProgress(ProgressBase):
    """A `Progress` that writes JSON lines for the parent process.

    A stage ends the work with `Cancelled` once the parent has ended.

    Args:
        stream: text stream to the parent.
    """

    def __init__(self, stream):
        self._stream, self._lock, self._stop = stream, threading.Lock(), threading.Event()

    def write(self, **content) -> None:
        """Write one line."""
        with self._lock:
            self._stream.write(json.dumps(content) + "\n")
            self._stream.flush()

    def stop(self) -> None:
        """Record that the parent has ended."""
        self._stop.set()

    def cancelled(self) -> bool:
        """Implement `Progress.cancelled`."""
        return self._stop.is_set()

    def report(self, event: Event) -> None:
        """Write a stage, fraction or note; streamed text of an answer is not sent."""
        match event:
            case Stage(name):
                self.write(stage=name)
            case Fraction(value):
                self.write(fraction=value)
            case Note(text):
                self._stop_if_cancelled()
                self.write(note=text)


def serve(
    work: Callable[[dict, SubprocessProgress], Any],
    lacking: str,
    gone: Callable[[dict, SubprocessProgress], None] = lambda task, progress: progress.stop(),
) -> None:
    """Run one task and end the process; its last line is {"result": …} or {"error": a sentence}.

    Args:
        work: runs the task with a progress and returns a value that JSON can hold.
        lacking: sentence for a missing package, with {} for its name.
        gone: called on its own thread when stdin ends, that is, when the parent has ended.
    """
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to stderr
    progress, task = SubprocessProgress(stdout), json.loads(sys.stdin.readline())
    threading.Thread(target=lambda: (sys.stdin.read(), gone(task, progress)), daemon=True).start()
    try:
        progress.write(result=work(task, progress))
    except MedFMError as error:
        progress.write(error=str(error))
    except ImportError as error:
        progress.write(error=lacking.format((error.name or str(error)).partition(".")[0]))
    except Exception as error:
        progress.write(error=f"It could not be done ({type(error).__name__}: {' '.join(str(error).split())[:300]}).")
    finally:
        os._exit(0)  # without waiting for the thread that reads stdin

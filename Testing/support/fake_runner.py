"""A runner that plays a script, for tests of its users; it has the interface of real ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from MedFMLib.core.request import Request, Response
from MedFMLib.errors import Cancelled
from MedFMLib.interfaces.jobs import EngineState, Event, Fraction, Job, Note, PartialText, Progress, Stage, run_job


class FakeRunner:
    """Plays a script of events, for tests of whatever drives a runner.

    Args:
        response: the response, or a function of the request, or an error to fail with.
        script: progress before the end; `Stage`, `Fraction`, `PartialText`, `Note`.
        pause: seconds between events; with `hold=True` the job goes on until `release()` or a cancel.
    """

    def __init__(self, response=None, script: Iterable[Event] = (), pause: float = 0.0, hold: bool = False):
        self.response, self.script, self.pause = response, list(script), pause
        self.requests: list[Request] = []
        self._go = threading.Event()
        if not hold:
            self._go.set()

    def release(self) -> None:
        """Let held jobs end."""
        self._go.set()

    def submit(self, request: Request) -> Job:
        """Start playing on a thread."""
        self.requests.append(request)
        job = Job(request)
        threading.Thread(target=run_job, args=(job, self._play), daemon=True).start()
        return job

    def state(self) -> EngineState:
        """See `Runner`."""
        return EngineState("idle" if self._go.is_set() else "working")

    def start(self) -> None:
        """See `Runner`."""

    def stop(self) -> None:
        """See `Runner`."""

    def close(self) -> None:
        """Let held jobs end."""
        self._go.set()

    def _play(self, request: Request, progress: Progress) -> Response:
        for event in self.script:
            if progress.cancelled():
                raise Cancelled()
            tell = {
                Stage: lambda e: progress.stage(e.name),
                Fraction: lambda e: progress.fraction(e.value),
                PartialText: lambda e: progress.partial(e.text),
                Note: lambda e: progress.note(e.text),
            }
            tell[type(event)](event)
            time.sleep(self.pause)
        while not self._go.wait(0.005):
            if progress.cancelled():
                raise Cancelled()
        if isinstance(self.response, BaseException):
            raise self.response
        return self.response(request) if callable(self.response) else self.response

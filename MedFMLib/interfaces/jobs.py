"""Define jobs that run in the background: `Job`, its events, `Runner` and `LocalRunner` (a worker thread).

A runner takes a `Request` and returns a `Job` at once. The owner of the job reads `events()` whenever it likes (the
panel: from a timer on the GUI thread), may `cancel()` the job, and takes `result()`. This module knows no Qt, MRML or
torch: the computation is passed in as a function `(request, progress) -> Response`.

Concurrency: one worker thread per `LocalRunner` runs its jobs one after the other (one loaded model, one user of it).
Events travel through a `queue.SimpleQueue`; the only other shared state is the job's cancel flag and its outcome, which
is written once before the last event is put.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..core.request import Request, Response
from ..errors import Cancelled, MedFMError
from ..hardware import memory_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """The start of a new stage, e.g. "Loading the model"."""

    name: str


@dataclass(frozen=True)
class Fraction:
    """The progress of the job, 0…1."""

    value: float


@dataclass(frozen=True)
class PartialText:
    """Text to append to the answer being written."""

    text: str


@dataclass(frozen=True)
class Note:
    """A message for the user, e.g. that the job will take long."""

    text: str


@dataclass(frozen=True)
class Waiting:
    """The position in a queue: `ahead` other jobs, including the running ones, come first."""

    ahead: int


@dataclass(frozen=True)
class Done:
    """The successful end of the job; `Job.result()` has the response."""


@dataclass(frozen=True)
class Failed:
    """The end of the job with an error, in one sentence."""

    message: str


@dataclass(frozen=True)
class Stopped:
    """The end of a cancelled job; there is no result."""


Event = Stage | Fraction | PartialText | Note | Waiting | Done | Failed | Stopped
END = (Done, Failed, Stopped)
"""A job's last event is one of these, and it has exactly one of them."""


@runtime_checkable
class Progress(Protocol):
    """Receiver of progress reports from running code; `Job` and `NoProgress` implement it."""

    def stage(self, name: str) -> None:
        """Report that a stage begins. Raises `Cancelled` if the job was cancelled."""

    def fraction(self, value: float) -> None:
        """Report that the job is `value` (0…1) done. Raises `Cancelled` if the job was cancelled."""

    def partial(self, text: str) -> None:
        """Report more text of the answer."""

    def note(self, text: str) -> None:
        """Report a message for the user."""

    def cancelled(self) -> bool:
        """Return whether the job was cancelled, for inner loops that must end themselves."""


class ProgressBase:
    """Base class of every `Progress`: each call becomes one event for `report`.

    A subclass overrides `report`, and also `cancelled` where its work can be stopped.
    """

    def report(self, event: Event) -> None:
        """Receive one event: a `Stage`, `Fraction`, `PartialText` or `Note`; ignored unless overridden."""

    def cancelled(self) -> bool:
        """Return whether the job was cancelled; always False unless overridden."""
        return False

    def stage(self, name: str) -> None:
        """Implement `Progress.stage`."""
        self._stop_if_cancelled()
        self.report(Stage(name))

    def fraction(self, value: float) -> None:
        """Implement `Progress.fraction`."""
        self._stop_if_cancelled()
        self.report(Fraction(min(max(float(value), 0.0), 1.0)))

    def partial(self, text: str) -> None:
        """Implement `Progress.partial`."""
        self.report(PartialText(text))

    def note(self, text: str) -> None:
        """Implement `Progress.note`."""
        self.report(Note(text))

    def _stop_if_cancelled(self) -> None:
        if self.cancelled():
            raise Cancelled()


class NoProgress(ProgressBase):
    """A `Progress` that ignores all reports."""


class Job(ProgressBase):
    """One submitted request. Safe to use from the owner's thread while a worker reports to it.

    A cancelled job ends at once for its owner, whatever the worker is doing; later reports of the worker are dropped.
    """

    def __init__(self, request: Request):
        self.request = request
        self._queue: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._cancel = threading.Event()
        self._ended = threading.Event()
        self._ending = threading.Lock()  # ensures that exactly one end event is queued, as the last event
        self._response: Response | None = None
        self._error: MedFMError | None = None

    # -- the owner's side ------------------------------------------------------------------------

    def events(self) -> list[Event]:
        """Return all new events, oldest first, without waiting."""
        events = []
        while True:
            try:
                events.append(self._queue.get_nowait())
            except queue.Empty:
                return events

    def stream(self, timeout: float | None = None) -> Iterator[Event]:
        """Yield events as they arrive, up to and including the last.

        Args:
            timeout: seconds to wait for the next event; forever if None.

        Raises:
            TimeoutError: if no event arrives for `timeout` seconds.
        """
        while True:
            try:
                event = self._queue.get(timeout=timeout)
            except queue.Empty:
                raise TimeoutError(f"The job reported nothing for {timeout} s.") from None
            yield event
            if isinstance(event, END):
                return

    def cancel(self) -> None:
        """Cancel the job; it ends with `Stopped` at once, unless it has ended already."""
        self._cancel.set()
        self.fail(Cancelled())

    @property
    def ended(self) -> bool:
        """Whether the job has ended, successfully or not."""
        return self._ended.is_set()

    @property
    def error(self) -> MedFMError | None:
        """The error of a job that has failed or was cancelled; None for any other."""
        return self._error

    def result(self, timeout: float | None = None) -> Response:
        """Wait for the response and return it.

        Args:
            timeout: seconds to wait; forever if None.

        Raises:
            MedFMError: the error of the job; `Cancelled` if it was cancelled.
            TimeoutError: if it is still running after `timeout` seconds.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"The job is still running after {timeout} s.")
        if self._error is not None:
            raise self._error
        assert self._response is not None
        return self._response

    # -- the worker's side (`Progress`) ------------------------------------------------------------

    def report(self, event: Event) -> None:
        """Queue an event for the owner; events after the job's end are dropped."""
        with self._ending:
            if not self._ended.is_set():
                self._put(event)

    def waiting(self, ahead: int) -> None:
        """Report how many jobs come first, for runners with a queue."""
        self.report(Waiting(ahead))

    def cancelled(self) -> bool:
        """Implement `Progress.cancelled`."""
        return self._cancel.is_set()

    def finish(self, response: Response) -> None:
        """End the job successfully with its response."""
        self._end(Done(), response=response)

    def fail(self, error: MedFMError) -> None:
        """End the job with an error; `Cancelled` if the user cancelled it."""
        self._end(Stopped() if isinstance(error, Cancelled) else Failed(str(error)), error=error)

    def _put(self, event: Event) -> None:
        self._queue.put(event)

    def _end(self, event: Event, response: Response | None = None, error: MedFMError | None = None) -> None:
        with self._ending:
            if not self._ended.is_set():
                self._response, self._error = response, error
                self._ended.set()
                self._put(event)


Compute = Callable[[Request, Progress], Response]


@dataclass(frozen=True)
class EngineState:
    """State of an engine, for display.

    Args:
        doing: "stopped", "idle" or "working".
        memory: main memory in use, bytes; 0 if unknown.
        waiting: number of waiting jobs, of all clients.
        model: id of the model that answered last; "" if none.
        note: further information, e.g. that the engine crashed twice.
    """

    doing: str
    memory: int = 0
    waiting: int = 0
    model: str = ""
    note: str = ""


class Runner(Protocol):
    """Backend that runs jobs."""

    def submit(self, request: Request) -> Job:
        """Start (or queue) the request and return its job at once."""

    def state(self) -> EngineState:
        """Return the current state of the engine. Not for a GUI thread: a remote engine is asked over the network.

        Raises:
            MedFMError: if the engine can't be reached.
        """

    def start(self) -> None:
        """Prepare for the first job, where that takes time.

        Raises:
            MedFMError: if the engine can't be started or reached.
        """

    def stop(self) -> None:
        """Free the engine's memory; the next job starts it again."""

    def close(self) -> None:
        """Cancel running jobs and free the resources."""


def run_job(job: Job, compute: Compute) -> None:
    """Run a job to its end in this thread; every outcome becomes an event, no exception is raised.

    Args:
        job: the job to run.
        compute: computes the response from the job's request and its progress.
    """
    try:
        response = compute(job.request, job)
        for segment in response.segmentation.segments if response.segmentation else ():
            segment.cropped  # noqa: B018 - computed here, so that writing it does not block a GUI thread
        job.finish(response)
    except MedFMError as error:
        job.fail(error)
    except MemoryError:
        job.fail(
            MedFMError("The computer ran out of memory; choose a lower precision, fewer slices or a smaller model.")
        )
    except Exception as error:
        # The traceback goes to the log for maintainers; the user gets one sentence.
        log.exception("A %s job failed", job.request.task)
        job.fail(
            MedFMError(
                f"The job failed unexpectedly ({type(error).__name__}: {_first_line(error)}); "
                "the scene is unchanged. Please report it with the log."
            )
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no details"])[0][:200]


class LocalRunner:
    """A runner with one worker thread of this process; jobs run in the order in which they were submitted.

    Args:
        compute: runs a job.
        make: creates `compute` on the worker thread when the first job starts; exclusive with `compute`. `stop` drops
            what it created.
    """

    def __init__(self, compute: Compute | None = None, *, make: Callable[[], Compute] | None = None):
        if (compute is None) == (make is None):
            raise TypeError("a LocalRunner takes either compute or make")
        self._compute, self._make = compute, make
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._open: list[Job] = []
        self._lock = threading.Lock()  # guards _thread, _open and _closed
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, request: Request) -> Job:
        """Queue the request and return its job at once.

        Raises:
            MedFMError: if the runner was closed.
        """
        job = Job(request)
        with self._lock:
            if self._closed:
                raise MedFMError("This runner was closed; open the module again.")
            self._open = [j for j in self._open if not j.ended] + [job]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="MedFM worker", daemon=True)
                self._thread.start()
        self._jobs.put(job)
        return job

    def state(self) -> EngineState:
        """Implement `Runner.state`; the memory is that of this process."""
        with self._lock:
            open_jobs = sum(not job.ended for job in self._open)
        return EngineState("working" if open_jobs else "idle", memory_of(os.getpid()), max(open_jobs - 1, 0))

    def start(self) -> None:
        """Implement `Runner.start`; there is nothing to start."""

    def stop(self) -> None:
        """Implement `Runner.stop`: drop what `make` created, with its model, unless a job is running."""
        if self._make is not None and self.state().doing != "working":
            self._compute = None

    def close(self) -> None:
        """Cancel all jobs; the thread ends after the current step."""
        with self._lock:
            self._closed = True
            for job in self._open:
                job.cancel()
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if self._compute is None:
                self._compute = self._make()
            if not job.ended:
                run_job(job, self._compute)

"""Queue the jobs of a server fairly across clients, keep records for reconnecting clients, and run worker processes.

Each client has its own queue and the queues take turns, so that a client with a thousand jobs delays another's job by
one job. A job without a listener is cancelled after a while; a finished one is kept for a client that lost its
connection.

Concurrency: HTTP handlers run on one event loop; each worker process has one thread here that takes jobs and waits for
it. `JobQueue._changed` guards the queues; a `JobRecord` has the lock of its `Job`, and wakes its listeners on the loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import replace

from ...core.request import Request
from ...errors import Cancelled, MedFMError
from ...interfaces.jobs import END, Event, Fraction, Job, Waiting
from ..messages import event_as_json
from ..payload import Payload
from ..worker.runner import WorkerProcess, WorkerState
from .metrics import Metrics
from .settings import ServerLimits
from .volumes import Volumes

log = logging.getLogger(__name__)

PULSE = 0.2
"""Seconds between pulses on an event stream; a client that cancels is noticed within that time."""

FRACTIONS = 0.05
"""Shortest time in seconds between two fractions that are sent."""


class Busy(MedFMError):
    """The queue is full (status 429)."""


class Draining(MedFMError):
    """The server is shutting down (503)."""


class UnknownJob(MedFMError):
    """There is no such job of this client (404)."""


class JobRecord(Job):
    """One job of a client, with all its events.

    Args:
        name: id that the client chose.
        client: the client's name.
        request: the request.
        payload: the serialized request with its voxels.
        digest: SHA-256 of the uploaded volume that the job uses, or "".
        seconds: longest running time.
        loop: event loop of its listeners.
    """

    def __init__(self, name: str, client: str, request: Request, payload: Payload, digest: str, seconds: float, loop):
        super().__init__(request)
        self.name, self.client, self.payload, self.digest = name, client, payload, digest
        self.result: bytes | None = None
        self.submitted, self.started, self.finished = time.monotonic(), 0.0, 0.0
        self.listeners, self.received = 0, self.submitted
        self._limit, self._loop = seconds, loop
        self._events: list[dict] = []
        self._fraction_sent = 0.0
        self._news = asyncio.Event()

    @property
    def overdue(self) -> bool:
        """Whether the job has run longer than allowed."""
        return bool(self.started) and time.monotonic() - self.started > self._limit

    def cancelled(self) -> bool:
        """Implement `Progress.cancelled`; an overdue job has to stop as well."""
        return super().cancelled() or self.overdue

    def deliver(self, response: bytes) -> None:
        """End the job with its serialized response."""
        self.result = response
        self.finish(None)

    def fail(self, error: MedFMError) -> None:
        """End the job without a result."""
        if self.overdue and isinstance(error, Cancelled):
            error = MedFMError(
                f"The job took longer than {self._limit:g} s, the limit of this server; choose fewer slices or structures."
            )
        super().fail(error)

    @property
    def error(self) -> MedFMError | None:
        """Error with which the job ended, or None."""
        return self._error

    def _put(self, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, Fraction) and now - self._fraction_sent < FRACTIONS:
            return
        if isinstance(event, END):
            self.finished = now
        else:
            self._fraction_sent = now if isinstance(event, Fraction) else self._fraction_sent
            self._events.append({"n": len(self._events) + 1, **event_as_json(event)})
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, after: int = 0, ahead=lambda record: 0) -> AsyncIterator[dict | None]:
        """Yield the events after the n-th as JSON, and None at least every `PULSE` seconds; ends with the job.

        Args:
            after: number of the last event that the listener already has.
            ahead: record → number of jobs before it in the queue; an event is sent when it changes.
        """
        self.listeners += 1
        reported = 0
        try:
            while True:
                news, ended = self._news, self.ended
                for event in self._events[after:]:
                    after = event["n"]
                    yield event
                if ended:
                    return
                waiting = 0 if self.started else ahead(self)
                if waiting != reported:
                    reported = waiting
                    yield event_as_json(Waiting(waiting))
                try:
                    await asyncio.wait_for(news.wait(), PULSE)
                except TimeoutError:
                    yield None
        finally:
            self.listeners -= 1
            self.received = time.monotonic()


class JobQueue:
    """All jobs of a server.

    Args:
        limits: limits of clients.
        volumes: the uploaded volumes.
        metrics: counts jobs.
        workers: worker processes, each with one thread; one loaded model is shared by all clients.
    """

    def __init__(self, limits: ServerLimits, volumes: Volumes, metrics: Metrics, workers: list[WorkerProcess]):
        self._limits, self._volumes, self._metrics, self._workers = limits, volumes, metrics, workers
        self._records: dict[tuple[str, str], JobRecord] = {}
        self._queues: OrderedDict[str, deque[JobRecord]] = OrderedDict()  # the client whose turn is next comes first
        self._running: set[JobRecord] = set()
        self._changed = threading.Condition()
        self._closed = self.draining = False
        self._idle_since = time.monotonic()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the threads; call it on the event loop."""
        self._loop = asyncio.get_running_loop()
        for worker in self._workers:
            threading.Thread(target=self._work, args=(worker,), name="MedFM job", daemon=True).start()

    # -- clients -------------------------------------------------------------------------------------

    def require_capacity(self, client: str, name: str = "") -> None:
        """Check that a client may submit another job, or repeat the job of that name.

        Args:
            client: name of the client.
            name: id of the job.

        Raises:
            Draining: if the server is shutting down.
            Busy: if too many jobs wait.
        """
        with self._changed:
            if (client, name) in self._records:
                return
            if self.draining:
                raise Draining("The server is shutting down; send the job again in a minute.")
            waiting = sum(map(len, self._queues.values()))
            if waiting >= self._limits.queue:
                raise Busy(f"{waiting} jobs are waiting, the limit of this server; try again in a few seconds.")
            own = len(self._queues.get(client, ()))
            if own >= self._limits.client_queue:
                raise Busy(
                    f"{own} of your jobs are waiting, the limit for one client; wait until one of them has ended."
                )

    def submit(self, client: str, name: str, request: Request, payload: Payload, digest: str = "") -> JobRecord:
        """Queue a job; return the existing one if there is one of that name.

        Args:
            client: name of the client.
            name: id of the job, chosen by the client.
            request: the request.
            payload: the serialized request with its voxels.
            digest: SHA-256 of the volume that the job uses; the volume is released when the job ends.

        Raises:
            Draining: see `require_capacity`.
            Busy: see `require_capacity`.
        """
        if (client, name) in self._records:
            if digest:
                self._volumes.release(digest)
            return self._records[client, name]
        self.require_capacity(client)
        record = JobRecord(name, client, request, payload, digest, self._limits.seconds_per_job, self._loop)
        with self._changed:
            self._records[client, name] = record
            self._queues.setdefault(client, deque()).append(record)
            self._changed.notify()
        return record

    def get(self, client: str, name: str) -> JobRecord:
        """Return a client's job.

        Args:
            client: name of the client.
            name: id of the job.

        Raises:
            UnknownJob: if there is none of that name, or it belongs to another client.
        """
        try:
            return self._records[client, name]
        except KeyError:
            raise UnknownJob(
                "There is no such job; it ended long ago, or the server was restarted. Send it again."
            ) from None

    def discard(self, record: JobRecord) -> None:
        """Cancel a job if it is still running, and drop its result."""
        record.cancel()
        with self._changed:
            self._unqueue(record)
            self._records.pop((record.client, record.name), None)

    def ahead(self, record: JobRecord) -> int:
        """Return how many jobs come before a waiting one, running jobs included."""
        with self._changed:
            own = self._queues.get(record.client, deque())
            if record not in own:
                return 0
            place, before, mine = own.index(record), len(self._running), False
            for client, queue in self._queues.items():
                mine = mine or client == record.client
                before += place if client == record.client else min(len(queue), place + (not mine))
            return before

    # -- the server ----------------------------------------------------------------------------------

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of (waiting, running) jobs."""
        with self._changed:
            return sum(map(len, self._queues.values())), len(self._running)

    @property
    def quiet(self) -> bool:
        """Whether no job waits or runs and all listeners have received the end of their jobs."""
        return self.counts == (0, 0) and not any(record.listeners for record in list(self._records.values()))

    def states(self) -> list[WorkerState]:
        """Return the states of the worker processes."""
        return [worker.state for worker in self._workers]

    def unload(self) -> int:
        """End idle worker processes, which frees their memory; return their number."""
        idle = [worker for worker in self._workers if worker.state.doing == "idle"]
        for worker in idle:
            worker.stop()
        return len(idle)

    def tidy(self) -> None:
        """Cancel jobs without listeners, drop old results, end idle worker processes. Called every second."""
        now = time.monotonic()
        for record in list(self._records.values()):
            if record.ended:
                if now - record.finished > self._limits.keep_results:
                    self.discard(record)
            elif not record.listeners and now - record.received > self._limits.lease:
                log.warning("A job was cancelled because its client has disconnected")
                self.discard(record)
        self._volumes.tidy()
        busy = self.counts != (0, 0)
        self._idle_since = now if busy else self._idle_since
        if self._limits.idle_unload and not busy and now - self._idle_since > self._limits.idle_unload:
            self.unload()
        self._measure()

    def close(self) -> None:
        """Cancel all jobs and end the processes."""
        with self._changed:
            self._closed = self.draining = True
            records = list(self._records.values())
            self._changed.notify_all()
        for record in records:
            record.fail(Draining("The server was shut down; send the job again when it runs."))
            record.cancel()
        for worker in self._workers:
            worker.close()

    # -- internals -----------------------------------------------------------------------------------

    def _work(self, worker: WorkerProcess) -> None:
        while (record := self._take()) is not None:
            waited = record.started - record.submitted
            try:
                record.deliver(worker.run_payload(record.payload, record))
            except MedFMError as error:
                record.fail(error)
            except Exception as error:
                log.exception("A %s job failed", record.request.task)
                record.fail(
                    MedFMError(f"The job failed unexpectedly ({type(error).__name__}); please report it with the log.")
                )
            finally:
                with self._changed:
                    self._running.discard(record)
                self._release(record)
                # free the request: listeners need only the result
                record.payload = replace(record.payload, rest=b"", voxels=b"")
            outcome = "done" if record.error is None else type(record.error).__name__
            self._metrics.jobs.labels(record.request.task, outcome).inc()
            self._metrics.seconds.observe(time.monotonic() - record.started)
            self._metrics.waited.observe(waited)

    def _take(self) -> JobRecord | None:
        """Return the next job, clients taking turns; None when the server shuts down."""
        with self._changed:
            while True:
                if self._closed:
                    return None
                for client, queue in list(self._queues.items()):
                    while queue:
                        record = queue.popleft()
                        if not record.ended:
                            self._queues.move_to_end(client)
                            self._running.add(record)
                            record.started = time.monotonic()
                            return record
                        self._release(record)  # it was cancelled a moment ago
                    del self._queues[client]
                self._changed.wait()

    def _unqueue(self, record: JobRecord) -> None:
        queue = self._queues.get(record.client)
        if queue and record in queue:
            queue.remove(record)
            self._release(record)

    def _release(self, record: JobRecord) -> None:
        digest, record.digest = record.digest, ""
        if digest:
            self._volumes.release(digest)

    def _measure(self) -> None:
        waiting, running = self.counts
        states = self.states()
        self._metrics.queue.set(waiting)
        self._metrics.running.set(running)
        self._metrics.memory.set(sum(state.memory for state in states))
        self._metrics.crashes.set(sum(state.crashes for state in states))
        self._metrics.volumes.set(self._volumes.bytes_stored)

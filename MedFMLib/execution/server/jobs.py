"""The jobs of a server: a queue that is fair across clients, records that clients can come back to, worker processes.

Each client has a queue of its own and they take turns, so that one who sends a thousand jobs delays another's by one.
A job that nobody listens to is given up after a while; a finished one is kept for a client that lost its connection.

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
"""Seconds between signs of life on a stream of events; a client that cancels hears of it within that time."""

FRACTIONS = 0.05
"""Seconds between two fractions that are passed on."""


class Busy(MedFMError):
    """The queue is full; → 429."""


class Draining(MedFMError):
    """The server is ending; → 503."""


class UnknownJob(MedFMError):
    """There is no such job of this client; → 404."""


class JobRecord(Job):
    """One job of a client, with all that it said.

    Args:
        name: id that the client gave it. client: whose it is. parcel: the request with its voxels.
        digest: the volume that it holds, or "".
        seconds: longest that it may run. loop: where its listeners are.
    """

    def __init__(self, name: str, client: str, request: Request, payload: Payload, digest: str, seconds: float, loop):
        super().__init__(request)
        self.name, self.client, self.payload, self.digest = name, client, payload, digest
        self.result: bytes | None = None
        self.submitted, self.started, self.finished = time.monotonic(), 0.0, 0.0
        self.listeners, self.received = 0, self.submitted
        self._limit, self._loop = seconds, loop
        self._events: list[dict] = []
        self._told = 0.0
        self._news = asyncio.Event()

    @property
    def overdue(self) -> bool:
        """Has it run longer than it may?"""
        return bool(self.started) and time.monotonic() - self.started > self._limit

    def cancelled(self) -> bool:
        """See `Progress`; a job that is overdue has to stop as well."""
        return super().cancelled() or self.overdue

    def deliver(self, response: bytes) -> None:
        """The worker is done; the response stays in its wire form."""
        self.result = response
        self.finish(None)

    def fail(self, error: MedFMError) -> None:
        """The job ends without a result."""
        if self.overdue and isinstance(error, Cancelled):
            error = MedFMError(
                f"The job took longer than {self._limit:g} s, what this server allows; choose fewer slices or structures."
            )
        super().fail(error)

    @property
    def error(self) -> MedFMError | None:
        """Why it ended without a result, if it did."""
        return self._error

    def _put(self, event: Event) -> None:
        now = time.monotonic()
        if isinstance(event, Fraction) and now - self._told < FRACTIONS:
            return
        if isinstance(event, END):
            self.finished = now
        else:
            self._told = now if isinstance(event, Fraction) else self._told
            self._events.append({"n": len(self._events) + 1, **event_as_json(event)})
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self, after: int = 0, ahead=lambda record: 0) -> AsyncIterator[dict | None]:
        """Events after the n-th as JSON, and None at least every `PULSE` seconds; ends with the job.

        Args:
            ahead: record → how many jobs come before it; told when it changes.
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
        limits: what clients may take. volumes: where voxels are. metrics: what counts.
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
        """May this client submit another job, or again the one of that name?

        Raises:
            Draining: the server is ending. Busy: too many wait.
        """
        with self._changed:
            if (client, name) in self._records:
                return
            if self.draining:
                raise Draining("The server is ending; send the job again in a minute.")
            waiting = sum(map(len, self._queues.values()))
            if waiting >= self._limits.queue:
                raise Busy(f"{waiting} jobs wait already, as many as this server takes; try again in a few seconds.")
            own = len(self._queues.get(client, ()))
            if own >= self._limits.client_queue:
                raise Busy(f"{own} of your jobs wait already, as many as one client may have; wait for one of them.")

    def submit(self, client: str, name: str, request: Request, payload: Payload, digest: str = "") -> JobRecord:
        """Queue a job, or give the one of that name that is there already.

        Args:
            digest: the volume that the job holds; it is released at its end.

        Raises:
            Draining, Busy: see `check_room`.
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
        """A client's job.

        Raises:
            Unknown: if there is none of that name, or it is another's.
        """
        try:
            return self._records[client, name]
        except KeyError:
            raise UnknownJob(
                "There is no such job; it ended long ago, or the server was restarted: send it again."
            ) from None

    def discard(self, record: JobRecord) -> None:
        """Cancel it if it still runs, and drop its result."""
        record.cancel()
        with self._changed:
            self._unqueue(record)
            self._records.pop((record.client, record.name), None)

    def ahead(self, record: JobRecord) -> int:
        """How many jobs come before a waiting one, those that run included."""
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
        """(waiting, running)."""
        with self._changed:
            return sum(map(len, self._queues.values())), len(self._running)

    @property
    def quiet(self) -> bool:
        """Does nothing wait or run, and has everyone heard the end of theirs?"""
        return self.counts == (0, 0) and not any(record.listeners for record in list(self._records.values()))

    def states(self) -> list[WorkerState]:
        """Of the worker processes."""
        return [worker.state for worker in self._workers]

    def unload(self) -> int:
        """End the worker processes that do nothing, which gives their memory back; → how many did."""
        idle = [worker for worker in self._workers if worker.state.doing == "idle"]
        for worker in idle:
            worker.stop()
        return len(idle)

    def tidy(self) -> None:
        """Give up jobs that nobody listens to, drop old results, unload what is idle. Called every second."""
        now = time.monotonic()
        for record in list(self._records.values()):
            if record.ended:
                if now - record.finished > self._limits.keep_results:
                    self.discard(record)
            elif not record.listeners and now - record.received > self._limits.lease:
                log.warning("A job was given up: its client has gone")
                self.discard(record)
        self._volumes.tidy()
        busy = self.counts != (0, 0)
        self._idle_since = now if busy else self._idle_since
        if self._limits.idle_unload and not busy and now - self._idle_since > self._limits.idle_unload:
            self.unload()
        self._measure()

    def close(self) -> None:
        """Cancel everything and end the processes."""
        with self._changed:
            self._closed = self.draining = True
            records = list(self._records.values())
            self._changed.notify_all()
        for record in records:
            record.fail(Draining("The server was ended; send the job again."))
            record.cancel()
        for worker in self._workers:
            worker.close()

    # -- inside --------------------------------------------------------------------------------------

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
                # what was asked is not needed any more; a listener needs the result only
                record.payload = replace(record.payload, rest=b"", voxels=b"")
            outcome = "done" if record.error is None else type(record.error).__name__
            self._metrics.jobs.labels(record.request.task, outcome).inc()
            self._metrics.seconds.observe(time.monotonic() - record.started)
            self._metrics.waited.observe(waited)

    def _take(self) -> JobRecord | None:
        """The next job by turns; None when the server ends."""
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

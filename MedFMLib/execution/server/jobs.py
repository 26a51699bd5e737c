"""Queue the jobs of a server fairly across keys, keep records for reconnecting clients, and run worker processes.

Limits belong to keys, never to names that callers choose. A job without a listener is cancelled after a while; a
finished one is kept for a client that lost its connection, as long as its key has memory left (`accounts`).

Concurrency: HTTP handlers run on one event loop; each worker process has one thread here that takes jobs and waits for
it. `JobQueue._changed` guards queue and records.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from ...errors import MedFMError
from ..payload import Payload
from ..worker.runner import WorkerProcess, WorkerState
from .accounts import Accounts, Busy, Client
from .logs import LIMIT
from .metrics import Metrics
from .privacy import hide_folders
from .queues import FairQueue
from .records import JobRecord
from .settings import ServerLimits
from .volumes import Volumes

log = logging.getLogger(__name__)

MOST_RESULTS = 256
"""Finished jobs of one key that are kept."""


class Draining(MedFMError):
    """The server is shutting down (503)."""


class UnknownJob(MedFMError):
    """There is no such job of this client (404)."""


class JobQueue:
    """All jobs of a server.

    Args:
        limits: limits of clients.
        volumes: the uploaded volumes.
        metrics: counts jobs.
        workers: worker processes, each with one thread; one loaded model is shared by all clients.
        accounts: what each key holds.
        local: the server listens on this machine only; if not, errors don't tell its folders.
    """

    def __init__(
        self, limits: ServerLimits, volumes: Volumes, metrics: Metrics, workers: list[WorkerProcess], accounts: Accounts,
        local: bool = True,
    ):  # fmt: skip
        self._limits, self._volumes, self._metrics, self._workers = limits, volumes, metrics, workers
        self._accounts, self._local = accounts, local
        self._records: dict[tuple[Client, str], JobRecord] = {}
        self._queue = FairQueue()
        self._admitted: Counter[str] = Counter()  # by key: jobs whose pictures are being decoded
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

    def require_capacity(self, client: Client, name: str = "") -> None:
        """Check that a client may submit another job, or repeat the job of that name.

        Args:
            client: who asks.
            name: id of the job.

        Raises:
            Draining: if the server is shutting down.
            Busy: if too many jobs wait.
        """
        with self._changed:
            if (client, name) not in self._records:
                self._require_capacity(client.key)

    @contextlib.contextmanager
    def admitted(self, client: Client) -> Iterator[None]:
        """Count a job as waiting while its pictures are decoded, so that no more are decoded than may wait.

        Args:
            client: who asks.

        Raises:
            Draining: see `require_capacity`.
            Busy: see `require_capacity`.
        """
        key = client.key
        with self._changed:
            self._require_capacity(key)
            self._admitted[key] += 1
        try:
            yield
        finally:
            with self._changed:
                self._admitted[key] -= 1
                self._admitted += Counter()  # drops keys with 0

    def submit(
        self, client: Client, name: str, task: str, payload: Payload, digest: str = "", charged: int = 0
    ) -> JobRecord:
        """Queue a job; return the existing one if there is one of that name.

        Args:
            client: who asks.
            name: id of the job, chosen by the client.
            task: name of its task.
            payload: the serialized request with its voxels.
            digest: SHA-256 of the volume that the job uses; the volume is released when the job ends.
            charged: bytes taken from the key's account for the payload; given back when the job ends.

        Raises:
            Draining: see `require_capacity`.
            Busy: see `require_capacity`; nothing was released or given back.
        """
        with self._changed:
            known = self._records.get((client, name))
            if known is None:
                self._require_capacity(client.key)
                record = JobRecord(name, client, task, payload, digest, self._limits.seconds_per_job, self._loop)
                record.charged = charged
                self._records[client, name] = record
                self._queue.push(record)
                self._changed.notify()
                return record
        self._accounts.give(client.key, charged)
        if digest:
            self._volumes.release(client.key, digest)
        return known

    def get(self, client: Client, name: str) -> JobRecord:
        """Return a client's job.

        Args:
            client: who asks.
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
            if self._queue.remove(record):
                self._release(record)
            self._records.pop((record.client, record.name), None)
            if record not in self._running:
                self._charge(record, 0)

    def ahead(self, record: JobRecord) -> int:
        """Return how many jobs come before a waiting one, running jobs included."""
        with self._changed:
            before = self._queue.ahead(record)
            return 0 if before is None else before + len(self._running)

    # -- the server ----------------------------------------------------------------------------------

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of (waiting, running) jobs."""
        with self._changed:
            return len(self._queue), len(self._running)

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
        LIMIT.summarize(log)

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

    def _require_capacity(self, key: str) -> None:
        """Check the limits; call it with the lock held."""
        if self.draining:
            raise Draining("The server is shutting down; send the job again in a minute.")
        own = self._queue.of_key(key) + self._admitted[key]
        if own >= self._limits.client_queue:
            raise Busy(f"{own} of your jobs are waiting, the limit for one key; wait until one of them has ended.")
        waiting = len(self._queue) + self._admitted.total()
        # a key with less than its share is let in, so that others can't fill the queue for it
        if waiting >= self._limits.queue and own >= self._limits.queue // (self._queue.keys + 1):
            raise Busy(f"{waiting} jobs are waiting, the limit of this server; try again in a few seconds.")

    def _work(self, worker: WorkerProcess) -> None:
        while (record := self._take()) is not None:
            waited = record.started - record.submitted
            try:
                record.deliver(worker.run_payload(record.payload, record))
            except MedFMError as error:
                record.fail(self._for_client(error))
            except Exception as error:
                log.exception("A %s job failed", record.task)
                record.fail(
                    MedFMError(f"The job failed unexpectedly ({type(error).__name__}); please report it with the log.")
                )
            finally:
                with self._changed:
                    self._running.discard(record)
                    self._release(record)
                    # free the request: listeners need only the result
                    record.payload = replace(record.payload, rest=b"", voxels=b"")
                    kept = self._records.get((record.client, record.name)) is record
                    self._charge(record, len(record.result or b"") if kept else 0)
                self._drop_results(record.client.key)
            outcome = "done" if record.error is None else type(record.error).__name__
            self._metrics.jobs.labels(record.task, outcome).inc()
            self._metrics.seconds.observe(time.monotonic() - record.started)
            self._metrics.waited.observe(waited)

    def _for_client(self, error: MedFMError) -> MedFMError:
        if not self._local:
            error.args = (hide_folders(str(error)),)
        return error

    def _take(self) -> JobRecord | None:
        """Return the next job, keys taking turns; None when the server shuts down."""
        with self._changed:
            while not self._closed:
                record = self._queue.pop()
                if record is None:
                    self._changed.wait()
                elif record.ended:
                    self._release(record)  # it was cancelled a moment ago
                else:
                    self._running.add(record)
                    record.started = time.monotonic()
                    return record
            return None

    def _drop_results(self, key: str) -> None:
        """Drop the oldest results of a key that nobody listens to while it has too many, or they are too large."""
        with self._changed:
            ended = [record for record in self._records.values() if record.client.key == key and record.ended]
        ended = sorted((record for record in ended if not record.listeners), key=lambda record: record.finished)
        while len(ended) > MOST_RESULTS or (len(ended) > 1 and self._accounts.exceeded(key)):
            self.discard(ended.pop(0))

    def _charge(self, record: JobRecord, size: int) -> None:
        """Count what a record holds now; call it with the lock held."""
        self._accounts.give(record.client.key, record.charged)
        self._accounts.take(record.client.key, size, force=True)
        record.charged = size

    def _release(self, record: JobRecord) -> None:
        digest, record.digest = record.digest, ""
        if digest:
            self._volumes.release(record.client.key, digest)

    def _measure(self) -> None:
        waiting, running = self.counts
        states = self.states()
        self._metrics.queue.set(waiting)
        self._metrics.running.set(running)
        self._metrics.memory.set(sum(state.memory for state in states))
        self._metrics.crashes.set(sum(state.crashes for state in states))
        self._metrics.volumes.set(self._volumes.bytes_stored)

"""Keep one job of a client with all its events, so that a client that lost its connection can ask for them again.

Concurrency: a `JobRecord` has the lock of its `Job`, and wakes its listeners on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from ...errors import Cancelled, MedFMError
from ...interfaces.jobs import END, Event, Fraction, Job, Waiting
from ..messages import event_as_json
from ..payload import Payload
from .accounts import Client

PULSE = 0.2
"""Seconds between pulses on an event stream; a client that cancels is noticed within that time."""

FRACTIONS = 0.05
"""Shortest time in seconds between two fractions that are sent."""


class JobRecord(Job):
    """One job of a client, with all its events.

    Args:
        name: id that the client chose.
        client: who sent it.
        task: name of its task.
        payload: the serialized request with its voxels.
        digest: SHA-256 of the uploaded volume that the job uses, or "".
        seconds: longest running time.
        loop: event loop of its listeners.
    """

    def __init__(self, name: str, client: Client, task: str, payload: Payload, digest: str, seconds: float, loop):
        super().__init__(None)  # nothing of a decoded request is kept: its masks may be large
        self.task = task
        self.name, self.client, self.payload, self.digest = name, client, payload, digest
        self.result: bytes | None = None
        self.charged = 0  # bytes of memory counted for its key
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

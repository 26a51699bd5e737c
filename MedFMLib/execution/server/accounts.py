"""Count the main memory that each key holds, and let each key compute only a few things at once.

Everything is counted by key, never by a name that the caller chooses; so there are as many entries as keys. What is
counted: bodies of requests while they are answered, decoded pictures and requests until their job has ended, results
until they are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from starlette.concurrency import run_in_threadpool

from ...errors import MedFMError

AT_ONCE = 2
"""Bodies of one key that are decoded at the same time; others wait. It bounds what decoding needs for a moment."""


class Busy(MedFMError):
    """A key holds as much as it may, or the queue is full (status 429)."""


class Client(NamedTuple):
    """Who sends a request.

    Args:
        key: name of its key; all limits belong to it.
        name: a name that the caller chose, which separates jobs and uploads of several programs with one key.
    """

    key: str
    name: str


class Accounts:
    """What each key holds.

    Args:
        most: bytes of main memory that one key may hold.
    """

    def __init__(self, most: int):
        self._most, self._lock = most, threading.Lock()
        self._held: dict[str, int] = {}
        self._lanes: dict[str, asyncio.Semaphore] = {}
        self._large = asyncio.Lock()

    def held(self, key: str) -> int:
        """Return the bytes that a key holds."""
        return self._held.get(key, 0)

    def exceeded(self, key: str) -> bool:
        """Return whether a key holds more than it may, as after a large result."""
        return self.held(key) > self._most

    def take(self, key: str, size: int, force: bool = False) -> None:
        """Count bytes before they are read or computed.

        Args:
            key: name of the key.
            size: bytes.
            force: count them although they are too many, for results, which exist already.

        Raises:
            Busy: if the key would hold more than it may.
        """
        with self._lock:
            held = self._held.get(key, 0)
            if size and held + size > self._most and not force:
                raise Busy(
                    f"Your requests would hold {held + size} bytes of memory, and {self._most} are the limit for one key; "
                    "wait until one of them has ended, or send less."
                )
            self._held[key] = held + size

    def give(self, key: str, size: int) -> None:
        """Count bytes as free again.

        Args:
            key: name of the key.
            size: bytes, as taken.
        """
        with self._lock:
            left = self._held.get(key, 0) - size
            if left > 0:
                self._held[key] = left
            else:
                self._held.pop(key, None)

    @contextlib.contextmanager
    def holding(self, key: str, size: int) -> Iterator[None]:
        """Count bytes while the block runs.

        Args:
            key: name of the key.
            size: bytes.

        Raises:
            Busy: if the key would hold more than it may.
        """
        self.take(key, size)
        try:
            yield
        finally:
            self.give(key, size)

    async def run(self, key: str, function: Callable, *arguments):
        """Run a function in a thread, at most `AT_ONCE` for one key, so that no key occupies all threads.

        Args:
            key: name of the key.
            function: the function.
            arguments: its arguments.
        """
        async with self._lanes.setdefault(key, asyncio.Semaphore(AT_ONCE)):
            return await run_in_threadpool(function, *arguments)

    async def run_alone(self, key: str, function: Callable, *arguments):
        """Run a function that needs much memory for a moment, one at a time in this server.

        Args:
            key: name of the key; a key waits with one call only, so that others get their turn.
            function: the function.
            arguments: its arguments.
        """
        async with self._lanes.setdefault(f"{key} alone", asyncio.Semaphore(1)), self._large:
            return await run_in_threadpool(function, *arguments)

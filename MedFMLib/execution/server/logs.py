"""Limit how often one kind of log line is written, so that no flood of requests or connections fills the disk.

A kind is one place in the code, and one class of exception there; so their number is bounded by the code, not by what
clients send.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

INTERVAL = 10.0
"""Seconds in which one line of each kind is written."""

REQUESTS = "MedFMLib.execution.server.requests_of_keys"
"""Logger with one line for each request of a client that has a key; it is not limited."""


class RateLimit(logging.Filter):
    """Let one line of each kind pass per interval, and tell afterwards how many were left out.

    Args:
        seconds: length of the interval.
        clock: returns seconds that never go back.
    """

    def __init__(self, seconds: float = INTERVAL, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._seconds, self._clock, self._lock = seconds, clock, threading.Lock()
        self._since: dict[tuple, float] = {}
        self._left_out: dict[tuple, tuple[int, logging.LogRecord]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written."""
        if record.name == REQUESTS or getattr(record, "summary", False):
            return True
        kind = (record.name, record.lineno, record.exc_info and record.exc_info[0])
        with self._lock:
            now = self._clock()
            if now - self._since.get(kind, -self._seconds) >= self._seconds:
                self._since[kind] = now
                return True
            self._left_out[kind] = (self._left_out.get(kind, (0, record))[0] + 1, record)
            return False

    def summarize(self, log: logging.Logger) -> None:
        """Write how many lines of each kind were left out, once their interval is over."""
        with self._lock:
            now = self._clock()
            over = [kind for kind in self._left_out if now - self._since[kind] >= self._seconds]
            counts = [self._left_out.pop(kind) for kind in over]
        for count, record in counts:
            # the template without its arguments, which may be long
            log.log(record.levelno, "%d further lines like this: %s", count, record.msg, extra={"summary": True})


LIMIT = RateLimit()
"""The limit of this process; one, because handlers of logging belong to the process, too."""


def limit_lines() -> None:
    """Apply the limit to all handlers that this process has now."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(LIMIT)

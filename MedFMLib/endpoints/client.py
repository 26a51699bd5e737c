"""Send one question to an endpoint over HTTP: streamed, cancelled within 50 ms, with retries.

Knows OpenAI's chat protocol.

Each attempt runs on its own thread, so that cancellation never waits for the network: the connection is closed
and nothing more is sent. A question is sent again only before text was received: when the endpoint can't be reached or
is
busy, after 0.5, 1, 2, … seconds ± half, or after the time in Retry-After. `requests` respects HTTPS_PROXY, NO_PROXY and
REQUESTS_CA_BUNDLE; for this machine no proxy is used. Redirects are not followed: the user consented to one address.
"""

from __future__ import annotations

import json
import logging
import queue
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from ..errors import Cancelled
from ..storage.json_text import read_json
from .exchange import StreamedRequest
from .failures import EndpointError, Failures
from .settings import CHAT, Endpoint
from .sse import EventStreamReader, StreamedAnswer

TICK = 0.05
"""Seconds between two checks for cancellation."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds before the second attempt, doubled for each further one, and their maximum."""

LONGEST_RETRY = 120.0
"""If an endpoint asks for a longer wait in seconds, the request fails at once."""

log = logging.getLogger(__name__)


class EndpointClient:
    """A client for one endpoint.

    Args:
        name: the user's name for it.
        endpoint: its settings.
        key: API key, or "".
    """

    def __init__(self, name: str, endpoint: Endpoint, key: str = ""):
        self.endpoint, self._key = endpoint, key
        self.failures = Failures(name, endpoint, key)

    def chat(
        self,
        body: dict[str, Any],
        cancelled: Callable[[], bool] = bool,
        on_text: Callable[[str], None] = lambda _: None,
    ) -> StreamedAnswer:
        """Send a question and return the answer.

        Args:
            body: JSON object to post.
            cancelled: checked every 50 ms.
            on_text: receives pieces of text as they arrive.

        Raises:
            EndpointError: with the cause and the next step.
            Cancelled: within 50 ms after `cancelled()` became true.
        """

        def read(status: int, headers, chunks) -> Any:
            if not 200 <= status < 300:
                raise self.failures.of_status(status, _all(chunks), _retry_after(headers))
            return EventStreamReader(self.failures, "event-stream" in headers.get("Content-Type", "")).pieces(chunks)

        data = json.dumps(body).encode()
        return self._tried("POST", CHAT, data, read, cancelled, on_text)

    def models(self, cancelled: Callable[[], bool] = bool) -> list[dict[str, Any]]:
        """Return the endpoint's models: objects with "id", and whatever the server adds.

        Raises:
            EndpointError: with the cause and the next step.
            Cancelled: as for `chat`.
        """
        found: list[dict[str, Any]] = []

        def read(status: int, headers, chunks) -> Any:
            body = _all(chunks)
            if status != 200:
                raise self.failures.of_status(status, body, _retry_after(headers))
            try:
                items = read_json(body)["data"]
                found[:] = [item for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]
            except (ValueError, KeyError, TypeError):
                raise self.failures.nonsense("something other than a list of models") from None
            yield StreamedAnswer("")

        self._tried("GET", "/models", None, read, cancelled, lambda _: None)
        return found

    def post(self, path: str, content: dict[str, Any], cancelled: Callable[[], bool] = bool) -> tuple[int, bytes]:
        """Post a request that is not a question; it is repeated while the server is busy.

        Args:
            path: after the endpoint's address.
            content: JSON object.
            cancelled: checked every 50 ms.

        Returns:
            (status, body) of the answer, whatever its status.

        Raises:
            EndpointError: if the server can't be reached.
            Cancelled: as for `chat`.
        """
        found: list[tuple[int, bytes]] = []

        def read(status: int, headers, chunks) -> Any:
            body = _all(chunks)
            if status in (429, 502, 503):
                raise self.failures.of_status(status, body, _retry_after(headers))
            found[:] = [(status, body)]
            yield StreamedAnswer("")

        self._tried("POST", path, json.dumps(content).encode(), read, cancelled, lambda _: None)
        return found[0]

    # -- implementation --------------------------------------------------------------------------

    def _tried(self, method: str, path: str, data: bytes | None, read, cancelled, on_text) -> StreamedAnswer:
        deadline = time.monotonic() + self.endpoint.total_seconds
        for number in range(self.endpoint.tries):
            try:
                return self._once(method, path, data, read, cancelled, on_text, deadline)
            except EndpointError as error:
                wait = error.wait if error.wait is not None else self._back_off(number)
                last = number + 1 == self.endpoint.tries or wait > LONGEST_RETRY or time.monotonic() + wait > deadline
                if not error.again or last:
                    raise
                log.info("%s Trying again in %.1f s.", error, wait)
            _sleep(wait, cancelled)
        raise AssertionError("no try was made")

    def _back_off(self, number: int) -> float:
        return min(FIRST_WAIT * 2**number, LONGEST_WAIT) * random.uniform(0.5, 1.5)

    def _once(self, method, path, data, read, cancelled, on_text, deadline: float) -> StreamedAnswer:
        if cancelled():
            raise Cancelled
        exchange = StreamedRequest(self.failures, method, path, data, self._key, read)
        began = False
        exchange.start()
        try:
            while True:
                if cancelled():
                    raise Cancelled
                if time.monotonic() > deadline:
                    raise self.failures.slow(self.endpoint.total_seconds)
                try:
                    event = exchange.events.get(timeout=TICK)
                except queue.Empty:
                    continue
                if isinstance(event, str):
                    began = True
                    on_text(event)
                elif isinstance(event, EndpointError):
                    event.again = event.again and not began
                    raise event
                elif isinstance(event, BaseException):
                    raise event
                else:
                    return event
        finally:
            exchange.close()


def _all(chunks) -> bytes:
    return b"".join(chunks)


def _sleep(seconds: float, cancelled: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if cancelled():
            raise Cancelled
        time.sleep(min(left, TICK))


def _retry_after(headers) -> float | None:
    """Return the seconds in Retry-After, a number or a date (RFC 9110, 10.2.3); None without it."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())

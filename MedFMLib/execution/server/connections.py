"""Close connections whose request does not arrive in time. Knows uvicorn's HTTP protocol and nothing above it."""

from __future__ import annotations

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def impatient(seconds: float) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol class with a time limit for the headers of a request.

    uvicorn limits the time between requests only, so that sockets which send a byte now and then could occupy all
    connections of the server.

    Args:
        seconds: time in which the headers have to arrive.
    """

    class TimeoutProtocol(H11Protocol):
        def connection_made(self, transport):
            super().connection_made(transport)
            self._deadline = self.loop.call_later(seconds, self._expire)

        def connection_lost(self, exc):
            self._deadline.cancel()
            super().connection_lost(exc)

        def data_received(self, data):
            if self.conn.their_state is h11.IDLE and self._deadline.cancelled():
                self._deadline = self.loop.call_later(seconds, self._expire)
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._deadline.cancel()

        def _expire(self) -> None:
            if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
                self.transport.abort()

    return TimeoutProtocol

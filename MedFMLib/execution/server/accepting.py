"""Accept connections, shake hands for TLS beside the accept loop, and close those whose request does not arrive in time.

Knows asyncio and uvicorn's HTTP protocol, and nothing above them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import traceback
from collections.abc import Callable

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .connections import Connection, Connections

log = logging.getLogger(__name__)

BACKLOG = 1024
"""Connections that the system keeps until they are accepted."""

AT_A_TIME = 16
"""Connections accepted before other work gets its turn."""

BYE_SECONDS = 3.0
"""How long the other side may take to answer the end of TLS."""

NO_DESCRIPTORS = 0.05
"""Seconds until the next attempt when the system can't open another connection."""


class Acceptor:
    """Accepts connections until it is cancelled.

    uvicorn leaves that to asyncio, which counts no connection before its handshake has ended, allows 60 s for it, and
    writes one traceback for each connection in the queue when the system has no descriptors left.

    Args:
        sock: the listening socket.
        connections: counts them.
        make_protocol: creates the protocol of a connection.
        tls: for https; None for http.
        seconds: longest time for the TLS handshake.
    """

    def __init__(
        self,
        sock: socket.socket,
        connections: Connections,
        make_protocol: Callable[[Connection], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        seconds: float,
    ):
        self._sock, self._connections, self._make, self._tls = sock, connections, make_protocol, tls
        self._seconds = seconds
        self._options: dict = {}
        if tls is not None:
            tls.options |= ssl.OP_NO_RENEGOTIATION  # it costs the server more than the client
            self._options = {"ssl": tls, "ssl_handshake_timeout": seconds, "ssl_shutdown_timeout": BYE_SECONDS}
        sock.setblocking(False)

    async def run(self) -> None:
        """Accept connections forever."""
        loop, count = asyncio.get_running_loop(), 0
        while True:
            try:
                sock, peer = await loop.sock_accept(self._sock)
            except OSError as error:
                log.warning("A connection could not be accepted (%s)", error.strerror)
                self._connections.drop_any()
                await asyncio.sleep(NO_DESCRIPTORS)
                continue
            sock.setblocking(False)
            with contextlib.suppress(OSError):  # else an answer waits 40 ms for the confirmation of its headers
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = self._connections.accept(peer[0], sock)
            connection.task = loop.create_task(self._open(sock, connection))
            count += 1
            if count % AT_A_TIME == 0:
                await asyncio.sleep(0)

    async def _open(self, sock: socket.socket, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        try:
            if self._tls is not None:
                await asyncio.wait_for(_readable(sock), self._seconds)
            await loop.connect_accepted_socket(lambda: self._make(connection), sock, **self._options)
        except asyncio.CancelledError:  # not raised again: its traceback would keep the memory of the handshake
            sock.close()
        except OSError as error:  # of TLS, and TimeoutError, too
            log.info("A handshake failed (%s)", type(error).__name__)
            traceback.clear_frames(error.__traceback__)  # which refer to each other, with 256 KiB
            sock.close()
        finally:
            connection.task = None
            if connection.transport is None:
                self._connections.remove(connection)


async def _readable(sock: socket.socket) -> None:
    """Wait until something has arrived: asyncio takes 256 KiB for each handshake, also of those who send nothing."""
    loop = asyncio.get_running_loop()
    arrived = loop.create_future()
    try:
        loop.add_reader(sock, lambda: arrived.done() or arrived.set_result(None))
    except NotImplementedError:  # the loop of Windows can't wait for that
        return
    try:
        await arrived
    finally:
        loop.remove_reader(sock)


def patient_protocol(seconds: float) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol class with a time limit for the headers of a request.

    uvicorn limits the time between requests only, so that sockets which send a byte now and then could occupy all
    connections of the server.

    Args:
        seconds: time in which the headers have to arrive.
    """

    class TimeoutProtocol(H11Protocol):
        def __init__(self, connection: Connection, connections: Connections, **options):
            state = {**options.pop("app_state"), "connection": connection, "connections": connections}
            super().__init__(app_state=state, **options)
            self._connection, self._connections_of_server = connection, connections

        def connection_made(self, transport):
            super().connection_made(transport)
            self._connection.transport = transport
            self._deadline = self.loop.call_later(seconds, self._expire)

        def connection_lost(self, exc):
            self._deadline.cancel()
            self._connection.ended = True
            self._connections_of_server.remove(self._connection)
            super().connection_lost(exc)

        def data_received(self, data):
            if self.conn.their_state is h11.IDLE and self._deadline.cancelled():
                self._deadline = self.loop.call_later(seconds, self._expire)
            super().data_received(data)
            if self.conn.their_state is not h11.IDLE:
                self._deadline.cancel()

        def send_400_response(self, msg):
            if self.cycle is not None and not self.cycle.response_complete:
                self.cycle.disconnected = True  # what it still answers must not come after this one
                self.cycle.message_event.set()
            try:
                super().send_400_response(msg)
            except h11.LocalProtocolError:  # an answer has begun already
                self.transport.abort()

        def _expire(self) -> None:
            if not self.transport.is_closing() and self.conn.their_state is h11.IDLE:
                self.transport.abort()

    return TimeoutProtocol

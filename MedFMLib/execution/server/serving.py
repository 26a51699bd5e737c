"""Start a server and shut it down: socket, token, signals, end of the parent process. Knows uvicorn and processes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable

import uvicorn

from ...environment import allocator
from ...errors import InputError
from ..worker.runner import WorkerProcess
from .accepting import BACKLOG, Acceptor, patient_protocol
from .app import make_app
from .connections import Connections, room_for
from .hardening import HEADER_BYTES
from .keys import ApiKeys
from .service import Service
from .settings import ServerSettings, is_loopback
from .volumes import Volumes

log = logging.getLogger(__name__)


class DrainingServer(uvicorn.Server):
    """uvicorn's server, but SIGTERM lets running jobs end and their clients receive the results.

    Args:
        config: uvicorn's configuration.
        service: the shared objects of the routes.
        sock: the listening socket.
    """

    def __init__(self, config: uvicorn.Config, service: Service, sock: socket.socket):
        super().__init__(config)
        self._service, self._deadline, self._at_once = service, 0.0, False
        self._listener = sock
        self._accepting: asyncio.Task | None = None

    async def startup(self, sockets=None) -> None:
        """Start to accept connections.

        Args:
            sockets: not used; `Acceptor` accepts, because it counts connections before their TLS handshake.
        """
        await super().startup(sockets=[])
        limits, connections = self._service.limits, Connections(room_for(self._service.limits.connections))

        def make_protocol(connection):
            return self.config.http_protocol_class(
                connection,
                connections,
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )

        acceptor = Acceptor(self._listener, connections, make_protocol, self.config.ssl, limits.handshake_seconds)
        self._accepting = asyncio.create_task(acceptor.run())

    async def shutdown(self, sockets=None) -> None:
        """Stop accepting and end the connections.

        Args:
            sockets: the listening sockets.
        """
        if self._accepting is not None:
            self._accepting.cancel()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame) -> None:
        """Drain at the first signal, shut down at once at the second.

        Args:
            sig: number of the signal.
            frame: not used.
        """
        self.drain(at_once=self._service.jobs.draining)

    def drain(self, at_once: bool = False) -> None:
        """Shut down as at a signal; may be called from any thread.

        Args:
            at_once: without waiting for running jobs.
        """
        self._at_once = at_once
        self._service.jobs.draining = self.should_exit = True

    async def on_tick(self, counter: int) -> bool:
        """Return whether it is time to shut down."""
        if not await super().on_tick(counter):
            return False
        self._deadline = self._deadline or time.monotonic() + self._service.limits.drain
        if not (self._at_once or self._service.jobs.quiet or time.monotonic() > self._deadline):
            return False
        self._service.jobs.close()  # remaining listeners receive the error
        return True


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Args:
        host: address of this machine.
        port: 0 for any free port.

    Raises:
        InputError: if the port is in use, or the address does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise InputError(
            f"The server can't listen on {host}, port {port} ({error.strerror}); choose another port, or 0 for any free port."
        ) from error


def serve(
    settings: ServerSettings, tokens: dict[str, str], announce: Callable[[int], None], until_stdin_ends: bool = False
):
    """Run the server until a signal, or until stdin ends.

    Args:
        settings: addresses, keys and limits.
        tokens: token → name, used if the settings have no file of keys.
        announce: receives the port once requests are answered.
        until_stdin_ends: shut down when stdin ends, for a server with a parent process.

    Raises:
        InputError: if it can't listen there, or the keys can't be read.
    """
    allocator.return_freed_memory()  # pictures and bodies are large, and rarely two of one size
    keys = ApiKeys.from_file(settings.keys) if settings.keys else ApiKeys(tokens)
    sock = bind(settings.host, settings.port)
    volumes = Volumes(settings.limits.volume, settings.limits.cache, keys.count)
    worker = WorkerProcess((*settings.worker, "--clear", str(volumes.folder)), settings.interpreter)
    local = is_loopback(settings.host)
    service = Service(settings.limits, [worker], volumes, local)
    config = uvicorn.Config(
        make_app(service, keys),
        http=patient_protocol(settings.limits.header_seconds),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.private_key,
    )
    server = DrainingServer(config, service, sock)
    if until_stdin_ends:
        threading.Thread(target=_watch_parent, args=(server,), daemon=True).start()
    port = sock.getsockname()[1]

    async def run() -> None:
        serving = asyncio.ensure_future(server.serve(sockets=[sock]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.005)
        if server.started:
            announce(port)
        await serving

    try:
        asyncio.run(run())
    except ssl.SSLError as error:
        raise InputError(
            f"The certificate or its key can't be used ({error.reason or error}); give PEM files that belong together."
        ) from error
    finally:
        service.jobs.close()
        volumes.close()
        sock.close()


def _watch_parent(server: DrainingServer) -> None:
    """Shut the server down when the parent process, which holds the other end of stdin, has ended."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server.drain(at_once=True)
    time.sleep(10)
    os.kill(os.getpid(), signal.SIGTERM if os.name == "nt" else signal.SIGKILL)

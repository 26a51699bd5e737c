"""Define the limits of a server and where it listens. Knows numbers and files; nothing of HTTP."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import InputError


@dataclass(frozen=True)
class ServerLimits:
    """Limits of requests and clients.

    Args:
        body: largest body of one request, bytes; volumes are sent in pieces of at most that size.
        volume: largest volume, bytes of voxels.
        cache: largest total of stored volumes, bytes, finished or not; the least recently used are deleted first, those of
            keys with more than their share.
        pixels: largest number of pixels of all pictures in a chat.
        pictures: largest number of pictures in a chat.
        tokens: largest number of tokens of an answer.
        queue: largest number of waiting jobs, of all clients.
        client_queue: largest number of waiting jobs of one key.
        key_memory: bytes of main memory that one key may hold: bodies of requests, decoded pictures, waiting requests,
            results.
        seconds_per_job: longest running time of a job.
        lease: seconds for which a job continues without a listener.
        keep_results: seconds for which a finished job's result is kept for a client that lost its connection.
        handshake_seconds: longest time for the TLS handshake of a connection.
        header_seconds: longest time until a request's headers have arrived.
        body_seconds: longest time between pieces of a request's body; all of it may take so long, and further time for
            what has arrived (`hardening.SLOWEST`).
        connections: largest number of simultaneous connections, counted when they are accepted.
        idle_unload: seconds without a job after which the model is unloaded; 0 for never.
        drain: seconds that running jobs get when the server shuts down.
    """

    body: int = 32 << 20
    volume: int = 4 << 30
    cache: int = 16 << 30
    pixels: int = 50_000_000
    pictures: int = 128
    tokens: int = 4096
    queue: int = 256
    client_queue: int = 64
    key_memory: int = 1 << 30
    seconds_per_job: float = 3600.0
    lease: float = 30.0
    keep_results: float = 900.0
    handshake_seconds: float = 5.0
    header_seconds: float = 10.0
    body_seconds: float = 20.0
    connections: int = 512
    idle_unload: float = 0.0
    drain: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 0 or (value == 0 and name != "idle_unload"):
                raise InputError(f"The server's limit '{name}' must be above 0, not {value}.")


@dataclass(frozen=True)
class ServerSettings:
    """Where a server listens and which clients may connect.

    Args:
        host: address to listen on; addresses that other machines can reach need a certificate and a file of keys.
        port: 0 for any free port.
        keys: file of keys, one "name key" per line; without it a new token is made at each start.
        certificate: PEM file for TLS.
        private_key: PEM file for TLS.
        limits: limits of requests and clients.
        worker: further arguments of the worker process, for tests.
        interpreter: the Python that computes; this one if "".
    """

    host: str = "127.0.0.1"
    port: int = 0
    keys: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    limits: ServerLimits = ServerLimits()
    worker: tuple[str, ...] = field(default=())
    interpreter: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise InputError(f"A port must be 0…65535, not {self.port}.")
        if bool(self.certificate) != bool(self.private_key):
            raise InputError("TLS needs both files; give --certificate and --private-key.")
        for path in (self.keys, self.certificate, self.private_key):
            if path is not None and not path.is_file():
                raise InputError(f"There is no file '{path}'; give the path of one that exists.")
        if not is_loopback(self.host) and not (self.certificate and self.keys):
            raise InputError(
                f"Listening on {self.host} opens this server to other machines, so it needs TLS and keys: give --certificate, "
                "--private-key and --keys, or listen on 127.0.0.1."
            )

    @property
    def scheme(self) -> str:
        """Scheme of the server's address: http or https."""
        return "https" if self.certificate else "http"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

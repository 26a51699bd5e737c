"""What a server allows and where it listens. Knows numbers and files; nothing of HTTP."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import InputError


@dataclass(frozen=True)
class ServerLimits:
    """What one request or client may take.

    Args:
        body: most bytes of one request's body; volumes come in pieces of at most that.
        volume: most bytes of one volume's voxels.
        cache: most bytes of uploaded volumes kept; the longest unused go first.
        pixels: most pixels of the pictures in a chat, all together.
        pictures: most pictures in a chat.
        tokens: longest answer.
        queue: most jobs that wait, of all clients. client_queue: of one client.
        seconds_per_job: longest a job may run. lease: seconds that a job lives on while nobody listens to it.
        keep_results: seconds that a finished job's result is kept for a client that lost its connection.
        header_seconds: longest until a request's headers are there. body_seconds: longest between pieces of its body.
        connections: most at once.
        idle_unload: seconds without a job after which the model is taken out of memory; 0 for never.
        drain: seconds that running jobs get when the server is told to end.
    """

    body: int = 32 << 20
    volume: int = 4 << 30
    cache: int = 16 << 30
    pixels: int = 50_000_000
    pictures: int = 128
    tokens: int = 4096
    queue: int = 256
    client_queue: int = 64
    seconds_per_job: float = 3600.0
    lease: float = 30.0
    keep_results: float = 900.0
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
    """Where a server listens and who may talk to it.

    Args:
        host: address to listen on; anything but this machine's own needs a certificate and a file of keys.
        port: 0 for any that is free.
        keys: file of keys, one "name key" a line; without it a fresh token is made at each start.
        certificate, private_key: PEM files for TLS.
        limits: what one request may take.
        worker: further arguments of the worker process, for tests.
        interpreter: the Python that computes; this one if left out.
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
        """http or https."""
        return "https" if self.certificate else "http"


def is_loopback(host: str) -> bool:
    """Can only this machine reach that address?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

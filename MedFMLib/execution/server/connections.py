"""Count connections when they are accepted, and choose which one is closed when there are too many. Knows no HTTP.

Rules, so that no flood locks out a client with a key, not even one from the same address:

- A new connection always gets a place: if its address has too many without a key, or the server has too many, the
  oldest connection without a key is closed; of its own address, or of the address that has the most.
- Clients with keys never take the places that are reserved for new connections: if they would, the oldest connection
  of the key that has the most is closed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket

from .accounts import Busy

log = logging.getLogger(__name__)

RESERVED = 8
"""One in so many places is kept for connections that have not sent a key yet."""

SPARE = 192
"""File descriptors for everything but connections: the library, files of uploads, pipes to the worker."""


class Connection:
    """One accepted connection.

    Args:
        group: address, or network, that it comes from.
        sock: its socket.
    """

    __slots__ = ("ended", "group", "key", "sock", "task", "transport")

    def __init__(self, group: str, sock: socket.socket):
        self.group, self.sock = group, sock
        self.key: str | None = None
        self.ended = False
        self.task: asyncio.Task | None = None  # the TLS handshake, until it has succeeded
        self.transport: asyncio.Transport | None = None

    def drop(self) -> None:
        """Close it at once, whatever its state is."""
        self.ended = True
        try:
            self.sock.shutdown(socket.SHUT_RDWR)  # also ends a handshake that asyncio has not begun to watch
        except OSError:
            pass  # it has ended already
        if self.transport is not None:
            self.transport.abort()
        elif self.task is not None:
            self.task.cancel()


class Connections:
    """All open connections of a server. Used on its event loop only.

    Args:
        most: largest number of connections.
    """

    def __init__(self, most: int):
        self._most, self._reserved = most, max(most // RESERVED, 1)
        self._per_group = max(most // 2, 1)
        self._unknown: dict[str, dict[Connection, None]] = {}  # by address, oldest first
        self._known: dict[str, dict[Connection, None]] = {}  # by key, oldest first

    def __len__(self) -> int:
        return _count(self._unknown) + _count(self._known)

    def accept(self, address: str, sock: socket.socket) -> Connection:
        """Count a new connection; close another one if there are too many.

        Args:
            address: where it comes from.
            sock: its socket.
        """
        connection = Connection(group_of(address), sock)
        if len(self._unknown.get(connection.group, ())) >= self._per_group:
            self._drop_oldest(self._unknown, connection.group)
        elif len(self) >= self._most:
            self._drop_oldest(self._unknown)
        self._unknown.setdefault(connection.group, {})[connection] = None
        return connection

    def identify(self, connection: Connection, key: str) -> None:
        """Count a connection as one of a key, from its first request with that key on.

        Args:
            connection: the connection.
            key: name of the key.

        Raises:
            Busy: if there are too many connections, and no key has more than this one.
        """
        if connection.ended or connection.key == key:  # its last request may be answered after its end
            return
        if _count(self._known) >= self._most - self._reserved and self._most > self._reserved:
            own = len(self._known.get(key, ()))
            if own and own >= max(map(len, self._known.values())):
                raise Busy(f"{own} connections with your key are open, too many for this server; close some of them.")
            self._drop_oldest(self._known)
        self.remove(connection)
        connection.key = key
        self._known.setdefault(key, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        groups, name = (self._unknown, connection.group) if connection.key is None else (self._known, connection.key)
        group = groups.get(name, {})
        group.pop(connection, None)
        if not group:
            groups.pop(name, None)

    def drop_any(self) -> None:
        """Close the oldest connection without a key, if there is one, because the system has no descriptors left."""
        if self._unknown:
            self._drop_oldest(self._unknown)

    def _drop_oldest(self, groups: dict[str, dict[Connection, None]], name: str | None = None) -> None:
        """Close the oldest connection of a group; of the largest group if no name is given."""
        if not groups:
            return
        connection = next(iter(groups[name] if name is not None else max(groups.values(), key=len)))
        self.remove(connection)
        connection.drop()
        log.warning("A connection was closed because there were too many")


def _count(groups: dict[str, dict[Connection, None]]) -> int:
    return sum(map(len, groups.values()))


def group_of(address: str) -> str:
    """Return the address, or for IPv6 its network of 64 bits, all of which one machine may use."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)


def room_for(wanted: int) -> int:
    """Return how many connections the system's limit of open files allows, raised to its maximum; at most `wanted`."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    needed = wanted + SPARE
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        except (OSError, ValueError):  # macOS has a further limit that it does not tell
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    room = max(min(wanted, soft - SPARE), 8)
    if room < wanted:
        log.warning(
            "This system allows %d open files, so at most %d connections are accepted instead of %d; raise it with ulimit -n",
            soft,
            room,
            wanted,
        )
    return room

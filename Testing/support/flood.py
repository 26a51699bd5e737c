"""Open many connections to a server as fast as possible and hold them: `python flood.py PORT COUNT KIND SOURCE SECONDS_HELD`.

A process of its own, as a stranger's would be. KIND: `bare` sends nothing, `garbage` bytes that are no TLS, `hello` the
first message of a TLS handshake, `tls` completes it and sends nothing, `head` then trickles headers, `idle` asks for
/health without a key and keeps the connection, `plain` is `head` without TLS, `plain-idle` is `idle` without TLS.
Prints how many connections were opened, and how many of them the server still held at the end.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import sys
import time

HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
HEAD = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "


def client_context() -> ssl.SSLContext:
    """TLS that trusts everyone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def client_hello() -> bytes:
    """The first message of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        client_context().wrap_bio(incoming, outgoing).do_handshake()
    return outgoing.read()


def open_one(port: int, kind: str, source: str, hello: bytes, context: ssl.SSLContext):
    """One connection of a kind."""
    line = socket.create_connection(("127.0.0.1", port), timeout=5, source_address=(source, 0))
    if kind == "garbage":
        line.sendall(b"\x16\x03\x01" + b"\xff" * 200)
    elif kind == "hello":
        line.sendall(hello)
    elif kind in ("tls", "head", "idle"):
        line = context.wrap_socket(line)
    if kind in ("head", "plain"):
        line.sendall(HEAD)
    elif kind in ("idle", "plain-idle"):
        line.sendall(HEALTH)
    return line


def main(port: int, count: int, kind: str, source: str, seconds: float) -> None:
    """Open, hold, count."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    hello, context, lines, opened = client_hello(), client_context(), [], 0
    while opened < count:
        opened += 1
        with contextlib.suppress(OSError):
            lines.append(open_one(port, kind, source, hello, context))
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for line in lines if kind in ("head", "plain") else ():
            with contextlib.suppress(OSError):
                line.send(b"x")
        time.sleep(0.5)
    print(opened, sum(map(still_open, lines)), flush=True)


def still_open(line: socket.socket) -> bool:
    """Whether the server has not closed it."""
    line.settimeout(0.0)
    try:
        while line.recv(65536):
            pass
        return False
    except (ssl.SSLWantReadError, BlockingIOError):
        return True
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], float(sys.argv[5]))

"""Floods of connections, with and without TLS: a client with a key is answered all the time, and the log stays short."""

from __future__ import annotations

import contextlib
import http.client
import logging
import resource
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest
import support.flood
from support.server_in_test import TOKEN, ServerInTest

from MedFMLib.errors import MedFMError
from MedFMLib.execution.server.connections import Connections, group_of
from MedFMLib.execution.server.logs import REQUESTS, RateLimit

STATE = "/medfm/v1/state"
OTHER = "127.0.0.2"
ANSWERED_WITHIN = 5.0
"""Seconds; what was promised."""

QUIET = ("--handshake-seconds", "2", "--header-seconds", "2")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """Certificate, key of it, file of keys."""
    folder = tmp_path_factory.mktemp("tls")
    paths = [folder / name for name in ("server.pem", "server.key", "keys")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(command, check=True, capture_output=True)
    paths[2].touch(mode=0o600)
    paths[2].write_text(f"ward {TOKEN}\nresearch {TOKEN}-2\n")
    return paths


@pytest.fixture
def secured(tls, start_server):
    """Start a server for other machines."""
    certificate, private, keys = map(str, tls)
    return lambda *more, **options: start_server(
        "--host", "0.0.0.0", "--certificate", certificate, "--private-key", private, "--keys", keys, *more, **options
    )


@pytest.fixture
def start_server(tmp_path):
    """Start servers that end with the test."""
    started: list[ServerInTest] = []

    def start(*arguments, files=1024):
        with limit_of_files(files):
            started.append(ServerInTest(*arguments, temp=tmp_path))
        return started[-1]

    yield start
    for server in started:
        server.close()


@contextlib.contextmanager
def limit_of_files(count):
    """The usual limit of open files for processes that start meanwhile; ours may be any."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Watch:
    """A client with a key that asks all the time, on one connection and on new ones; keeps its longest wait, seconds."""

    def __init__(self, server, source: str, secure: bool):
        self._server, self._source, self._secure = server, source, secure
        self.longest, self.answers, self.dropped = 0.0, 0, 0
        self._kept = self._connect()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()
        self._kept.close()

    def _connect(self):
        options = {"timeout": ANSWERED_WITHIN, "source_address": (self._source, 0)}
        if self._secure:
            return http.client.HTTPSConnection(
                "127.0.0.1", self._server.port, context=support.flood.client_context(), **options
            )
        return http.client.HTTPConnection("127.0.0.1", self._server.port, **options)

    def _run(self):
        while not self._end.is_set():
            for line in (self._kept, None):
                started = time.monotonic()
                self._ask(line, started)
                self.longest = max(self.longest, time.monotonic() - started)
            time.sleep(0.05)

    def _ask(self, line, started):
        """Until there is an answer, on a new connection if there is none; as MedFM's client does."""
        while time.monotonic() - started < 60 and not self._end.is_set():
            new = line or self._connect()
            try:
                new.request("GET", STATE, headers=self._server.headers)
                answer = new.getresponse()
                answer.read()
                assert answer.status == 200, answer.status
                self.answers += 1
                return
            except (OSError, http.client.HTTPException):
                self.dropped += 1
                new.close()
                time.sleep(0.02)
            finally:
                if line is None:
                    new.close()


def flood(server, count, kind, source="127.0.0.1", seconds=2.0):
    """Start a flood in a process of its own."""
    command = [sys.executable, support.flood.__file__, str(server.port), str(count), kind, source, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def memory(server) -> float:
    """Resident memory of the server without its worker, MB."""
    return psutil.Process(server.process.pid).memory_info().rss / 1e6


def own_lines(server) -> int:
    """Characters of the log, without the line for each request with a key."""
    return sum(len(line) for line in server.log if REQUESTS not in line)


KINDS = {
    "bare": "60 s, log +222 MB (held for 70 s)", "garbage": "1.1 s, memory +636 MB",
    "hello": "2.6 s, log +5 MB, memory +338 MB", "tls": "0.1 s, memory +279 MB", "head": "0.1 s, memory +229 MB",
    "idle": "0.1 s, memory +597 MB",
}  # fmt: skip
"""What was measured before: longest answer, where anything else was remarkable."""

SIMILAR = ("garbage", "tls", "head")
"""Kinds whose rule another one tests, too."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in SIMILAR else ()) for kind in KINDS]
)
def test_tls_flood(kind, secured, attack):
    """2,000 connections from the address that one of the two clients with a key has, too."""
    server = secured(*QUIET)
    before, lines = memory(server), own_lines(server)
    with Watch(server, "127.0.0.1", True) as same, Watch(server, OTHER, True) as other:
        flooding = flood(server, 2000, kind)
        opened, held = map(int, flooding.communicate(timeout=60)[0].split())
    grown, written = memory(server) - before, own_lines(server) - lines
    assert opened == 2000
    assert max(same.longest, other.longest) < ANSWERED_WITHIN
    assert min(same.answers, other.answers) >= 10
    assert written < 20_000, server.log[-20:]
    assert "Traceback" not in "\n".join(server.log)
    assert held <= 512
    attack(
        KINDS[kind],
        f"longest answer {same.longest:.1f} s, {other.longest:.1f} s; log +{written / 1e3:.0f} kB, memory +{grown:.0f} MB",
    )


@pytest.mark.parametrize("kind", ["bare", "plain", "plain-idle"])
def test_flood_without_tls(kind, start_server, attack):
    server = start_server(*QUIET)
    lines = own_lines(server)
    with Watch(server, "127.0.0.1", False) as same:
        flooding = flood(server, 2000, kind)
        opened, held = map(int, flooding.communicate(timeout=60)[0].split())
    assert opened == 2000
    assert held <= 512
    assert same.longest < ANSWERED_WITHIN
    assert same.answers > 20
    written = own_lines(server) - lines
    assert written < 20_000
    attack("log +5 MB" if kind == "bare" else "-", f"longest answer {same.longest:.1f} s; log +{written / 1e3:.0f} kB")


def test_flood_from_many_addresses(secured, attack):
    server = secured(*QUIET)
    with Watch(server, "127.0.0.1", True) as same:
        floods = [flood(server, 300, "hello", f"127.0.1.{n}") for n in range(1, 6)]
        for flooding in floods:
            flooding.communicate(timeout=60)
    assert same.longest < ANSWERED_WITHIN
    attack("-", f"longest answer {same.longest:.1f} s")


def test_flood_with_few_descriptors(secured, attack):
    """A system that allows 256 open files: the server uses fewer connections, and says so."""
    server = secured(*QUIET, files=256)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (100, 100))  # below what it had found at its start
    lines = own_lines(server)
    with Watch(server, "127.0.0.1", True) as same:
        flooding = flood(server, 1000, "bare")
        flooding.communicate(timeout=60)
    assert same.longest < ANSWERED_WITHIN
    assert own_lines(server) - lines < 20_000
    assert "Traceback" not in "\n".join(server.log)
    attack("no answer while they are held", f"longest answer {same.longest:.1f} s")


# -- the rules, one by one -----------------------------------------------------------------------------------


@pytest.fixture
def opened():
    """Count connections of addresses; those that were dropped have `ended`."""
    connections, ends = Connections(16), []

    def opens(address):
        ends.append(socket.socketpair())
        return connections.accept(address, ends[-1][0])

    yield connections, opens
    for pair in ends:
        for end in pair:
            end.close()


def test_the_oldest_of_an_address_goes_first(opened):
    _, opens = opened
    mine = opens("10.0.0.1")
    flood = [opens("10.0.0.2") for _ in range(20)]
    assert [one.ended for one in flood] == [True] * 12 + [False] * 8
    assert not mine.ended


def test_of_many_addresses_the_one_with_the_most_loses(opened):
    connections, opens = opened
    few = [opens(f"10.0.1.{n}") for n in range(6)]
    many = [opens("10.0.0.2") for _ in range(8)]
    more = [opens(f"10.0.2.{n}") for n in range(8)]
    assert len(connections) == 16
    assert [one.ended for one in many] == [True] * 6 + [False] * 2
    assert not any(one.ended for one in few + more)


def test_a_connection_with_a_key_is_never_closed_for_one_without(opened):
    connections, opens = opened
    mine = opens("10.0.0.2")
    connections.identify(mine, "ward")
    for _ in range(100):
        opens("10.0.0.2")
    assert not mine.ended
    assert len(connections) <= 16


def test_a_key_with_many_connections_leaves_places_for_others(opened):
    connections, opens = opened
    many = []
    for _ in range(14):
        many.append(opens("10.0.0.2"))
        connections.identify(many[-1], "ward")
    last = opens("10.0.0.2")
    with pytest.raises(MedFMError, match="14 connections with your key are open"):
        connections.identify(last, "ward")
    other = opens("10.0.0.3")
    connections.identify(other, "research")
    assert [one.ended for one in many] == [True] + [False] * 13
    assert not other.ended


def test_a_request_that_outlives_its_connection_is_not_counted(opened):
    connections, opens = opened
    gone = opens("10.0.0.2")
    connections.remove(gone)
    gone.ended = True
    connections.identify(gone, "ward")
    assert len(connections) == 0


@pytest.mark.parametrize(
    ("address", "group"),
    [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("fe80::1%eth0", "fe80::/64"), ("", ""),
     ("2001:db8:1:2:3::4", "2001:db8:1:2::/64")],
)  # fmt: skip
def test_a_network_of_ipv6_is_one_address(address, group):
    assert group_of(address) == group


def test_one_line_of_a_kind_and_how_many_were_left_out(caplog):
    now = [0.0]
    limit, log = RateLimit(10, lambda: now[0]), logging.getLogger("a-test")
    caplog.handler.addFilter(limit)
    with caplog.at_level(logging.INFO):
        for number in range(1000):
            log.warning("Connection %d failed", number)
        log.warning("Another kind")
        for _ in range(3):
            logging.getLogger(REQUESTS).info("GET state 200")
        limit.summarize(log)
        assert len(caplog.messages) == 5
        now[0] = 10.0
        limit.summarize(log)
    caplog.handler.removeFilter(limit)
    assert caplog.messages[0] == "Connection 0 failed"
    assert caplog.messages[-1] == "999 further lines like this: Connection %d failed"

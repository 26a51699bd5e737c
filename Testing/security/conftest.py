"""Attacks for real: each does on this machine what a stranger's file would do, and the run ends with a table."""

from __future__ import annotations

import resource
import subprocess
import time

import pytest
from support.server_attacks import OTHER
from support.server_in_test import TOKEN, ServerInTest
from support.summary_table import print_rows

ROWS: list[tuple[str, str, str, str]] = []


@pytest.fixture
def attack(request):
    """Call it with (before, now): adds a row with peak memory and seconds to the table."""
    start, base = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def add(before: str, now: str) -> None:
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024
        cost = f"+{grown:.0f} MB, {time.monotonic() - start:.1f} s"
        ROWS.append((request.node.name.removeprefix("test_").replace("_", " "), before, now, cost))

    return add


@pytest.fixture
def start_server(tmp_path):
    """Start servers that end with the test."""
    started: list[ServerInTest] = []

    def start(*arguments):
        started.append(ServerInTest(*arguments, temp=tmp_path))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def two_keys(start_server, tmp_path):
    """Start a server that knows two keys."""
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text(f"ward {TOKEN}\nresearch {OTHER}\n")
    return lambda *more: start_server("--keys", str(keys), *more)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    paths = [folder / name for name in ("server.pem", "server.key")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(command, check=True, capture_output=True)
    return tuple(map(str, paths))


def pytest_terminal_summary(terminalreporter):
    """Print the table."""
    print_rows(terminalreporter, "attacks", ("attack", "before", "now", "cost"), ROWS)

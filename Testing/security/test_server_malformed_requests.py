"""Requests that are too large, too deep, too slow, or that two programs may read differently."""

from __future__ import annotations

import socket
import time
import zlib

import numpy as np
import pytest
import requests
from support.server_attacks import (
    CHAT,
    Peak,
    chat,
    memory,
    of,
    picture_url,
    post,
    send,
    talk,
)
from support.server_in_test import TOKEN, ServerInTest, wait_for


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One server for attacks that leave nothing behind."""
    server = ServerInTest("--header-seconds", "2", "--body-seconds", "2", temp=tmp_path_factory.mktemp("temp"))
    yield server
    server.close()


BOMBS = {
    "depth": b'{"model":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "many lists": b'{"model":[' + b"[]," * 9_000_000 + b"0]}",
    "NaN": b'{"model": "medfm-tiny", "max_tokens": NaN}',
    "infinity": b'{"model": "medfm-tiny", "max_tokens": -Infinity}',
    "long number": b'{"model": "medfm-tiny", "max_tokens": ' + b"9" * 100_000 + b"}",
    "not UTF-8": b'{"model": "\xff\xfe\xfa"}',
    "half a character": b'{"model": "\\ud800"}',
    "gzip": zlib.compress(b"{}" + b" " * 1_000_000),
    "a list": b"[1, 2]",
    "nothing": b"",
}


@pytest.mark.parametrize("name", BOMBS)
def test_json_bombs(name, shared, attack):
    before, started = memory(shared), time.monotonic()
    with Peak(shared) as peak:
        answer = requests.post(shared.url + CHAT, data=BOMBS[name], headers=of(TOKEN), timeout=20)
    assert answer.status_code == 400
    assert "must be" in answer.text or "is not JSON that this server reads" in answer.text
    assert len(answer.content) < 2000
    assert peak.most - before < 150
    attack(
        "3.9 s, +690 MB" if name == "many lists" else "-",
        f"400, {time.monotonic() - started:.2f} s, +{peak.most - before:.0f} MB",
    )


def test_no_error_is_long(shared):
    url = picture_url(np.zeros((8, 8), np.uint8))
    for more in ({"model": "x" * 300_000}, {"max_tokens": ["y" * 300_000]}, {"stop": ["z" * 300_000] * 17}):
        answer = post(shared, chat("mark a", url, **more))
        assert answer.status_code in (400, 404)
        assert len(answer.content) < 2000


def test_deflated_pieces_are_bounded(shared, attack):
    bomb = zlib.compress(bytes(300_000_000), 9)
    before, digest = memory(shared), "a" * 64
    with Peak(shared) as peak:
        for encoding in ("deflate", "gzip", "br"):
            answer = send(shared, {**of(TOKEN), "Content-Encoding": encoding}, digest, bomb, 300_000_000)
            assert answer.status_code == 400
    assert peak.most - before < 100
    attack("-", f"300 MB in {len(bomb) / 1e3:.0f} kB: 400, +{peak.most - before:.0f} MB")


START = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
SMUGGLED = "GET /medfm/v1/state HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
TWICE = {
    "two lengths": START + "Content-Length: 2\r\nContent-Length: 44\r\n\r\n{}" + SMUGGLED,
    "length and chunks": START + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two keys": START + "Authorization: Bearer other\r\nContent-Length: 2\r\n\r\n{}",
    "two hosts": START + "Host: evil.example\r\nContent-Length: 2\r\n\r\n{}",
    "a folded header": START + "X-A: b\r\n Content-Length: 0\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "a bad chunk": START + "Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
    "a long chunk size": START + "Transfer-Encoding: chunked\r\n\r\n" + "f" * 200 + "\r\n{}\r\n0\r\n\r\n",
    "a signed length": START + "Content-Length: +2\r\n\r\n{}",
    "a space before the colon": START + "Content-Length : 2\r\n\r\n{}",
    "500 headers": START + "".join(f"X-{n}: y\r\n" for n in range(500)) + "\r\n",
    "60 kB of headers": START + f"X-Long: {'y' * 60_000}\r\n\r\n",
    "a long path": f"GET /{'a' * 60_000} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a null": START + "X-A: \x00\r\n\r\n",
}


LET_IN = ("length and chunks", "two keys", "500 headers", "60 kB of headers", "a long path")


@pytest.mark.parametrize("name", TWICE)
def test_requests_that_two_programs_may_read_differently_are_refused(name, shared, attack):
    answer = talk(shared.port, TWICE[name].encode("latin-1"))
    assert answer.split(b" ", 2)[1] in (b"400", b"501"), answer
    assert answer.count(b"HTTP/1.1") == 1  # what was smuggled was not answered
    assert b"connection: close" in answer.lower()
    attack("accepted" if name in LET_IN else "-", "400, closed")


def test_a_key_is_needed_and_its_lack_closes_the_connection(shared):
    for path in (
        "/metrics",
        "/medfm/v1/state",
        "/v1/models",
        "/health/../metrics",
        "//metrics",
        "/health/",
        "/nothing",
    ):
        answer = requests.get(shared.url + path, timeout=5)
        assert (answer.status_code, answer.headers["connection"]) == (401, "close"), path
    assert "medfm_" in requests.get(f"{shared.url}/metrics", headers=of(TOKEN), timeout=5).text


def test_bodies_that_drip_end(shared, attack):
    """One byte in each second: never too long between two, but too long in all."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", shared.port), timeout=1) as line:
        line.sendall((START + "Content-Length: 1000000\r\n\r\n").encode())
        answer = b""
        while not answer and time.monotonic() - started < 10:
            line.sendall(b" ")
            try:
                answer = line.recv(1000)
            except TimeoutError:
                pass
    assert answer.startswith(b"HTTP/1.1 408")
    attack("held for 231 days", f"408 after {time.monotonic() - started:.0f} s")


def test_a_method_can_not_write_into_the_log(shared):
    talk(shared.port, b"EVIL-METHOD /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    talk(shared.port, START.replace("POST", "EVIL-METHOD").encode() + b"Connection: close\r\n\r\n")
    wait_for(lambda: any("other" in line for line in shared.log), 5, "a line")
    assert not [line for line in shared.log if "EVIL" in line]

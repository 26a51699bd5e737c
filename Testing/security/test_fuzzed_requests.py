"""Thousands of damaged requests to a real server: it answers each with a sentence, and afterwards it is what it was."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import os
import random
import socket
import time

import numpy as np
import psutil
import pytest
from PIL import Image as Picture
from support.server_in_test import TOKEN, ServerInTest, wait_for

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.execution import payload

SEED = 20261130
LENGTHS = (0, 1, -1, 2**31, 2**63, 10**400, 0.5, 1e308, "", "0", "\x00", "ä" * 50, "𝔐" * 9, "../../etc/passwd", "%s%n", None,
           True, [], {}, [[]], "x" * 5000)  # fmt: skip
"""Values that are put anywhere."""


def png() -> bytes:
    stream = io.BytesIO()
    Picture.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stream, "PNG")
    return stream.getvalue()


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Bytes with flipped bits, and with pieces that were cut, repeated, moved or put in."""
    raw = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        place, length = rng.randrange(len(raw) + 1), rng.randrange(1, 40)
        action = rng.randrange(5)
        if action == 0 and place < len(raw):
            raw[place] ^= 1 << rng.randrange(8)
        elif action == 1:
            del raw[place : place + length]
        elif action == 2:
            raw[place:place] = raw[place : place + length] * rng.choice((1, 2, 30))
        elif action == 3:
            raw[place:place] = rng.randbytes(length)
        else:
            raw[place : place + 8] = rng.choice((b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7))
    return bytes(raw)


def changed(value, rng: random.Random):
    """A JSON value in which some parts were replaced, dropped, doubled or nested."""
    if rng.random() < 0.06:
        return rng.choice(LENGTHS)
    if isinstance(value, dict):
        items = [(key, changed(part, rng)) for key, part in value.items() if rng.random() > 0.04]
        items += [(rng.choice(("n", "tools", "stop", "stream", "x", "")), rng.choice(LENGTHS))] * (rng.random() < 0.1)
        return dict(items)
    if isinstance(value, list):
        parts = [changed(part, rng) for part in value if rng.random() > 0.04]
        return parts * rng.choice((1, 1, 1, 1, 2, 20)) if rng.random() < 0.2 else parts
    if isinstance(value, str) and rng.random() < 0.1:
        return damaged(value.encode(), rng).decode("utf-8", "replace")
    return value


def as_json(value, rng: random.Random) -> bytes:
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    return damaged(text, rng) if rng.random() < 0.3 else text


class Fuzzer:
    """Sends damaged requests of every kind to one server, and counts the answers by status.

    Args:
        server: the server.
        seed: of the random numbers.
    """

    def __init__(self, server: ServerInTest, seed: int):
        self._server, self._rng = server, random.Random(seed)
        self._line: http.client.HTTPConnection | None = None
        self.statuses: dict[int, int] = {}
        self.sent = 0
        image = Image(np.arange(64, dtype=np.int16).reshape(1, 4, 4, 4), Geometry((4, 4, 4), np.eye(4)), "MR")
        self._packed = payload.pack(Request("ask", image, question="mark a", history=(("one", "two"),)))
        self._voxels = bytes(self._packed.voxels)
        url = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
        parts = [{"type": "text", "text": "mark a"}, {"type": "image_url", "image_url": {"url": url}}]
        self._chat = {
            "model": "medfm-tiny", "max_tokens": 9, "stop": ["z"], "stream": False, "n": 1, "temperature": 0.1,
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": parts}],
        }  # fmt: skip
        self._load = {"model": "none-such", "adapter": "", "precision": "float32"}
        self._kinds = (self.raw, self.raw, self.chat, self.chat, self.load, self.upload, self.job, self.address)

    def run(self, count: int) -> None:
        """Send so many requests, kinds in turn."""
        for _ in range(count):
            self._kinds[self.sent % len(self._kinds)]()
            self.sent += 1
        if self._line is not None:
            self._line.close()
            self._line = None

    def good(self) -> None:
        """A request that has to succeed."""
        assert self._request("POST", "/v1/chat/completions", json.dumps(self._chat).encode()) == 200

    # -- kinds -------------------------------------------------------------------------------------------

    def raw(self) -> None:
        """A damaged request, byte by byte, on a connection of its own."""
        body, rng = json.dumps(self._chat).encode()[: self._rng.choice((0, 50, 5000))], self._rng
        target = rng.choice(("POST /v1/chat/completions", "GET /medfm/v1/state", "GET /health", "GET /v1/models"))
        chunked = rng.random() < 0.3
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
        head = f"{target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n{framing}\r\n\r\n".encode()
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body
        data = damaged(head, rng) + body if rng.random() < 0.7 else head + damaged(body or b"x", rng)
        with socket.create_connection(("127.0.0.1", self._server.port), timeout=10) as line:
            try:
                line.sendall(data * rng.choice((1, 1, 3)))
                line.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: line.recv(65536), b""))
            except ConnectionError:
                answer = b""
        self._note(int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0, answer)

    def chat(self) -> None:
        self._request("POST", "/v1/chat/completions", as_json(changed(self._chat, self._rng), self._rng))

    def load(self) -> None:
        self._request("POST", "/medfm/v1/models/load", as_json(changed(self._load, self._rng), self._rng))

    def upload(self) -> None:
        """A piece with wrong numbers, another hash, or damaged content."""
        rng = self._rng
        content = damaged(self._voxels, rng) if rng.random() < 0.7 else self._voxels
        digest = rng.choice((self._packed.digest, hashlib.sha256(content).hexdigest(), "..%2f..%2fx", "0" * 64))
        numbers = [str(rng.choice((0, 0, 1, 128, len(content), 10**9, 10**20, -1, "x", ""))) for _ in range(2)]
        headers = {"Upload-Offset": numbers[0], "Upload-Length": rng.choice((str(len(content)), numbers[1]))}
        if rng.random() < 0.3:
            headers["Content-Encoding"] = rng.choice(("deflate", "gzip", "identity", ""))
        method = rng.choice(("PATCH", "PATCH", "HEAD"))
        self._request(method, f"/medfm/v1/volumes/{digest}", content if method == "PATCH" else b"", headers)

    def job(self) -> None:
        """A damaged job on a volume that is here."""
        rng, size = self._rng, {"Upload-Offset": "0", "Upload-Length": str(len(self._voxels))}
        self._request("PATCH", f"/medfm/v1/volumes/{self._packed.digest}", self._voxels, size)
        name = rng.choice((rng.randbytes(16).hex(), "0" * 32, "x", "a" * 33))
        rest = damaged(self._packed.rest, rng) if rng.random() < 0.8 else self._packed.rest
        digest = rng.choice((self._packed.digest, self._packed.digest, "0" * 64, "../x", ""))
        self._request("PUT", f"/medfm/v1/jobs/{name}", rest, {"MedFM-Volume": digest})
        self._request("DELETE", f"/medfm/v1/jobs/{name}")

    def address(self) -> None:
        """An address that is none, or with another method."""
        rng = self._rng
        paths = ("/medfm/v1/state", "/v1/models/medfm-tiny", f"/medfm/v1/jobs/{'b' * 32}/events?after=1", "/metrics")
        path = damaged(rng.choice(paths).encode(), rng).decode("latin-1")
        path = "/" + "".join(sign for sign in path[1:] if 32 < ord(sign) < 127)
        method = rng.choice(("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"))
        self._request(method, path, b"", {"X-MedFM-Client": str(rng.random())})

    # -- internals -----------------------------------------------------------------------------------------

    def _request(self, method: str, path: str, body: bytes = b"", headers: dict | None = None) -> int:
        for attempt in range(2):  # the server closes after some refusals
            self._line = self._line or http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=20)
            try:
                self._line.request(method, path, body, {"Authorization": f"Bearer {TOKEN}", **(headers or {})})
                answer = self._line.getresponse()
                content = answer.read()
                self._note(answer.status, content)
                return answer.status
            except (ConnectionError, http.client.HTTPException):
                self._line.close()
                self._line = None
                if attempt:
                    self._note(0, b"")
        return 0

    def _note(self, status: int, content: bytes) -> None:
        assert status < 500, content[:500]
        assert b"Traceback" not in content
        self.statuses[status] = self.statuses.get(status, 0) + 1


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server whose home and temporary folder are the test's."""
    for name in ("home", "temp"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    started = ServerInTest("--keep-results", "1", "--body-seconds", "2", temp=tmp_path / "temp")
    yield started
    started.close()


def files_elsewhere(folder) -> list[str]:
    """Files below a folder that are not in a server's own one."""
    found = [os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names]
    return [path for path in found if "/temp/medfm-server-" not in path and "/temp/.medfm-server-" not in path]


def memory(server) -> int:
    """Resident memory of the server and its worker, bytes, once nothing runs and old results are dropped."""
    wait_for(
        lambda: server.client().state()["waiting"] + server.client().state()["running"] == 0, 20, "the jobs to end"
    )
    time.sleep(3)
    process = psutil.Process(server.process.pid)
    return sum(one.memory_info().rss for one in (process, *process.children()))


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_fuzzed_requests_change_nothing(count, server, tmp_path, attack):
    fuzzer = Fuzzer(server, SEED)
    fuzzer.good()
    fuzzer.run(count // 4)  # warm up
    before = memory(server)
    started = time.monotonic()
    fuzzer.run(count)
    seconds = time.monotonic() - started
    fuzzer.good()
    after = memory(server)
    assert server.process.poll() is None
    assert server.client().state()["workers"][0]["crashes"] == 0
    assert not [line for line in server.log if "Traceback" in line or " 500 " in line or "failed" in line]
    assert files_elsewhere(tmp_path) == []
    assert fuzzer.statuses[200] > count / 20 and fuzzer.statuses[400] > count / 10
    assert abs(after - before) < 0.05 * before, (before, after)
    change = 100 * (after - before) / before
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(fuzzer.statuses.items()))
    attack("-", f"no 500, memory {change:+.1f} %, {seconds:.0f} s")
    print(f"\n{fuzzer.sent} requests: {answers}")

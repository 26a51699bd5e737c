"""Requests to a server as an attacker writes them, and the server's memory meanwhile."""

from __future__ import annotations

import base64
import hashlib
import io
import secrets
import socket
import threading

import numpy as np
import psutil
import requests
from PIL import Image as Picture
from support.server_in_test import TOKEN

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.execution import payload

OTHER = f"{TOKEN}-of-another"
EVENTS = "/medfm/v1/jobs/{}/events"
CHAT = "/v1/chat/completions"


def of(token, name="a-client"):
    """Headers of a client."""
    return {"Authorization": f"Bearer {token}", "X-MedFM-Client": name}


def volume(seed, size):
    """(SHA-256, bytes) of incompressible voxels."""
    content = np.random.default_rng(seed).bytes(size)
    return hashlib.sha256(content).hexdigest(), content


def send(server, headers, digest, piece, size=None, offset=0):
    more = {"Upload-Offset": str(offset), "Upload-Length": str(size or len(piece))}
    url = f"{server.url}/medfm/v1/volumes/{digest}"
    return requests.patch(url, data=piece, headers={**headers, **more}, timeout=30)


def has(server, headers, digest):
    return requests.head(f"{server.url}/medfm/v1/volumes/{digest}", headers=headers, timeout=5)


def request_for(question):
    image = Image(np.arange(64, dtype=np.int16).reshape(1, 4, 4, 4), Geometry((4, 4, 4), np.eye(4)), "MR")
    return Request("ask", image, question=question)


def put(server, headers, question, upload=True):
    """Submit a job; → (answer, id)."""
    packed, name = payload.pack(request_for(question)), secrets.token_hex(16)
    if upload:
        send(server, headers, packed.digest, bytes(packed.voxels))
    headers = {**headers, "MedFM-Volume": packed.digest}
    return requests.put(f"{server.url}/medfm/v1/jobs/{name}", data=packed.rest, headers=headers, timeout=30), name


def state(server, token=TOKEN):
    return requests.get(f"{server.url}/medfm/v1/state", headers=of(token), timeout=10).json()


def picture_url(pixels, kind="PNG"):
    stream = io.BytesIO()
    Picture.fromarray(pixels).save(stream, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode()}"


def chat(text, *urls, **more):
    parts = [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
    return {"model": "medfm-tiny", "messages": [{"role": "user", "content": parts}], **more}


def post(server, content, headers=None, timeout=30):
    return requests.post(server.url + CHAT, json=content, headers=headers or of(TOKEN), timeout=timeout)


def talk(port, data, seconds=5.0):
    """Send bytes, and read until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as line:
        try:
            line.sendall(data)
            return b"".join(iter(lambda: line.recv(65536), b""))
        except OSError:
            return b""


def memory(server) -> float:
    """Resident memory of the server without its worker, MB."""
    return psutil.Process(server.process.pid).memory_info().rss / 1e6


class Peak(threading.Thread):
    """Watches the memory of a server; `most` is the largest, MB."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self._server, self._end, self.most = server, threading.Event(), 0.0

    def run(self):
        while not self._end.wait(0.02):
            self.most = max(self.most, memory(self._server))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self.join()

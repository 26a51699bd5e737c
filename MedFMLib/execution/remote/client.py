"""Send requests to a MedFM server over HTTP (protocol: execution/server/app.py). Knows nothing of Qt, MRML or torch.

A volume is sent once: it is identified by the hash of its voxels, and the client first asks whether the server has it.
A broken connection loses nothing: uploads continue where they stopped, jobs are submitted under an id that the client
chose, and events are requested again from the last received one.
"""

from __future__ import annotations

import secrets
import time
import zlib
from collections.abc import Callable
from urllib.parse import urlsplit

from ...core.request import Request, Response
from ...errors import Cancelled, InputError, MedFMError, ModelError, OutputError
from ...interfaces.jobs import Progress
from ...storage.json_text import read_json
from .. import serialization
from ..messages import ERRORS, error_from_json, event_from_json, relay
from ..payload import Payload, pack
from ..worker import frames

PIECE = 8 << 20
"""Bytes of voxels in one request."""

SAMPLE = 1 << 16
WORTH = 0.9
"""A piece is deflated if a sample of it shrinks below this fraction; never for a server on this machine."""

PATIENCE = 20.0
"""Seconds for which a broken connection is retried; `BUSY` for a server whose queue is full."""

BUSY = 120.0
TIMEOUTS = (5.0, 30.0)
"""Seconds to connect, and between two pieces of a response."""


class ConnectionLost(MedFMError):
    """The server can't be reached (any more)."""


class ServerClient:
    """Client of one server.

    Args:
        url: such as "https://server:8765".
        token: access key; never logged or stored here.
        certificates: PEM file of the certificate authorities to trust; the default of `requests` if "".
        alive: called before a broken connection is retried; False ends the retries.

    Raises:
        InputError: if the address can't be used.
    """

    def __init__(self, url: str, token: str, certificates: str = "", alive: Callable[[], bool] = lambda: True):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"'{url}' is not the address of a server; write it like https://server.hospital:8765.")
        self.local = parts.hostname in ("127.0.0.1", "localhost", "::1")
        if parts.scheme == "http" and not self.local:
            raise InputError(f"'{url}' would send the key and images unencrypted; use https.")
        if parts.username or parts.password:
            raise InputError("The address contains a user name or password; give the key separately instead.")
        self._url, self._token = url.rstrip("/"), token
        self._certificates, self._alive = certificates, alive
        self._name = secrets.token_hex(8)
        self._session = None

    # -- operations ------------------------------------------------------------------------------------

    def run(self, request: Request, progress: Progress) -> Response:
        """Run a request on the server and return the response.

        Args:
            request: the request.
            progress: receives the events.

        Raises:
            MedFMError: the error of the job, or `ConnectionLost`.
        """
        progress.stage("Sending the image")
        payload, name = pack(request), secrets.token_hex(16)
        try:
            self._submit(name, payload, progress)
            return serialization.loads(self._follow(name, progress))
        finally:
            self._forget(name)

    def state(self) -> dict:
        """Return the current state of the server.

        Raises:
            MedFMError: if it can't be reached, or the key is wrong.
        """
        return self._json("GET", "/medfm/v1/state")

    def models(self) -> list[dict]:
        """Return the models of the server. Raises the errors of `state`."""
        return self._json("GET", "/medfm/v1/models")["models"]

    def load(self, model: str, adapter: str = "", precision: str = "") -> None:
        """Let the server preload a model. Raises the errors of `state`.

        Args:
            model: id.
            adapter: as in a request.
            precision: as in a request.
        """
        self._json("POST", "/medfm/v1/models/load", json={"model": model, "adapter": adapter, "precision": precision})

    def unload(self) -> None:
        """Let the server free the memory of idle models. Raises the errors of `state`."""
        self._json("POST", "/medfm/v1/unload")

    # -- internals -------------------------------------------------------------------------------------

    def _submit(self, name: str, payload: Payload, progress: Progress) -> None:
        """Upload missing voxels and submit the job."""
        headers = {"MedFM-Volume": payload.digest}
        while True:
            self._upload(payload, progress)
            answer = self._persistently("PUT", f"/medfm/v1/jobs/{name}", progress, data=payload.rest, headers=headers)
            if answer.status_code == 412:
                continue  # the volume was dropped meanwhile
            self._check(answer)
            return

    def _upload(self, payload: Payload, progress: Progress) -> None:
        path, size = f"/medfm/v1/volumes/{payload.digest}", len(payload.voxels)
        answer = self._persistently("HEAD", path, progress)
        while answer.status_code != 200:
            if answer.status_code not in (202, 409):
                self._check(answer)
            offset = _offset(answer)
            piece = payload.voxels[offset : offset + PIECE]
            headers = {"Upload-Offset": str(offset), "Upload-Length": str(size)}
            if not self.local and len(zlib.compress(piece[:SAMPLE], 1)) < WORTH * min(SAMPLE, len(piece)):
                piece, headers["Content-Encoding"] = zlib.compress(piece, 1), "deflate"
            answer = self._persistently("PATCH", path, progress, data=bytes(piece), headers=headers)

    def _follow(self, name: str, progress: Progress) -> bytes:
        """Relay events until the response arrives, and return it."""
        import requests
        import urllib3

        received, until = 0, None
        while True:
            try:
                path = f"/medfm/v1/jobs/{name}/events?after={received}"
                with self._request("GET", path, stream=True) as answer:
                    self._check(answer)
                    while True:
                        if progress.cancelled():
                            raise Cancelled()
                        kind, data = frames.read_frame(answer.raw)
                        until = None
                        if kind == frames.RESPONSE:
                            return data
                        if kind == frames.ERROR:
                            raise error_from_json(read_json(data))
                        if kind == frames.EVENT:
                            content = read_json(data)
                            received = content.pop("n", received)
                            relay(event_from_json(content), progress)
            except (EOFError, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                until = until or time.monotonic() + PATIENCE
                if time.monotonic() > until or not self._alive():
                    raise self._lost(error) from error
                self._pause(0.3, progress)

    def _persistently(self, method: str, path: str, progress: Progress, **options):
        """Send an idempotent request, retried while the connection is broken or the server is busy."""
        import requests

        until, pause = time.monotonic() + PATIENCE, 0.1
        busy_until = None
        while True:
            if progress.cancelled():
                raise Cancelled()
            try:
                answer = self._request(method, path, **options)
                if answer.status_code not in (429, 503):
                    return answer
                if busy_until is None:
                    progress.stage("Waiting: the server is busy")
                    busy_until = time.monotonic() + BUSY
                if time.monotonic() > busy_until:
                    return answer
                self._pause(min(float(answer.headers.get("Retry-After", 1)), 5.0), progress)
                until, pause = time.monotonic() + PATIENCE, 0.1
            except requests.RequestException as error:
                if time.monotonic() > until or not self._alive() or isinstance(error, requests.exceptions.SSLError):
                    raise self._lost(error) from error
                self._pause(pause, progress)
                pause = min(2 * pause, 2.0)

    def _json(self, method: str, path: str, **options) -> dict:
        import requests

        try:
            answer = self._request(method, path, **options)
        except requests.RequestException as error:
            raise self._lost(error) from error
        self._check(answer)
        try:
            return answer.json()
        except ValueError:
            raise ConnectionLost(f"{self._url} answers, but is not a MedFM server; check the address.") from None

    def _forget(self, name: str) -> None:
        import requests

        try:
            self._request("DELETE", f"/medfm/v1/jobs/{name}", timeout=2.0)
        except requests.RequestException:
            pass  # the server discards the job by itself

    def _request(self, method: str, path: str, headers: dict | None = None, timeout=TIMEOUTS, **options):
        import requests

        if self._session is None:
            session = requests.Session()
            session.trust_env = not self.local  # no proxy between two processes of this machine
            session.auth = self._sign  # otherwise a .netrc would replace the header
            self._session = session  # assigned when complete: other threads use it, too
        sent = {"X-MedFM-Client": self._name, **(headers or {})}
        options = {"timeout": timeout, "verify": self._certificates or None, "allow_redirects": False, **options}
        return self._session.request(method, self._url + path, headers=sent, **options)

    def _sign(self, prepared):
        prepared.headers["Authorization"] = f"Bearer {self._token}"
        return prepared

    def _check(self, answer) -> None:
        if answer.status_code < 300:
            return
        try:
            content = answer.json()["error"]
            kind, message = str(content.get("kind", "")), str(content["message"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ConnectionLost(
                f"{self._url} answers with status {answer.status_code}, not as a MedFM server; check the address."
            ) from None
        default = {422: ModelError, 507: OutputError}.get(
            answer.status_code, InputError if answer.status_code < 500 else MedFMError
        )
        raise ERRORS.get(kind, default)(message)

    def _lost(self, error: Exception) -> ConnectionLost:
        text = str(error)
        if "CERTIFICATE_VERIFY_FAILED" in text or "SSLError" in type(error).__name__:
            return ConnectionLost(
                f"{self._url} has a certificate that is not trusted here; give the file of your site's authority."
            )
        return ConnectionLost(
            f"{self._url} can't be reached ({type(error).__name__}); check that the server runs there."
        )

    @staticmethod
    def _pause(seconds: float, progress: Progress) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if progress.cancelled():
                raise Cancelled()
            time.sleep(min(0.05, seconds))


def _offset(answer) -> int:
    """Return the number of bytes of an upload that the server has."""
    if answer.status_code == 409:
        return int(answer.json()["error"].get("offset", 0))
    return int(answer.headers.get("Upload-Offset", 0))

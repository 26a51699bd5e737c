"""Run one HTTP request on its own thread, whose connection can be closed at any moment.

Depends on requests and sockets.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import socket
import threading
from collections.abc import Iterator

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from .failures import EndpointError, Failures
from .settings import Endpoint

MOST, BLOCK = 2**25, 2**16
"""Largest size of an answer in bytes, and bytes read at a time."""


class StreamedRequest(threading.Thread):
    """A thread for one request, started at once; results are in `events`: texts, then one result or error.

    Args:
        failures: error messages for the endpoint.
        method: of the request.
        path: after the endpoint's address.
        data: body, or None.
        key: API key, or "".
        read: (status, headers, chunks) → texts, then one result; runs on this thread.
    """

    def __init__(self, failures: Failures, method: str, path: str, data: bytes | None, key: str, read):
        super().__init__(name="MedFM endpoint", daemon=True)
        self.events: queue.SimpleQueue = queue.SimpleQueue()
        self._failures, self._endpoint = failures, failures.endpoint
        self._asked, self._key, self._read = (method, self._endpoint.url + path, data), key, read
        self._sockets: list[socket.socket] = []
        self._lock, self._stopped = threading.Lock(), False

    def close(self) -> None:
        """Close the connection in any state; nothing more is sent."""
        with self._lock:
            self._stopped = True
            for opened in self._sockets:
                # SSLSocket's own shutdown would crash a thread that is reading
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(opened, socket.SHUT_RDWR)

    def run(self) -> None:
        """See `threading.Thread`."""
        try:
            for event in self._events():
                self.events.put(event)
        except EndpointError as error:
            self.events.put(error)
        except Exception as error:  # errors of requests and urllib3 may quote headers: only their type is reported
            self.events.put(self._sentence(error))

    def _events(self) -> Iterator:
        endpoint, (method, url, data) = self._endpoint, self._asked
        with requests.Session() as session:
            session.trust_env = not endpoint.is_loopback
            for scheme in ("http://", "https://"):
                session.mount(scheme, _Adapter(self._opened))
            with session.request(
                method, url, data=data, stream=True, allow_redirects=False, auth=_Key(self._key),
                timeout=(endpoint.connect_seconds, endpoint.read_seconds), verify=_certificates(endpoint),
                headers={"Content-Type": "application/json", "Accept": "text/event-stream, application/json",
                         "Accept-Encoding": "identity", "User-Agent": "MedFM"},
            ) as response:  # fmt: skip
                yield from self._read(response.status_code, response.headers, self._chunks(response))

    def _chunks(self, response) -> Iterator[bytes]:
        """Yield bytes as they arrive."""
        total, raw = 0, response.raw
        if getattr(raw, "chunked", False):
            chunks = response.iter_content(None)
        elif hasattr(raw, "read1"):  # since urllib3 2.1
            chunks = iter(lambda: raw.read1(BLOCK), b"")
        else:
            chunks = response.iter_content(1)
        for chunk in chunks:
            total += len(chunk)
            if total > MOST:
                raise self._failures.nonsense("more than an answer")
            yield chunk

    def _opened(self, connection) -> None:
        """Register a new connection before anything is sent on it."""
        with self._lock:
            if self._stopped:
                connection.close()
                raise ConnectionAbortedError
            self._sockets.append(connection.sock)

    def _sentence(self, error: Exception) -> EndpointError:
        failures, kinds = self._failures, requests.exceptions
        if isinstance(error, kinds.SSLError):
            return failures.tls(_tls_reason(error))
        if isinstance(error, kinds.ProxyError):
            return failures._key(407) if "407" in str(error) else failures.down(proxy=True)
        if isinstance(error, kinds.ConnectTimeout):
            return failures.down()
        if isinstance(error, kinds.ReadTimeout | ReadTimeoutError) or (
            error.args and isinstance(error.args[0], ReadTimeoutError)
        ):
            return failures.silent(self._endpoint.read_seconds)
        if isinstance(error, kinds.ChunkedEncodingError | ProtocolError):
            return failures.broken()
        if isinstance(error, kinds.ConnectionError):
            return failures.down()
        if isinstance(error, OSError) and "certificate" in str(error) and not isinstance(error, kinds.RequestException):
            return failures.no_certificates(str(_certificates(self._endpoint)))
        return failures.nonsense(f"unreadable content ({type(error).__name__})")


def _certificates(endpoint: Endpoint) -> str | bool:
    """Return the value of `verify` in `requests`: a file with certificates, or True for the usual ones."""
    return endpoint.ca or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True


def _tls_reason(error: Exception) -> str:
    """Return why TLS failed, in OpenSSL's words."""
    text = str(error)
    if "WRONG_VERSION_NUMBER" in text or "UNKNOWN_PROTOCOL" in text or "RECORD_LAYER" in text:
        return "there is no TLS at that port"
    found = re.search(r"certificate verify failed: ([^(\"']+)", text) or re.search(r"doesn't match|mismatch", text)
    return (found[1].strip() if found.re.groups else "it is another machine's certificate") if found else ""


class _Key(requests.auth.AuthBase):
    """The key in its header. Required even without a key, since requests would otherwise read ~/.netrc."""

    def __init__(self, key: str):
        self._key = key

    def __call__(self, request):
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class _Adapter(HTTPAdapter):
    """A requests adapter that reports every connection before anything is sent on it."""

    def __init__(self, opened):
        self._opened = opened
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args, **kwargs):
        """See `HTTPAdapter`."""
        super().init_poolmanager(*args, **kwargs)
        self._watch(self.poolmanager)

    def proxy_manager_for(self, proxy, **kwargs):
        """See `HTTPAdapter`."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        self._watch(manager)
        return manager

    def _watch(self, manager) -> None:
        opened = self._opened

        def watched(pool):
            class Connection(pool.ConnectionCls):
                def connect(self):
                    super().connect()
                    opened(self)

            return type("Pool", (pool,), {"ConnectionCls": Connection})

        kinds = manager.pool_classes_by_scheme
        manager.pool_classes_by_scheme = {scheme: watched(pool) for scheme, pool in kinds.items()}

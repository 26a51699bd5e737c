"""Check every request before it is answered (host, origin, token, size, time), write error responses, and log routes.

Pure ASGI. The content of requests, variable parts of paths and names of clients are never logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time

from ...errors import Cancelled, InputError, MedFMError, ModelError, OutputError
from .accounts import Accounts, Busy, Client
from .jobs import Draining, UnknownJob
from .keys import ApiKeys
from .logs import REQUESTS
from .metrics import Metrics
from .settings import ServerLimits
from .volumes import Conflict, TooLarge

log, requests_log = logging.getLogger(__name__), logging.getLogger(REQUESTS)

OPEN_PATHS = ("/health",)
SEND_SECONDS = 60.0
"""A client that receives nothing for this long is disconnected."""

SLOWEST = 4096
"""Bytes per second; each that has arrived of a body gives the rest so much more time."""

MOST_HEADERS = 64
HEADER_BYTES = 16 << 10
"""Largest size of a request without its body; h11 has a limit for incomplete ones only."""

ONCE = (b"host", b"authorization", b"content-length", b"transfer-encoding", b"content-encoding", b"upload-offset",
        b"upload-length", b"medfm-volume", b"x-medfm-client")  # fmt: skip
"""Headers that may come once: a proxy and this server might each believe another one."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Methods that are written to the log as they are."""

CONTENT_FACTOR = 2
"""Memory of a body and what is read from it, as a multiple of its size."""

LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Unauthorized(MedFMError):
    """The token is missing or wrong (status 401)."""


class Forbidden(MedFMError):
    """The request comes from a web page or is addressed to another host (403)."""


class TooSlow(MedFMError):
    """The body does not arrive in time (408)."""


class TooLong(InputError):
    """The body is larger than allowed (413)."""


class NotFound(MedFMError):
    """There is no such address (404)."""


class NotAllowed(MedFMError):
    """The method is not allowed at this address (405)."""


class UnknownModel(ModelError):
    """The server has no such model (404)."""


class VolumeMissing(MedFMError):
    """The voxels have to be sent first (412)."""


STATUS = (
    (Unauthorized, 401), (Forbidden, 403), (TooSlow, 408), (TooLong, 413), (TooLarge, 413), (NotFound, 404), (NotAllowed, 405),
    (UnknownJob, 404), (UnknownModel, 404), (VolumeMissing, 412), (Conflict, 409), (Busy, 429), (Draining, 503), (Cancelled, 499),
    (InputError, 400), (ModelError, 422), (OutputError, 507),
)  # fmt: skip
"""(class of error, status); the first match counts."""

LONGEST_MESSAGE = 1000
"""Letters of an error; some name a value that the client sent, however long it was."""

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
"""Values of `type` that OpenAI's clients expect; "invalid_request_error" for others below 500, else "server_error"."""


def status_of(error: MedFMError) -> int:
    """Return the HTTP status of an error."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def error_content(error: MedFMError) -> dict:
    """Return the body of an error response, readable by OpenAI's clients and by MedFM's."""
    status = status_of(error)
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = {UnknownModel: "model_not_found", Unauthorized: "invalid_api_key"}.get(type(error))
    content = {
        "message": str(error)[:LONGEST_MESSAGE],
        "type": kind,
        "param": None,
        "code": code,
        "kind": type(error).__name__,
    }
    if isinstance(error, Conflict):
        content["offset"] = error.offset
    return {"error": content}


def error_answer(error: MedFMError) -> tuple[int, dict[str, str], bytes]:
    """Return (status, headers, body) of an error response."""
    status, body = status_of(error), json.dumps(error_content(error)).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    if status in (429, 503):
        headers["retry-after"] = "2"
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return status, headers, body


def body_length(headers: dict[bytes, bytes], limits: ServerLimits) -> int:
    """Return the announced size of a body in bytes, or the limit if it isn't announced; 0 if there is none.

    Args:
        headers: the request's headers.
        limits: limits of a request.

    Raises:
        InputError: if the size is no number, or announced in two ways.
        TooLong: if it is larger than allowed.
    """
    text = headers.get(b"content-length", b"0")
    if b"transfer-encoding" in headers:
        if b"content-length" in headers:
            raise InputError("The length of the body is given twice; send Content-Length or Transfer-Encoding.")
        return limits.body
    if not text.isdigit() or len(text) > 15:
        raise InputError("The Content-Length header is not a number; send the length of the body in bytes.")
    if int(text) > limits.body:
        raise TooLong(
            f"The announced body has {int(text)} bytes; this server accepts {limits.body}. Send less, or in pieces."
        )
    return int(text)


class _Body:
    """The incoming body of a request, limited in size and in time."""

    def __init__(self, scope, receive, limits: ServerLimits):
        names = {name for name, value in scope["headers"] if value != b"0"}
        self.complete = not names & {b"content-length", b"transfer-encoding"}
        self._receive, self._limits, self._taken = receive, limits, 0
        self._started = time.monotonic()

    async def receive(self):
        """Return the next piece.

        Raises:
            TooSlow: if nothing arrives in time, or too little.
            TooLong: if the body is larger than allowed.
        """
        if self.complete:  # only the client's disconnect can arrive
            return await self._receive()
        seconds = self._limits.body_seconds
        left = self._started + seconds + self._taken / SLOWEST - time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), max(min(seconds, left), 0))
        except TimeoutError:
            raise TooSlow(
                f"The body did not arrive in time ({self._taken} bytes in {time.monotonic() - self._started:.0f} s); "
                "send it again over a faster connection."
            ) from None
        self._taken += len(message.get("body", b""))
        if self._taken > self._limits.body:
            raise TooLong(f"The body is longer than {self._limits.body} bytes, the limit of this server; send less.")
        self.complete = not message.get("more_body", False)
        return message


class HardeningMiddleware:
    """The outermost layer of the server: admits or refuses each request and limits its size, time and memory.

    Args:
        app: the wrapped ASGI application.
        keys: keys that may connect.
        limits: limits of a request.
        metrics: counts requests.
        accounts: what each key holds.
        local: the server listens on this machine only, so other host names are refused (protection against DNS
            rebinding by web pages).
    """

    def __init__(self, app, keys: ApiKeys, limits: ServerLimits, metrics: Metrics, accounts: Accounts, local: bool):
        self._app, self._keys, self._limits, self._metrics, self._local = app, keys, limits, metrics, local
        self._accounts = accounts

    async def __call__(self, scope, receive, send):
        """Handle one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, answered, body = time.monotonic(), {}, _Body(scope, receive, self._limits)
        client = None

        async def watched_send(message):
            if message["type"] == "http.response.start":
                answered["status"] = message["status"]
                # close instead of reading the rest, which might be endless, and free the place of who is not admitted
                if not body.complete or (client is None and message["status"] >= 400):
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await asyncio.wait_for(send(message), SEND_SECONDS)

        try:
            client, size = self._admit(scope)
            if client is None:
                await self._app(scope, receive, watched_send)
            else:
                with self._accounts.holding(client.key, size):
                    await self._app(scope, body.receive, watched_send)
        except MedFMError as error:
            await self._refuse(error, answered, watched_send)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if answered or isinstance(error, TimeoutError | OSError):
                log.warning("A connection broke (%s)", type(error).__name__)
            else:
                log.exception("A request failed")
                await self._refuse(
                    MedFMError(f"The server failed unexpectedly ({type(error).__name__}); see its log for details."),
                    answered,
                    watched_send,
                )
        finally:
            route = getattr(scope.get("endpoint"), "__name__", "other")  # never the path: it contains ids
            status = answered.get("status", 0)
            self._metrics.requests.labels(route, str(status)).inc()
            method = scope["method"] if scope["method"] in METHODS else "other"
            (log if client is None else requests_log).info(
                "%s %s %s %.0f ms", method, route, status, 1000 * (time.monotonic() - started)
            )

    def _admit(self, scope) -> tuple[Client | None, int]:
        """Return (the client, bytes of memory that its request needs); no client for a path that is open to all."""
        headers = dict(scope["headers"])
        count, size = len(headers), sum(len(name) + len(value) for name, value in scope["headers"])
        size += len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if count > MOST_HEADERS or size > HEADER_BYTES:
            raise InputError(
                f"Address and headers have {size} bytes, in {count} headers; send at most {HEADER_BYTES}, in {MOST_HEADERS}."
            )
        for name in ONCE:
            if sum(found == name for found, _ in scope["headers"]) > 1:
                raise InputError(f"The header {name.decode()} was sent more than once; send it once.")
        if self._local:
            name = headers.get(b"host", b"").decode("latin-1").lower()
            name = name.rpartition(":")[0] if name.rpartition(":")[2].isdigit() else name
            if name not in LOCAL_NAMES:
                raise Forbidden("This server answers on 127.0.0.1 only; use that address.")
        if b"origin" in headers:
            raise Forbidden("Web pages may not use this server; use a program.")
        if scope["path"] in OPEN_PATHS:
            return None, 0
        scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        key = self._keys.name_of(token.strip())
        if key is None or scheme.lower() != "bearer":
            raise Unauthorized(
                "The key is missing or wrong; send 'Authorization: Bearer KEY' with one that this server knows."
            )
        size = body_length(headers, self._limits)
        state = scope.setdefault("state", {})
        if "connection" in state:  # not where the application is called without a socket
            state["connections"].identify(state["connection"], key)
        own = headers.get(b"x-medfm-client", b"").decode("latin-1")[:64]
        state["client"] = Client(key, own or (scope.get("client") or ("",))[0])
        inflated = self._limits.body if b"content-encoding" in headers else 0
        return state["client"], CONTENT_FACTOR * size + inflated

    async def _refuse(self, error: MedFMError, answered: dict, send) -> None:
        if answered:
            log.warning("The event stream of a job ended early (%s)", type(error).__name__)
            return
        status, headers, body = error_answer(error)
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        try:
            await send({"type": "http.response.start", "status": status, "headers": raw})
            await send({"type": "http.response.body", "body": body})
        except (OSError, TimeoutError):
            pass  # the client has disconnected

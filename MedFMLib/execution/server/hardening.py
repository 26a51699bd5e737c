"""What every request passes before it is answered: host, origin, token, size, time. Sentences for errors; a log of routes.

Pure ASGI. Nothing of a request's content, of paths' variable parts or of clients' names gets into the log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time

from ...errors import Cancelled, InputError, MedFMError, ModelError, OutputError
from .jobs import Busy, Draining, UnknownJob
from .keys import ApiKeys
from .metrics import Metrics
from .settings import ServerLimits
from .volumes import Conflict, TooLarge

log = logging.getLogger(__name__)

OPEN_PATHS = ("/health",)
SEND_SECONDS = 60.0
"""A client that takes nothing for so long has gone."""

LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


class Unauthorized(MedFMError):
    """The token is missing or wrong; → 401."""


class Forbidden(MedFMError):
    """Comes from a web page or for another host; → 403."""


class TooSlow(MedFMError):
    """The body does not arrive; → 408."""


class TooLong(InputError):
    """The body is larger than allowed; → 413."""


class NotFound(MedFMError):
    """There is no such page; → 404."""


class NotAllowed(MedFMError):
    """Not with this method; → 405."""


class UnknownModel(ModelError):
    """The server has no such model; → 404."""


class VolumeMissing(MedFMError):
    """The voxels have to be sent first; → 412."""


STATUS = (
    (Unauthorized, 401), (Forbidden, 403), (TooSlow, 408), (TooLong, 413), (TooLarge, 413), (NotFound, 404), (NotAllowed, 405),
    (UnknownJob, 404), (UnknownModel, 404), (VolumeMissing, 412), (Conflict, 409), (Busy, 429), (Draining, 503), (Cancelled, 499),
    (InputError, 400), (ModelError, 422), (OutputError, 507),
)  # fmt: skip
"""Kind of error → status, the first that fits."""

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
"""What OpenAI's clients expect in `type`; "invalid_request_error" below 500, "server_error" from there."""


def status_of(error: MedFMError) -> int:
    """HTTP status of an error."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def error_content(error: MedFMError) -> dict:
    """The body of an answer that is an error: readable by OpenAI's clients and by ours."""
    status = status_of(error)
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = {UnknownModel: "model_not_found", Unauthorized: "invalid_api_key"}.get(type(error))
    content = {"message": str(error), "type": kind, "param": None, "code": code, "kind": type(error).__name__}
    if isinstance(error, Conflict):
        content["offset"] = error.offset
    return {"error": content}


def error_answer(error: MedFMError) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) that tell an error."""
    status, body = status_of(error), json.dumps(error_content(error)).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    if status in (429, 503):
        headers["retry-after"] = "2"
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return status, headers, body


class _Body:
    """A request's body as it arrives: not too much, not too slowly."""

    def __init__(self, scope, receive, limits: ServerLimits):
        names = {name for name, value in scope["headers"] if value != b"0"}
        self.whole = not names & {b"content-length", b"transfer-encoding"}
        self._receive, self._limits, self._taken = receive, limits, 0

    async def receive(self):
        """The next piece.

        Raises:
            TooSlow, TooLong: see there.
        """
        if self.whole:  # it only waits for the client to go
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._limits.body_seconds)
        except TimeoutError:
            raise TooSlow(
                f"Nothing of the body arrived for {self._limits.body_seconds:g} s; send it again over a better line."
            ) from None
        self._taken += len(message.get("body", b""))
        if self._taken > self._limits.body:
            raise TooLong(f"The body is longer than {self._limits.body} bytes, which this server takes; send less.")
        self.whole = not message.get("more_body", False)
        return message


class HardeningMiddleware:
    """The outermost layer of the server.

    Args:
        app: what answers. keys: who may. limits: how much. metrics: what counts.
        local: listens on this machine only, so that other host names are refused (a web page could point one here).
    """

    def __init__(self, app, keys: ApiKeys, limits: ServerLimits, metrics: Metrics, local: bool):
        self._app, self._keys, self._limits, self._metrics, self._local = app, keys, limits, metrics, local

    async def __call__(self, scope, receive, send):
        """One request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started, answered, body = time.monotonic(), {}, _Body(scope, receive, self._limits)

        async def watched_send(message):
            if message["type"] == "http.response.start":
                answered["status"] = message["status"]
                if not body.whole:  # the rest is not read, or a body without an end would be read for ever
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await asyncio.wait_for(send(message), SEND_SECONDS)

        try:
            self._admit(scope)
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
                    MedFMError(f"The server failed unexpectedly ({type(error).__name__}); its log says more."),
                    answered,
                    watched_send,
                )
        finally:
            route = getattr(scope.get("endpoint"), "__name__", "other")  # never the path: ids are in it
            status = answered.get("status", 0)
            self._metrics.requests.labels(route, str(status)).inc()
            log.info("%s %s %s %.0f ms", scope["method"], route, status, 1000 * (time.monotonic() - started))

    def _admit(self, scope) -> None:
        headers = dict(reversed(scope["headers"]))  # the first of each counts
        if self._local:
            name = headers.get(b"host", b"").decode("latin-1").lower()
            name = name.rpartition(":")[0] if name.rpartition(":")[2].isdigit() else name
            if name not in LOCAL_NAMES:
                raise Forbidden("This server answers on 127.0.0.1 only; use that address.")
        if b"origin" in headers:
            raise Forbidden("Web pages may not use this server; use a program.")
        try:
            length = int(headers.get(b"content-length", b"0"))
        except ValueError:
            raise InputError("The Content-Length header is no number.") from None
        if scope["path"] not in OPEN_PATHS:
            scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
            name = self._keys.name_of(token.strip())
            if name is None or scheme.lower() != "bearer":
                raise Unauthorized(
                    "The key is missing or wrong; send 'Authorization: Bearer KEY' with one that this server knows."
                )
            own = headers.get(b"x-medfm-client", b"").decode("latin-1")[:64]
            scope.setdefault("state", {})["client"] = f"{name}/{own or (scope.get('client') or ('',))[0]}"
        if length > self._limits.body:
            raise TooLong(
                f"A body of {length} bytes was announced; this server takes {self._limits.body}. Send less, or in pieces."
            )

    async def _refuse(self, error: MedFMError, answered: dict, send) -> None:
        if answered:
            log.warning("A job's stream broke off (%s)", type(error).__name__)
            return
        status, headers, body = error_answer(error)
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        try:
            await send({"type": "http.response.start", "status": status, "headers": raw})
            await send({"type": "http.response.body", "body": body})
        except (OSError, TimeoutError):
            pass  # nobody is there to read it

"""Serve MedFM's own HTTP API: volumes in pieces, jobs, their events, the server's state.

Uses starlette; computes nothing.

    GET    /health                              no key needed: {"status": "ok"}
    GET    /metrics                             Prometheus
    GET    /medfm/v1/state                      version, queue, worker processes
    GET    /medfm/v1/models                     cards of the available models
    POST   /medfm/v1/models/load                {"model", "adapter", "precision"}: preload a model
    POST   /medfm/v1/unload                     end idle worker processes, which frees their memory
    HEAD   /medfm/v1/volumes/{sha256}           Upload-Offset: bytes received; 200 if complete, 202 if not
    PATCH  /medfm/v1/volumes/{sha256}           a piece: Upload-Offset, Upload-Length, maybe Content-Encoding: deflate
    PUT    /medfm/v1/jobs/{id}                  a request without its voxels (payload.py); MedFM-Volume is their SHA-256
    GET    /medfm/v1/jobs/{id}/events?after=n   frames (worker/frames.py): events after the n-th, pulses, response or
    error
    DELETE /medfm/v1/jobs/{id}                  cancel the job, discard its result

A PUT may be repeated, an upload continues where it stopped, events can be requested again: a lost connection loses
nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import re

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ... import __version__
from ...errors import InputError, MedFMError
from .. import payload
from ..messages import error_as_json
from ..worker import frames
from . import openai_api
from .hardening import HardeningMiddleware, NotAllowed, NotFound, VolumeMissing, error_answer
from .keys import ApiKeys
from .privacy import hide_folders
from .records import JobRecord
from .requests import body_of, inflate, json_body, number_in
from .service import Service, cards, service_of
from .volumes import DIGEST

log = logging.getLogger(__name__)

JOB = re.compile(r"[0-9a-f]{32}")


def make_app(service: Service, keys: ApiKeys):
    """Return the ASGI application.

    Args:
        service: the shared objects of the routes.
        keys: keys that may connect.
    """
    routes = [
        Route("/health", health),
        Route("/metrics", metrics),
        Route("/medfm/v1/state", state),
        Route("/medfm/v1/models", models),
        Route("/medfm/v1/models/load", load, methods=["POST"]),
        Route("/medfm/v1/unload", unload, methods=["POST"]),
        Route("/medfm/v1/volumes/{digest}", volume, methods=["HEAD", "PATCH"]),
        Route("/medfm/v1/jobs/{name}", job, methods=["PUT", "DELETE"]),
        Route("/medfm/v1/jobs/{name}/events", events),
        *openai_api.ROUTES,
    ]

    @contextlib.asynccontextmanager
    async def lifespan(app):
        service.jobs.start()
        tidying = asyncio.create_task(_tidy(service))
        yield
        tidying.cancel()
        service.jobs.close()
        service.volumes.close()

    handlers = {HTTPException: _http_error, MedFMError: _error_response}
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    app.state.service = service
    return HardeningMiddleware(app, keys, service.limits, service.metrics, service.accounts, service.local)


async def _http_error(request: Request, error: HTTPException) -> Response:
    kind = NotAllowed if error.status_code == 405 else NotFound
    return await _error_response(
        request,
        kind(f"{request.method} is not supported at this address; docs/server.md lists the supported requests."),
    )


async def _error_response(request: Request, error: MedFMError) -> Response:
    if not service_of(request).local:
        error.args = (hide_folders(str(error)),)
    status, headers, body = error_answer(error)
    return Response(body, status, headers)


async def _tidy(service: Service) -> None:
    while True:
        await asyncio.sleep(1.0)
        try:
            await run_in_threadpool(service.jobs.tidy)
        except Exception as error:  # retried in a second; no message, because file names must stay out of the log
            log.error("The periodic cleanup failed (%s)", type(error).__name__)


async def health(request: Request) -> Response:
    """Answer whether the server is up."""
    return JSONResponse({"status": "draining" if service_of(request).jobs.draining else "ok"})


async def metrics(request: Request) -> Response:
    """Return the counters."""
    return Response(service_of(request).metrics.text(), media_type="text/plain; version=0.0.4")


async def state(request: Request) -> Response:
    """Return the current state of queue and worker processes."""
    jobs = service_of(request).jobs
    waiting, running = jobs.counts
    workers = [vars(worker) for worker in await run_in_threadpool(jobs.states)]
    return JSONResponse(
        {"version": __version__, "waiting": waiting, "running": running, "draining": jobs.draining, "workers": workers}
    )


async def models(request: Request) -> Response:
    """List the available models."""
    return JSONResponse(
        {
            "models": [
                {"id": card.id, "title": card.title, "abilities": list(card.abilities), "adapters": list(card.adapters)}
                for card in cards().values()
            ]
        }
    )


async def load(request: Request) -> Response:
    """Preload a model on every worker process, if no job waits or runs."""
    content = await json_body(request, service_of(request).accounts)
    wanted = {name: content.get(name, "") for name in ("model", "adapter", "precision")}
    if not all(isinstance(value, str) for value in wanted.values()) or set(content) - set(wanted):
        raise InputError("Send {'model': …, 'adapter': …, 'precision': …}, each a string.")
    service = service_of(request)
    service.check_names(wanted["model"], wanted["adapter"])
    if service.jobs.counts == (0, 0):
        for worker in service.workers:
            await run_in_threadpool(functools.partial(worker.prepare, **wanted))
    return JSONResponse({"loading": wanted["model"]}, status_code=202)


async def unload(request: Request) -> Response:
    """End idle worker processes."""
    return JSONResponse({"ended": await run_in_threadpool(service_of(request).jobs.unload)})


async def volume(request: Request) -> Response:
    """Return the upload state of a volume, or receive a further piece."""
    service, digest = service_of(request), request.path_params["digest"]
    if not DIGEST.fullmatch(digest):
        raise InputError("The name of a volume must be the SHA-256 of its voxels, 64 hexadecimal digits.")
    client, volumes = request.state.client, service.volumes
    if request.method == "HEAD":
        offset = volumes.offset(client, digest)
    else:
        start, size = number_in(request, "upload-offset"), number_in(request, "upload-length")
        encoding, piece = request.headers.get("content-encoding", ""), await body_of(request)
        if encoding == "deflate":
            piece = await service.accounts.run(client.key, inflate, piece, service.limits.body)
        elif encoding:
            raise InputError(f"The encoding '{encoding[:20]}' is not supported; send deflate, or leave it out.")
        offset = await service.accounts.run(client.key, volumes.append, client, digest, size, start, piece)
    if offset is None:
        return Response(status_code=200)
    return Response(status_code=202, headers={"Upload-Offset": str(offset)})


async def job(request: Request) -> Response:
    """Accept or cancel a job."""
    service, client, name = service_of(request), request.state.client, request.path_params["name"]
    if not JOB.fullmatch(name):
        raise InputError("The name of a job must be 32 hexadecimal digits, chosen at random by the client.")
    if request.method == "DELETE":
        service.jobs.discard(service.jobs.get(client, name))
        return Response(status_code=204)
    service.jobs.require_capacity(client, name)
    rest = await body_of(request)
    asked, shape, dtype = await service.accounts.run(client.key, payload.look, rest, service.limits.body)
    service.check(asked)
    digest, size = request.headers.get("medfm-volume", ""), payload.size_of(shape, dtype)
    service.accounts.take(client.key, len(rest))
    try:
        path = service.volumes.hold(client.key, digest, size)
        try:
            packed = payload.Payload(rest, path)
            record = service.jobs.submit(client, name, asked.task, packed, digest, charged=len(rest))
        except BaseException:
            service.volumes.release(client.key, digest)
            raise
    except KeyError:
        service.accounts.give(client.key, len(rest))
        raise VolumeMissing("The voxels of this job were not uploaded; send them first.") from None
    except BaseException:
        service.accounts.give(client.key, len(rest))
        raise
    return JSONResponse({"ahead": service.jobs.ahead(record)}, status_code=202)


async def events(request: Request) -> Response:
    """Stream the events of a job until its end."""
    service = service_of(request)
    try:
        after = int(request.query_params.get("after", "0"))
    except ValueError:
        raise InputError("'after' must be the number of the last event that was received.") from None
    record = service.jobs.get(request.state.client, request.path_params["name"])
    return StreamingResponse(_frames(record, max(after, 0), service), media_type="application/octet-stream")


async def _frames(record: JobRecord, after: int, service: Service):
    async for event in record.follow(after, service.jobs.ahead):
        if event is not None and not service.local:
            event = {name: hide_folders(value) if isinstance(value, str) else value for name, value in event.items()}
        yield frames.frame(frames.PULSE) if event is None else frames.json_frame(frames.EVENT, event)
    if record.error is not None:
        yield frames.json_frame(frames.ERROR, error_as_json(record.error))
    else:
        yield frames.HEADER.pack(frames.RESPONSE, len(record.result))
        yield record.result

"""Serve the OpenAI-compatible API, /v1/models and /v1/chat/completions, for any OpenAI client. Loads no model.

A chat is an `ask` request: its pictures are the image, the last user message is the question, earlier pairs are the
history. An adapter follows the model's name after a colon, `medfm-tiny:brain-mr`. Decoding is greedy, so `temperature`,
`top_p` and `seed` have no effect; unsupported options that would change the answer (tools, JSON mode, several answers)
are refused.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ...errors import MedFMError
from ...models.runtime import estimates
from .. import payload, serialization
from .accounts import Client
from .chats import Chat, read_chat
from .hardening import UnknownModel, error_content
from .pictures import image_from_urls, size_of_urls
from .records import JobRecord
from .requests import json_body
from .service import Service, cards, service_of


async def models(request: Request) -> Response:
    """List the models on this machine that can write, with and without their adapters."""
    return JSONResponse({"object": "list", "data": await run_in_threadpool(_listed)})


async def model(request: Request) -> Response:
    """Return one model of the list."""
    name = request.path_params["name"]
    for entry in await run_in_threadpool(_listed):
        if entry["id"] == name:
            return JSONResponse(entry)
    raise UnknownModel(f"This server has no model '{name[:100]}'; /v1/models lists those that it has.")


def _listed() -> list[dict]:
    found = []
    for card in cards().values():
        if "writes" in card.abilities and estimates.is_here(card):
            for name in (card.id, *(f"{card.id}:{adapter}" for adapter in card.adapters)):
                found.append({"id": name, "object": "model", "created": 0, "owned_by": "medfm"})
    return found


async def chat(request: Request) -> Response:
    """Answer a chat, in one response or streamed."""
    service, client = service_of(request), request.state.client
    asked = await run_in_threadpool(read_chat, await json_body(request, service.accounts), service.limits)
    service.check_names(asked.model, asked.adapter)
    record = await _submit(service, client, asked)
    reply = _Reply(asked, record)
    if asked.stream:
        return StreamingResponse(_stream(reply, service.jobs), media_type="text/event-stream")
    try:
        async for piece in reply.pieces():
            if piece is None and await request.is_disconnected():
                break
        return JSONResponse(await reply.complete())
    finally:
        service.jobs.discard(record)


async def _submit(service: Service, client: Client, asked: Chat) -> JobRecord:
    """Queue the job of a chat; its pictures are decoded only after it has a place and its key has the memory."""
    key, accounts = client.key, service.accounts
    with service.jobs.admitted(client):
        most = await accounts.run(key, size_of_urls, asked.pictures, service.limits.pixels)
        accounts.take(key, most)
        try:
            packed = await accounts.run_alone(key, _pack, asked, service.limits.pixels)
            size = len(packed.voxels) + len(packed.rest)
            accounts.take(key, size, force=True)
        finally:
            accounts.give(key, most)
    try:
        return service.jobs.submit(client, uuid.uuid4().hex, "ask", packed, charged=size)
    except BaseException:
        accounts.give(key, size)
        raise


def _pack(asked: Chat, most_pixels: int) -> payload.Payload:
    packed = payload.pack(asked.request(image_from_urls(asked.pictures, most_pixels)))
    return payload.Payload(packed.rest, bytes(packed.voxels))


class _Reply:
    """The answer of a job in OpenAI's format, cut at the first stop text."""

    def __init__(self, asked: Chat, record: JobRecord):
        self._asked, self._record = asked, record
        self._held, self._cut, self._text = "", False, ""
        self.id, self.created = f"chatcmpl-{record.name}", int(time.time())

    async def pieces(self, ahead=lambda record: 0) -> AsyncIterator[str | None]:
        """Yield the text piece by piece, and None at pulses.

        Raises:
            MedFMError: if the job failed.
        """
        async for event in self._record.follow(ahead=ahead):
            if event is None or event["event"] != "PartialText":
                yield None
            elif piece := self._take(event["text"]):
                yield piece
            if self._cut:
                break
        if not self._cut:
            if self._record.error is not None:
                raise self._record.error
            self._text += self._held
            if self._held:
                yield self._held

    def _take(self, text: str) -> str:
        """Return the new text that can't be part of a stop text; the rest is buffered."""
        self._held += text
        places = [place for stop in self._asked.stop if (place := self._held.find(stop)) >= 0]
        if places:
            self._cut, shown, self._held = True, self._held[: min(places)], ""
        else:
            keep = max((_overlap(self._held, stop) for stop in self._asked.stop), default=0)
            shown = self._held[: len(self._held) - keep]
            self._held = self._held[len(shown) :]
        self._text += shown
        return shown

    async def complete(self) -> dict:
        """Return the answer in one piece."""
        text, usage, reason = await self.end()
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": usage}

    async def end(self) -> tuple[str, dict, str]:
        """Return (text, token counts, finish reason)."""
        read = written = 0
        text = self._text.strip()
        if not self._cut and self._record.result is not None:
            response = await run_in_threadpool(serialization.loads, self._record.result)
            read, written = response.provenance.tokens
            text = text or (response.answers[0].text if response.answers else "")
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        return text, usage, "length" if written >= self._asked.max_tokens else "stop"

    def chunk(self, delta: dict, reason: str | None = None) -> dict:
        """Return a piece of a stream."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def counts(self, usage: dict) -> dict:
        """Return the last piece of a stream whose client wants token counts."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage}

    def _head(self, kind: str) -> dict:
        return {"id": self.id, "object": kind, "created": self.created, "model": self._asked.name}

    @property
    def record(self) -> JobRecord:
        """The job."""
        return self._record

    @property
    def wants_counts(self) -> bool:
        """Whether the client wants token counts at the end."""
        return self._asked.usage


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` may be the beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-n:])), 0)


async def _stream(reply: _Reply, jobs) -> AsyncIterator[str]:
    try:
        yield _event(reply.chunk({"role": "assistant", "content": ""}))
        async for piece in reply.pieces(jobs.ahead):
            yield ": \n\n" if piece is None else _event(reply.chunk({"content": piece}))
        _, usage, reason = await reply.end()
        yield _event(reply.chunk({}, reason))
        if reply.wants_counts:
            yield _event(reply.counts(usage))
        yield "data: [DONE]\n\n"
    except MedFMError as error:
        yield _event(error_content(error))
    finally:
        jobs.discard(reply.record)


def _event(content: dict) -> str:
    return f"data: {json.dumps(content)}\n\n"


ROUTES = (
    Route("/v1/models", models),
    Route("/v1/models/{name:path}", model),
    Route("/v1/chat/completions", chat, methods=["POST"]),
)

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
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ...core.request import Request as MedFMRequest
from ...errors import InputError, MedFMError
from ...interfaces import registry
from ...models.runtime import estimates
from ...storage import installed_models
from .. import payload, serialization
from .hardening import UnknownModel, error_content
from .jobs import JobRecord
from .pictures import image_from_urls
from .requests import json_body
from .service import cards, service_of

REFUSED = ("tools", "functions", "logprobs", "audio", "modalities", "prediction")


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
    content = await json_body(request)
    asked = await run_in_threadpool(read_chat, content, service.limits)
    service.check(asked.request)
    service.jobs.require_capacity(client)
    packed = await run_in_threadpool(payload.pack, asked.request)
    packed = payload.Payload(packed.rest, bytes(packed.voxels))
    record = service.jobs.submit(client, uuid.uuid4().hex, asked.request, packed)
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


@dataclass(frozen=True, eq=False)
class Chat:
    """A parsed chat completion.

    Args:
        request: the request to run.
        name: name of the model as the client gave it.
        stop: texts that end the answer.
        stream: stream the answer.
        usage: send the token counts at the end of a stream.
    """

    request: MedFMRequest
    name: str
    stop: tuple[str, ...]
    stream: bool
    usage: bool


def read_chat(content: dict, limits) -> Chat:
    """Return the chat that the body of a chat completion describes.

    Args:
        content: JSON object of the body.
        limits: limits of the server (`ServerLimits`).

    Raises:
        InputError: if something is missing, malformed or not supported.
        UnknownModel: if there is no such model or adapter.
    """
    for name in REFUSED:
        if content.get(name):
            raise InputError(f"MedFM does not support '{name}'; leave it out.")
    if content.get("n") not in (None, 1):
        raise InputError("MedFM gives one answer; leave 'n' out or send 1.")
    form = content.get("response_format")
    if form is not None and (not isinstance(form, dict) or form.get("type") != "text"):
        raise InputError("MedFM answers in plain text; leave 'response_format' out.")
    name = content.get("model")
    if not isinstance(name, str) or not name:
        raise InputError("'model' is missing; /v1/models lists the names.")
    model_id, _, adapter = name.partition(":")
    card = cards().get(model_id)
    if card is None:
        raise UnknownModel(f"This server has no model '{name[:100]}'; /v1/models lists those that it has.")
    if adapter and adapter not in (*card.adapters, *installed_models.adapters()):
        raise UnknownModel(f"{card.title} has no adapter '{adapter[:100]}'; /v1/models lists those that it has.")
    turns, pictures, system = _turns(content.get("messages"))
    if not pictures:
        raise InputError("MedFM answers questions about pictures; send one as an image_url part with a data: URL.")
    single = not registry.traits(card).converses
    most = min(limits.pictures, 1 if single else limits.pictures)
    if len(pictures) > most:
        raise InputError(
            f"{card.title} takes {most} picture{'s' if most > 1 else ''} here, not {len(pictures)}; send fewer."
        )
    *earlier, question = turns
    if system and not single:
        question = f"{system}\n\n{question}"
    length = content.get("max_completion_tokens", content.get("max_tokens"))
    length = 256 if length is None else length
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise InputError(f"The token limit must be a whole number of at least 1, not {length!r}.")
    stop = content.get("stop") or ()
    stop = (stop,) if isinstance(stop, str) else stop
    if not isinstance(stop, list | tuple) or not all(isinstance(s, str) and s for s in stop) or len(stop) > 16:
        raise InputError("'stop' must be a string or a list of at most 16 strings.")
    asked = MedFMRequest(
        "ask",
        image_from_urls(pictures, limits.pixels),
        question=question,
        history=tuple(zip(earlier[::2], earlier[1::2], strict=True)),
        max_tokens=min(length, limits.tokens),
        model=model_id,
        adapter=adapter or "none" if adapter != "automatic" else adapter,
    )
    options = content.get("stream_options")
    return Chat(
        asked,
        name,
        tuple(stop),
        bool(content.get("stream")),
        isinstance(options, dict) and bool(options.get("include_usage")),
    )


def _turns(messages) -> tuple[list[str], list[str], str]:
    """Return (texts of user, assistant, …, user; URLs of pictures; system text) of a chat's messages."""
    if not isinstance(messages, list) or not messages:
        raise InputError("'messages' is missing; send at least one message with role 'user'.")
    turns: list[str] = []
    pictures: list[str] = []
    system: list[str] = []
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        text, found = _parts(message.get("content")) if role else ("", [])
        pictures += found
        if role in ("system", "developer"):
            system.append(text)
        elif role == ("user", "assistant")[len(turns) % 2]:
            turns.append(text)
        elif role == "user":  # consecutive messages of the user are joined
            turns[-1] = f"{turns[-1]}\n{text}".strip()
        else:
            raise InputError("Messages must alternate between 'user' and 'assistant', each with 'role' and 'content'.")
    if len(turns) % 2 == 0:
        raise InputError("The last message must have the role 'user'.")
    return turns, pictures, "\n".join(system).strip()


def _parts(content) -> tuple[str, list[str]]:
    """Return (text, URLs of pictures) of one message's content."""
    if isinstance(content, str):
        return content, []
    texts, pictures = [], []
    for part in content if isinstance(content, list) else [None]:
        kind = part.get("type") if isinstance(part, dict) else None
        url = part.get("image_url") if kind == "image_url" else None
        url = url.get("url") if isinstance(url, dict) else url
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif isinstance(url, str):
            pictures.append(url)
        else:
            raise InputError("A message's content must be a string, or a list of 'text' and 'image_url' parts.")
    return "\n".join(texts), pictures


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
        return text, usage, "length" if written >= self._asked.request.max_tokens else "stop"

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

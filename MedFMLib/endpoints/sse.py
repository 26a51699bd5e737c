"""Parse streamed answers: server-sent events, or one JSON object. Knows the protocol's texts; no sockets.

Events follow the HTML standard's "Server-sent events" (9.2.6): lines end in CR LF, LF or CR, "data:" lines of an event
are
joined, comments and other fields are ignored. Chunks follow OpenAI's chat completions; an answer ends with "[DONE]", or
with the end of the stream after a finish_reason, as from some servers.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..storage.json_text import read_json
from .failures import Failures

LONGEST_LINE, LONGEST_ANSWER = 2**20, 2**23
"""Bytes and characters; anything longer is not a valid answer."""


@dataclass(frozen=True)
class StreamedAnswer:
    """A complete answer.

    Args:
        text: all of it.
        model: the name that the endpoint reported.
        finish: why it ended, such as "stop" or "length".
        streamed: whether it arrived in pieces.
        tokens: numbers read and written, zeros if unknown.
    """

    text: str
    model: str = ""
    finish: str = ""
    streamed: bool = False
    tokens: tuple[int, int] = (0, 0)


def data_of(chunks: Iterable[bytes], too_long: Exception) -> Iterator[str]:
    """Yield the data of each event.

    Args:
        chunks: bytes as they arrive.
        too_long: raised if a line never ends.

    Raises:
        Exception: `too_long`.
    """
    decoder, rest, lines = codecs.getincrementaldecoder("utf-8")("replace"), "", []
    for chunk in chunks:
        rest += decoder.decode(chunk)
        if len(rest) > LONGEST_LINE:
            raise too_long
        if b"\n" not in chunk and b"\r" not in chunk:
            continue
        *whole, rest = _lines(rest)
        for line in whole:
            if line:
                lines += [line[5:].removeprefix(" ")] if line.startswith("data:") else []
            elif lines:
                yield "\n".join(lines)
                lines = []
    last = rest.rstrip("\r")
    if last.startswith("data:"):
        lines.append(last[5:].removeprefix(" "))
    if lines:  # a last event without its empty line, as some servers end
        yield "\n".join(lines)


def _lines(text: str) -> list[str]:
    """Split into lines, including the unfinished last one; a CR at the very end may be half of a line end."""
    held = "\r" if text.endswith("\r") else ""
    parts = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    parts[-1] += held
    return parts


class EventStreamReader:
    """Parser of one answer.

    Args:
        failures: error messages.
        streamed: whether the bytes are events, or else one JSON object.
    """

    def __init__(self, failures: Failures, streamed: bool):
        self._failures, self._streamed = failures, streamed

    def pieces(self, chunks: Iterable[bytes]) -> Iterator[str | StreamedAnswer]:
        """Yield pieces of text, then the complete answer as a `StreamedAnswer`.

        Raises:
            EndpointError: if it is an error, invalid, too long, or ends in the middle.
        """
        text, model, finish, ended, length, tokens = [], "", "", False, 0, (0, 0)
        began = False
        for content in self._objects(chunks):
            if content is None:
                ended = True
                break
            if content.get("error"):
                raise self._failures.in_stream(content["error"])
            began = True
            piece, finished = self._piece(content)
            tokens = _tokens(content.get("usage")) or tokens
            model, finish = str(content.get("model") or model), finished or finish
            if piece:
                text.append(piece)
                length += len(piece)
                if length > LONGEST_ANSWER:
                    raise self._failures.nonsense("more text than a model writes")
                yield piece
        if not (ended or finish):
            raise self._failures.broken() if began and self._streamed else self._failures.nonsense("no answer")
        yield StreamedAnswer("".join(text), model, finish, self._streamed, tokens)

    def _objects(self, chunks: Iterable[bytes]) -> Iterator[dict[str, Any] | None]:
        """Yield JSON objects; None for "[DONE]"."""
        nonsense = self._failures.nonsense("something that is not JSON")
        texts = (
            data_of(chunks, self._failures.nonsense("a line without end"))
            if self._streamed
            else [b"".join(chunks).decode("utf-8", "replace")]
        )
        for text in texts:
            if text.strip() == "[DONE]":
                yield None
                return
            try:
                content = read_json(text)
            except ValueError:
                raise nonsense from None
            if not isinstance(content, dict):
                raise nonsense
            yield content

    def _piece(self, content: dict[str, Any]) -> tuple[str, str]:
        """Return (text, finish reason) of a chunk or of a complete answer."""
        try:
            choices = content.get("choices") or []
            if not choices and not self._streamed:
                raise KeyError("choices")
            for choice in choices[:1]:
                part = choice.get("delta") or choice.get("message") or {}
                said = part.get("content") or ""
                return said if isinstance(said, str) else "", str(choice.get("finish_reason") or "")
        except (KeyError, TypeError, AttributeError):
            raise self._failures.nonsense("JSON that is no chat completion") from None
        return "", ""


def _tokens(usage: object) -> tuple[int, int] | None:
    """Return (read, written), or None if the server doesn't state them."""
    numbers = [usage.get(f"{kind}_tokens") for kind in ("prompt", "completion")] if isinstance(usage, dict) else []
    return (numbers[0], numbers[1]) if numbers and all(type(n) is int and n >= 0 for n in numbers) else None

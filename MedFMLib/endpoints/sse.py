"""Answers as they come: server-sent events, or one JSON object. Knows the protocol's texts; no sockets.

Events by the HTML standard's "Server-sent events" (9.2.6): lines end in CR LF, LF or CR, "data:" lines of an event are
joined, comments and other fields are passed over. Chunks by OpenAI's chat completions; an answer ends with "[DONE]", or
with the end of the stream after a finish_reason, as some servers have it.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .failures import Failures

LONGEST_LINE, LONGEST_ANSWER = 2**20, 2**23
"""Bytes and characters; what is longer is no answer to a question of ours."""


@dataclass(frozen=True)
class StreamedAnswer:
    """An answer.

    Args:
        text: all of it. model: the name that the endpoint reported. finish: why it ended, such as "stop" or "length".
        streamed: did it come in pieces? tokens: read and written, zeros if it isn't told.
    """

    text: str
    model: str = ""
    finish: str = ""
    streamed: bool = False
    tokens: tuple[int, int] = (0, 0)


def data_of(chunks: Iterable[bytes], too_long: Exception) -> Iterator[str]:
    """The data of each event.

    Raises:
        too_long: if a line never ends.
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
    if lines:  # a last event without its empty line: servers that end so mean it
        yield "\n".join(lines)


def _lines(text: str) -> list[str]:
    """Lines, the unfinished last one included; a CR at the very end may be half of a line's end."""
    held = "\r" if text.endswith("\r") else ""
    parts = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    parts[-1] += held
    return parts


class EventStreamReader:
    """Reads one answer.

    Args:
        failures: sentences for what goes wrong. streamed: are the bytes events? Else they are one JSON object.
    """

    def __init__(self, failures: Failures, streamed: bool):
        self._failures, self._streamed = failures, streamed

    def pieces(self, chunks: Iterable[bytes]) -> Iterator[str | StreamedAnswer]:
        """Pieces of text, then the whole as a `StreamedAnswer`.

        Raises:
            EndpointError: if it is an error, nonsense, too long, or ends in the middle.
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
        """JSON objects; None for "[DONE]"."""
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
                content = json.loads(text)
            except ValueError:
                raise nonsense from None
            if not isinstance(content, dict):
                raise nonsense
            yield content

    def _piece(self, content: dict[str, Any]) -> tuple[str, str]:
        """(text, why it ended) of a chunk or of a whole answer."""
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
    """(read, written), or None if a server doesn't say."""
    numbers = [usage.get(f"{kind}_tokens") for kind in ("prompt", "completion")] if isinstance(usage, dict) else []
    return (numbers[0], numbers[1]) if numbers and all(type(n) is int and n >= 0 for n in numbers) else None

"""What routes need of a request: its body, bounded and parsed; numbers in headers; the cards of this server."""

from __future__ import annotations

import json
import re
import zlib

from starlette.requests import ClientDisconnect, Request

from ...errors import InputError


async def body_of(request: Request) -> bytes:
    """The whole body; the shield bounds it.

    Raises:
        InputError: the client went away in the middle.
    """
    try:
        return await request.body()
    except ClientDisconnect:
        raise InputError("The connection broke before the whole body had arrived; send it again.") from None


async def json_body(request: Request) -> dict:
    """The body as a JSON object.

    Raises:
        InputError: if it is none.
    """
    try:
        content = json.loads(await body_of(request))
    except (ValueError, RecursionError):
        raise InputError("The body is no JSON; send an object.") from None
    if not isinstance(content, dict):
        raise InputError("The body must be a JSON object.")
    return content


def number_in(request: Request, header: str) -> int:
    """A whole number in a header.

    Raises:
        InputError: if it is missing or none.
    """
    text = request.headers.get(header, "")
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise InputError(f"The header {header} must be a whole number.")
    return int(text)


def inflate(data: bytes, limit: int) -> bytes:
    """Compressed bytes → at most `limit` raw ones.

    Raises:
        InputError: they are damaged or more.
    """
    try:
        inflater = zlib.decompressobj()
        raw = inflater.decompress(data, limit + 1)
    except zlib.error:
        raise InputError("The piece is damaged (it can't be inflated); send it again.") from None
    if len(raw) > limit or not inflater.eof:
        raise InputError(f"The piece is damaged or holds more than {limit} bytes; send smaller ones.")
    return raw

"""Read the body and the headers of a request for the routes, within limits."""

from __future__ import annotations

import re
import zlib
from json import JSONDecodeError

from starlette.requests import ClientDisconnect, Request

from ...errors import InputError
from ...storage.json_text import read_json
from .accounts import Accounts


async def body_of(request: Request) -> bytes:
    """Return the complete body; `hardening` limits its size.

    Raises:
        InputError: if the client disconnected before the end.
    """
    try:
        return await request.body()
    except ClientDisconnect:
        raise InputError("The connection broke before the whole body had arrived; send it again.") from None


async def json_body(request: Request, accounts: Accounts) -> dict:
    """Return the body as a JSON object.

    Args:
        request: the request.
        accounts: what each key holds; bodies are read in its turn.

    Raises:
        InputError: if it is not one.
    """
    try:
        content = await accounts.run(request.state.client.key, read_json, await body_of(request))
    except ValueError as error:
        reason = type(error).__name__ if isinstance(error, JSONDecodeError | UnicodeError) else str(error)[:100]
        raise InputError(f"The body is not JSON that this server reads ({reason}); send a JSON object.") from None
    if not isinstance(content, dict):
        raise InputError(f"The body must be a JSON object, not {type(content).__name__}.")
    return content


def number_in(request: Request, header: str) -> int:
    """Return the whole number in a header.

    Args:
        request: the request.
        header: name of the header, lower case.

    Raises:
        InputError: if it is missing or not a whole number.
    """
    text = request.headers.get(header, "")
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise InputError(f"The header {header} must be a whole number.")
    return int(text)


def inflate(data: bytes, limit: int) -> bytes:
    """Return the decompressed bytes.

    Args:
        data: zlib stream.
        limit: largest number of decompressed bytes.

    Raises:
        InputError: if they are damaged or more.
    """
    try:
        inflater = zlib.decompressobj()
        raw = inflater.decompress(data, limit + 1)
    except zlib.error:
        raise InputError("The piece is damaged (it can't be inflated); send it again.") from None
    if len(raw) > limit or not inflater.eof:
        raise InputError(f"The piece is damaged or contains more than {limit} bytes; send smaller ones.")
    return raw

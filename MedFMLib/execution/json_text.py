"""Read JSON that a stranger wrote, with bounds on what it becomes in memory. Knows nothing of requests or values."""

from __future__ import annotations

import json
import re

MOST_PARTS = 300_000
"""Largest number of values, counted as the separators before them; `[],` takes 3 bytes as text and 64 in memory."""

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json(data: bytes):
    """Return the value of a JSON text.

    Raises:
        ValueError: if it is no JSON, has more than `MOST_PARTS` parts, NaN or an infinite number, is nested too deeply,
            or has text that is not Unicode.
    """
    parts = sum(data.count(sign) for sign in (b",", b"[", b"{"))
    if parts > MOST_PARTS:
        raise ValueError(f"{parts} parts; at most {MOST_PARTS} are read")
    try:
        value = json.loads(data, parse_constant=_refuse)
        if SURROGATE.search(data):  # half a pair is no character, and can't be written anywhere later
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _refuse(constant: str):
    raise ValueError(f"{constant} is not JSON")

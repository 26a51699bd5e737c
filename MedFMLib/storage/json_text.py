"""Read JSON that a stranger wrote, with bounds on what it becomes in memory: cards, configurations, messages. Knows no content.

Every JSON file or message that MedFM did not write a moment ago itself is read here.
"""

from __future__ import annotations

import json
import math
import re

MOST_PARTS = 300_000
"""Largest number of values, counted as the separators before them; `[],` takes 3 bytes as text and 64 in memory."""

SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json(data: bytes | str, most_parts: int = MOST_PARTS):
    """Return the value of a JSON text.

    Args:
        data: the text; bytes are UTF-8.
        most_parts: largest number of values.

    Raises:
        ValueError: if it is no JSON, has more parts, NaN or an infinite number, is nested too deeply, or has text that is not
            Unicode.
    """
    if isinstance(data, str):
        data = data.encode("utf-8", "surrogatepass")
    parts = sum(data.count(sign) for sign in (b",", b"[", b"{"))
    if parts > most_parts:
        raise ValueError(f"{parts} parts; at most {most_parts} are read")
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse, parse_float=_finite)
        if SURROGATE.search(data):  # half a pair is no character, and can't be written anywhere later
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def _refuse(constant: str):
    raise ValueError(f"{constant} is not JSON")

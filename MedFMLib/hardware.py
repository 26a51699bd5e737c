"""Say how much memory this machine has free. Knows no model.

MEDFM_MEMORY_LIMIT, such as "6 GB", bounds what is counted as free on a machine that is shared, main memory and GPU alike.
"""

from __future__ import annotations

import os
import re

from ..errors import InputError

LIMIT_VARIABLE = "MEDFM_MEMORY_LIMIT"
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def free_memory() -> int:
    """Return the bytes of main memory that programs can still take, at most the limit; 0 if unknown."""
    try:
        import psutil
    except ImportError:
        return memory_limit() or 0
    return limited(int(psutil.virtual_memory().available))


def memory_limit() -> int | None:
    """Return the bytes that MEDFM_MEMORY_LIMIT allows, None without it.

    Raises:
        InputError: if the variable is not a number with a unit.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]i?B)?", text, re.IGNORECASE)
    if match is None:
        raise InputError(f"{LIMIT_VARIABLE} is '{text}'; write a size such as '6 GB' or unset it.")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


def limited(free: int) -> int:
    """Return `free` bytes, or the limit if that is less."""
    limit = memory_limit()
    return free if limit is None else min(free, limit)

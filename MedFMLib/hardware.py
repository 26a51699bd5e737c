"""Say how much memory this machine has free. Knows no model, no file format.

MEDFM_MEMORY_LIMIT, such as "6 GB", bounds what is counted as free on a machine that is shared, main memory and GPU alike.
So do the limits of a container (cgroup) and of the process itself (`ulimit -v`).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import InputError

LIMIT_VARIABLE = "MEDFM_MEMORY_LIMIT"
_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux shows the memory limit of a container to the programs in it."""


def free_memory() -> int:
    """Return the bytes of main memory that this process can still take, at most the limits; 0 if unknown."""
    known = [size for size in (_of_machine(), _of_container(), _of_process(), memory_limit()) if size is not None]
    return min(known, default=0)


def memory_of(pid: int) -> int:
    """Return the main memory of a process in bytes; 0 if unknown."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        pass  # no Linux, or the process has ended
    try:
        import psutil

        return int(psutil.Process(pid).memory_info().rss)
    except Exception:  # psutil is missing, or the process has ended
        return 0


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


def _of_machine() -> int | None:
    """Return what the operating system can give without swapping, None if unknown."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass  # no Linux
    try:
        import psutil

        return int(psutil.virtual_memory().available)
    except ImportError:
        return None


def _of_container() -> int | None:
    """Return what the container of this process has left (cgroup v2, then v1), None without a limit."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            return max(int((CGROUP / limit).read_text()) - int((CGROUP / used).read_text()), 0)
        except (OSError, ValueError):
            continue  # not in a container, or "max"
    return None


def _of_process() -> int | None:
    """Return what `ulimit -v` leaves this process, None without a limit or where there is none (Windows)."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        return max(limit - used, 0)
    except (ImportError, OSError, ValueError, IndexError):
        return None

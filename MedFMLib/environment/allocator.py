"""Set how this process's C library keeps or returns freed memory. The only place that calls glibc's `mallopt`.

A volume's arrays are tens of megabytes each. The system hands such an array out page by page, each zeroed first, and takes
it back when it is freed: a fifth to a third of the time of a segmentation (docs/decisions/0012). Programs of MedFM's own
therefore keep freed memory (`keep_freed_memory`); a training that must peak low returns it at once
(`return_freed_memory`, docs/decisions/0013), and so does the loading of a quantized model (`returning_freed_memory`), which
restores the setting that was there. Never called inside Slicer. Without glibc every function does nothing.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
"""Parameters of mallopt (malloc.h)."""

_KEEP = {_MMAP_THRESHOLD: 1 << 30, _TRIM_THRESHOLD: (1 << 31) - 1, _TOP_PAD: 1 << 26, _ARENA_MAX: 1}
_RETURN = {_MMAP_THRESHOLD: 1 << 18, _TRIM_THRESHOLD: 1 << 17, _TOP_PAD: 1 << 17}
_RELEASING_THRESHOLD = 1 << 16
_UNSET_THRESHOLD = 1 << 22
"""Where nothing was set before: small blocks are quicker from the heap, large ones go back to the system."""

_threshold = _UNSET_THRESHOLD
"""The mmap threshold in bytes that was set last; glibc offers no way to read it."""


def keep_freed_memory() -> bool:
    """Keep freed memory in this process for the next array of the same size.

    Returns:
        Whether the C library can (glibc).
    """
    return _apply(_KEEP)


def return_freed_memory() -> bool:
    """Return freed pieces of 256 kB and more to the system at once: less memory, less speed.

    Undoes `keep_freed_memory`. A training's heap otherwise keeps holes between activations, whose sizes change every pass.

    Returns:
        Whether the C library can (glibc).
    """
    done = _apply(_RETURN)
    trim()
    return done


@contextmanager
def returning_freed_memory() -> Iterator[None]:
    """Return freed memory to the system at once inside the block, and restore the earlier setting afterwards.

    Without it, glibc keeps up to half a model's size while one is loaded in 4 bits.
    """
    before = _threshold
    _apply({_MMAP_THRESHOLD: _RELEASING_THRESHOLD})
    try:
        yield
    finally:
        _apply({_MMAP_THRESHOLD: before})
        trim()


def trim() -> None:
    """Return to the system whatever this process holds free."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def _apply(settings: dict[int, int]) -> bool:
    global _threshold
    libc = _glibc()
    if libc is None:
        return False
    done = min(libc.mallopt(name, value) for name, value in settings.items()) == 1
    _threshold = settings.get(_MMAP_THRESHOLD, _threshold)
    return done


def _glibc():
    """Return the C library if it is glibc, else None."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None

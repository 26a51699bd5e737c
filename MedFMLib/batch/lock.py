"""One batch at a time in a folder: a lock that the system takes back when its process ends, however that is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, OutputError

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder.

    Raises:
        InputError: another process holds it. OutputError: the lock can't be written.
    """
    try:
        stream = open(folder / NAME, "a+")  # noqa: SIM115 - closed below; closing is what unlocks
    except OSError as error:
        raise OutputError(f"'{folder}' can't be written ({error.strerror}); choose another folder.") from error
    try:
        try:
            _lock(stream)
        except OSError:
            stream.seek(0)
            raise InputError(
                f"Another batch works in '{folder}' (process {stream.read().strip() or 'unknown'}); wait for it, or choose "
                "another --output."
            ) from None
        stream.seek(0)
        stream.truncate()
        stream.write(str(os.getpid()))
        stream.flush()
        yield
    finally:
        stream.close()


def _lock(stream) -> None:
    if sys.platform == "win32":
        import msvcrt

        stream.seek(1 << 20)  # a byte beyond the text, so that others can read it
        msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)

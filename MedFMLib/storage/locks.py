"""Locks between processes, on files. A lock ends with the process that holds it, however that ends.

The operating system holds them (`filelock`, which torch and huggingface_hub bring along), so that a process number that
another program has got meanwhile plays no part.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import MedFMError, OutputError


@contextmanager
def exclusive(path: Path, busy: MedFMError) -> Iterator[None]:
    """Hold a lock for the length of a block, without waiting for it.

    Args:
        path: the lock's file, made if missing; its folder must exist. The number of the process that holds it stands in a
            file of the same name with ".pid", for messages only.
        busy: raised if another process holds the lock; {} in its sentence becomes that process's number.

    Raises:
        OutputError: if the lock can't be written.
    """
    from filelock import FileLock, Timeout

    lock, owner = FileLock(path, blocking=False), path.with_name(f"{path.name}.pid")
    try:
        lock.acquire()
    except Timeout:
        raise type(busy)(str(busy).replace("{}", _read(owner))) from None
    except OSError as error:
        raise OutputError(f"'{path.parent}' can't be written ({error.strerror}); choose another folder.") from error
    try:
        owner.write_text(str(os.getpid()))
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock; False if its file does not exist."""
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False


def _read(path: Path) -> str:
    try:
        return path.read_text().strip() or "unknown"
    except OSError:
        return "unknown"

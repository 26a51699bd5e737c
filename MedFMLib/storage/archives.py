"""Unpack zip archives of strangers: the only place where MedFM unpacks anything. Knows names and sizes; no contents.

An archive is checked before a byte is written: an entry must be a regular file with a relative name that stays inside,
occur once, and neither be encrypted nor inflate beyond the limits. What is written is counted again, since an archive
can lie about sizes. Libraries that would unpack by themselves get the clean copy.
"""

from __future__ import annotations

import errno
import shutil
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import InputError, OutputError

BLOCK = 1 << 20

LONGEST_NAME = 255
"""Bytes of a file's name that every file system holds."""

DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, struct.error, RuntimeError)
"""What `zipfile` raises for damaged archives, and for methods that it does not know."""


@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold.

    Args:
        entries: number of files and folders.
        total: bytes of all files, inflated.
        file: bytes of one file, inflated.
        ratio: inflated size of one file ÷ its size in the archive; small files may exceed it.
    """

    entries: int = 20_000
    total: int = 32 << 30
    file: int = 16 << 30
    ratio: int = 1000


SMALL = 64 << 20
"""Bytes up to which a file may have any ratio; an empty label map of that size is a few kilobytes when compressed."""


def check_name(name: str, where: str) -> PurePosixPath:
    """Return a name that stays inside of its folder.

    Args:
        name: of an entry or a data file, with forward slashes.
        where: what holds it, for the message.

    Raises:
        InputError: if it is absolute, has a drive, a backslash, a control character or a part that no disk can hold, or leads
            out of its folder.
    """
    path = PurePosixPath(name)
    unsafe = name.startswith(("/", "~")) or "\\" in name or ":" in name or ".." in path.parts or not path.parts
    too_long = any(len(part.encode("utf-8", "replace")) > LONGEST_NAME for part in path.parts)
    if unsafe or too_long or any(ord(letter) < 32 or 0xD800 <= ord(letter) < 0xE000 for letter in name):
        raise InputError(f"'{where}' names a file outside of its folder ({name[:80]!r}); it is refused.")
    return path


def check_entries(archive: zipfile.ZipFile, where: str, limits: ArchiveLimits = ArchiveLimits()) -> int:
    """Check all entries of an archive and return the bytes that it declares.

    Args:
        archive: open for reading.
        where: its name, for messages.
        limits: what it may hold.

    Raises:
        InputError: if an entry is unsafe, or there is more than the limits allow.
    """
    entries = archive.infolist()
    if len(entries) > limits.entries:
        raise InputError(
            f"'{where}' has {len(entries)} entries, and at most {limits.entries} are unpacked; it is refused."
        )
    seen: set[str] = set()
    total = 0
    for entry in entries:
        path = check_name(entry.filename.rstrip("/"), where)
        mode = entry.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise InputError(f"'{where}' has a link or a device ({entry.filename[:80]!r}); it is refused.")
        if entry.flag_bits & 1:
            raise InputError(f"'{where}' has an encrypted file ({entry.filename[:80]!r}); it is refused.")
        key = path.as_posix().casefold()
        if key in seen:
            raise InputError(f"'{where}' has two files of the same name ({entry.filename[:80]!r}); it is refused.")
        seen.add(key)
        inflated = entry.file_size > max(SMALL, limits.ratio * entry.compress_size)
        if entry.file_size > limits.file or inflated:
            raise InputError(
                f"'{where}' has a file that would inflate from {_size(entry.compress_size)} to {_size(entry.file_size)} "
                f"({entry.filename[:80]!r}); it is refused."
            )
        total += entry.file_size
    if total > limits.total:
        raise InputError(
            f"'{where}' would inflate to {_size(total)}, and at most {_size(limits.total)} are unpacked; it is refused."
        )
    return total


@contextmanager
def unpacked(path: Path, limits: ArchiveLimits = ArchiveLimits()) -> Iterator[Path]:
    """Yield a temporary folder with the checked content of a zip archive; it is deleted afterwards.

    Args:
        path: the archive.
        limits: what it may hold.

    Raises:
        InputError: if it is no zip archive, damaged, unsafe, or larger than allowed or declared.
        OutputError: if the disk has no space for it.
    """
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="medfm-") as name:
            folder = Path(name)
            total = check_entries(archive, path.name, limits)
            free = shutil.disk_usage(folder).free
            if total > free:
                raise OutputError(
                    f"'{path.name}' needs {_size(total)} on the disk, where {_size(free)} are free; free some space."
                )
            for entry in archive.infolist():
                with damage_as_error(path.name):
                    _extract(archive, entry, folder, path.name)
            yield folder
    except DAMAGED as error:
        raise _damaged(path.name, error) from error


@contextmanager
def damage_as_error(where: str) -> Iterator[None]:
    """Turn what a damaged archive raises into an `InputError`.

    Args:
        where: its name, for the message.

    Raises:
        InputError: if the block meets damage.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        raise _damaged(where, error) from error
    except DAMAGED as error:
        raise _damaged(where, error) from error


def _damaged(where: str, error: Exception) -> InputError:
    return InputError(f"'{where}' is no zip archive, or damaged ({error}); copy it again.")


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path, where: str) -> None:
    """Write one entry, counting what really comes out."""
    target = folder.joinpath(*check_name(entry.filename.rstrip("/"), where).parts)
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with archive.open(entry) as source, target.open("xb") as copy:
        while block := source.read(BLOCK):
            left -= len(block)
            if left < 0:
                raise InputError(f"'{where}' inflates to more than it says ({entry.filename[:80]!r}); it is refused.")
            copy.write(block)


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"

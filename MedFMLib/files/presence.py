"""Say why a path can't be read: missing, not fetched from a store, empty, packed, no file. Knows no image format."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError

POINTERS = {b"version https://git-lfs.github.com/spec": "git lfs pull", b"/annex/objects/": "git annex get"}
"""How a file begins that stands for another one in a store → the command that gets it."""

PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "ZIP", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "Zstandard",
          b"7z\xbc\xaf\x27\x1c": "7-Zip", b"Rar!": "RAR"}  # fmt: skip
"""How packed files begin → kind."""

START = 512
"""Bytes that are looked at; a tar archive has its mark at 257."""


def check_path(path: Path) -> None:
    """Check that a path is a folder, or a file with content.

    Args:
        path: as the user gave it.

    Raises:
        InputError: if it is missing, a link or pointer to a file that isn't here, empty, no regular file (a pipe would be
            waited for), or may not be read.
    """
    if not path.exists():
        if path.is_symlink():
            raise InputError(
                f"'{path}' is a link to '{os.readlink(path)}', which isn't here; get the file first (git annex get, dvc pull)."
            )
        raise InputError(f"There is no file or folder '{path}'; check the path.")
    if path.is_dir():
        return
    if not path.is_file():
        raise InputError(f"'{path}' is neither a file nor a folder; give an image file or a folder of DICOM files.")
    start = start_of(path)
    if not start:
        raise InputError(f"'{path.name}' is empty (0 bytes); copy it again.")
    if fetch := fetched_by(start):
        raise InputError(f"'{path.name}' only points to a file in a store, which isn't here; get it first ({fetch}).")


def start_of(path: Path) -> bytes:
    """Return the first bytes of a file.

    Args:
        path: a file.

    Raises:
        InputError: if it can't be opened.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(START)
    except OSError as error:
        raise InputError(
            f"'{path.name}' can't be opened ({error.strerror or error}); check who may read it, or copy it again."
        ) from error


def fetched_by(start: bytes) -> str:
    """Return the command that gets the file for which a pointer stands; "" if the bytes are no pointer.

    Args:
        start: the first bytes of a file.
    """
    return next((command for mark, command in POINTERS.items() if start.startswith(mark)), "")


def packed_as(start: bytes) -> str:
    """Return how a file is packed, such as "gzip"; "" if it is not.

    Args:
        start: the first bytes of a file.
    """
    if start[257:262] == b"ustar":
        return "tar"
    return next((kind for mark, kind in PACKED.items() if start.startswith(mark)), "")

"""Check the data files that a header names, before a library follows them: NRRD and MetaImage may keep voxels elsewhere.

A data file lies in the folder of its header and is a regular file; otherwise a header from a stranger would read any
file of this computer as voxels, or wait for ever on a pipe.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

from ..errors import InputError
from ..storage.archives import check_name

HEADERS = (".nhdr", ".nrrd", ".mhd", ".mha")
LONGEST = 1 << 20
"""Bytes of a header that are searched; longer ones are refused."""

PATTERN = re.compile(r"^(?P<name>\S*%[0-9]*[duix]\S*)(\s+-?\d+){2,4}\s*$")
"""A numbered list of data files: "slice%03d.raw 1 30 1"."""


def check_data_files(path: Path) -> None:
    """Check the data files of a header.

    Args:
        path: a volume file; nothing is checked of formats without data files.

    Raises:
        InputError: if one lies outside of the header's folder, or is no regular file.
    """
    suffix = path.suffix.lower()
    if suffix not in HEADERS:
        return
    with path.open("rb") as stream:
        start = stream.read(LONGEST)
    names = _of_nrrd(start, path) if suffix in (".nhdr", ".nrrd") else _of_meta(start, path)
    for name in names:
        check_data_file(path, name)


def check_data_file(header: Path, name: str) -> Path:
    """Return the path of a data file.

    Args:
        header: the file that names it.
        name: as it stands there.

    Raises:
        InputError: if it lies outside of the header's folder, or is no regular file.
    """
    inside = check_name(name, header.name)
    target = header.parent.joinpath(*inside.parts)
    pattern = PATTERN.match(f"{name} 0 0")
    listed = (
        sorted(target.parent.glob(re.sub(r"%[0-9]*[duix]", "*", target.name))) if pattern and "%" in name else [target]
    )
    for file in listed:
        if not file.exists() and not file.is_symlink():
            continue  # reported when it is read
        linked = file.is_symlink() and not header.is_symlink()
        if linked or not stat.S_ISREG(file.stat().st_mode):
            raise InputError(
                f"'{header.name}' names '{name[:80]}', which is a link or no regular file; put the data file itself beside it."
            )
    return target


def _of_nrrd(start: bytes, path: Path) -> list[str]:
    """Return the data files of a NRRD header; none if the voxels follow the header."""
    head, found, _ = start.partition(b"\n\n")
    if not found:
        head, found, _ = start.partition(b"\r\n\r\n")
    if not found and len(start) == LONGEST:
        raise InputError(f"The header of '{path.name}' is longer than {LONGEST} bytes; it is refused.")
    lines = head.decode("latin-1").splitlines()
    for number, line in enumerate(lines):
        field, colon, value = line.partition(":")
        if not colon or value.startswith("=") or field.strip().lower().replace(" ", "") != "datafile":
            continue
        value = value.strip()
        if value.upper().startswith("LIST"):
            return [name.strip() for name in lines[number + 1 :] if name.strip()]
        return [_without_range(value)]
    return []


def _of_meta(start: bytes, path: Path) -> list[str]:
    """Return the data files of a MetaImage header; none if the voxels follow the header."""
    match = re.search(rb"(?im)^\s*ElementDataFile\s*[=:]\s*([^\r\n]*)", start)
    if match is None:
        if len(start) == LONGEST:
            raise InputError(f"The header of '{path.name}' is longer than {LONGEST} bytes; it is refused.")
        return []
    value = match[1].decode("latin-1").strip()
    if value.upper() == "LOCAL":
        return []
    if value.upper().startswith("LIST"):
        after = start[match.end() :].decode("latin-1").splitlines()
        return [name.strip() for name in after if name.strip()]
    return [_without_range(value)]


def _without_range(value: str) -> str:
    """Return the name of a numbered list without its range, any other value as it is."""
    match = PATTERN.match(value)
    return match["name"] if match else value

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

AXIS = r"(right|left|anterior|posterior|superior|inferior)"
VECTOR = r"(\([^()]{1,200}\)|none)"
WORD = r"[^\s\"()]{1,40}"
WORDS, QUOTED = rf"{WORD}(\s+{WORD}){{0,8}}", r'"[^"]{0,200}"(\s*"[^"]{0,200}"){0,8}'
NRRD_VALUES = {
    "space": rf"{AXIS}-{AXIS}-{AXIS}(-time)?|[rl][ap][si]t?|scanner-xyz(-time)?|3d-(left|right)-handed(-time)?",
    "type": r"[a-z0-9_ ]{1,30}",
    "encoding": r"raw|te?xt|ascii|hex|gz|gzip|bz2|bzip2",
    "endian": r"little|big",
    "dimension": r"[1-9]",
    "space dimension": r"[1-9]",
    "space origin": VECTOR,
    "space directions": rf"({VECTOR}\s*){{1,9}}",
    "measurement frame": rf"({VECTOR}\s*){{1,9}}",
    "space units": QUOTED,
    "units": QUOTED,
    "labels": QUOTED,
    **dict.fromkeys(
        ("sizes", "kinds", "centers", "centerings", "thicknesses", "spacings", "axis mins", "axis maxs"), WORDS
    ),
    **dict.fromkeys(("block size", "line skip", "lineskip", "byte skip", "byteskip"), r"-?\d{1,12}"),
}
"""Field of a NRRD header → what its value can be (format specification, teem.sourceforge.net/nrrd/format.html)."""

FREE = ("content", "sample units", "data file", "datafile")
"""Fields of a NRRD header with any text."""

LONGEST_ODD = 100
"""Letters of a line that is no field; ITK's reader writes longer ones into an error message of a fixed size."""

NUMBERED = re.compile(r"[^%]*%[0-9]{0,2}[diux][^%]*")
"""A name with one place for a number, of a list of data files."""

CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
"""Bytes that no text header has."""

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
    if "%" in name and not NUMBERED.fullmatch(name):  # libraries use it as a format for printf
        raise InputError(f"'{header.name}' names '{name[:80]}', which is no numbered list of files; it is refused.")
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
    _check_text(head, path)
    _check_dimensions(rb"(?im)^\s*dimension\s*:\s*([^\r\n]*)", head, path)
    _check_fields(head, path)
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


def _check_text(head: bytes, path: Path) -> None:
    """Refuse a header that is no text: ITK ends the process for a zero byte in a key."""
    if match := CONTROLS.search(head):
        raise InputError(
            f"The header of '{path.name}' has the byte 0x{match[0].hex()}, which is no text; it is damaged, copy it again."
        )


def _check_fields(head: bytes, path: Path) -> None:
    """Refuse a NRRD header with a value that the format doesn't have: ITK's reader copies it into arrays of a fixed size."""
    for line in head.decode("latin-1").splitlines():
        field, colon, value = line.partition(":")
        odd = not colon or (not value.startswith("=") and field.strip().lower() not in (*NRRD_VALUES, *FREE))
        if odd and len(line) > LONGEST_ODD and not line.startswith("#"):
            raise InputError(
                f"The header of '{path.name}' has a line of {len(line)} letters that is no field ({line[:20]!r}…); it is "
                "damaged, copy it again."
            )
        known = NRRD_VALUES.get(field.strip().lower())
        value = value.strip().lower()
        if colon and known is not None and not value.startswith("=") and not re.fullmatch(known, value):
            raise InputError(
                f"The header of '{path.name}' has {value[:40]!r} for '{field.strip()}', which the format doesn't have; it is "
                "damaged, copy it again."
            )


def _check_dimensions(pattern: bytes, head: bytes, path: Path) -> None:
    """Refuse a header with an impossible number of axes, for which ITK's readers write beyond their arrays."""
    for match in re.finditer(pattern, head):
        text = match[1].decode("latin-1").strip()
        if not re.fullmatch(r"[1-9]", text):
            raise InputError(
                f"The header of '{path.name}' states {text[:20]!r} dimensions, which no image has; it is damaged, copy it again."
            )


def _of_meta(start: bytes, path: Path) -> list[str]:
    """Return the data files of a MetaImage header; none if the voxels follow the header."""
    match = re.search(rb"(?im)^\s*ElementDataFile\s*[=:]\s*([^\r\n]*)", start)
    if match is None:
        raise InputError(
            f"The header of '{path.name}' has no ElementDataFile in its first {LONGEST} bytes; it is damaged, copy it again."
        )
    _check_text(start[: match.end()], path)
    _check_dimensions(rb"(?im)^\s*NDims\s*[=:]\s*([^\r\n]*)", start[: match.end()], path)
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

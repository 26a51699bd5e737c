"""Open DICOM files with pydicom: the only place that does, so that none inflates without a limit."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from ...errors import InputError
from ..limits import inflated_size, memory_for_reading, size_text

DEFLATED = b"1.2.840.10008.1.2.1.99"
"""Transfer syntax whose data set is deflated as a whole; pydicom inflates it in memory."""

MOST_INFLATED = 1 << 28
"""Bytes of an inflated data set; such objects are reports and segmentations of some megabytes. pydicom parses about
20 MB of small elements a second."""

PARSED = 16
"""Memory while a data set is parsed ÷ its bytes, if it has nothing but small elements."""

LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
"""Value representations with a length of four bytes (PS3.5 7.1.2)."""


def open_dataset(
    path: Path, *, force: bool = False, stop_before_pixels: bool = True, tags: Sequence[str] | None = None
):
    """Return the pydicom Dataset of a file.

    Args:
        path: the file.
        force: read a data set without the DICOM preamble.
        stop_before_pixels: leave out the pixels.
        tags: keywords of the attributes to keep; all if None.

    Raises:
        InputError: if it is a deflated data set that inflates beyond the limits.
        Exception: of nearly any kind, if the file is damaged; see `headers.DAMAGED`.
    """
    import pydicom

    if not force:
        _check_deflated(path)
    return pydicom.dcmread(path, force=force, stop_before_pixels=stop_before_pixels, specific_tags=tags)


def _check_deflated(path: Path) -> None:
    """Refuse a deflated data set that is too large to parse."""
    with path.open("rb") as stream:
        syntaxes = _transfer_syntaxes(stream)
        if DEFLATED not in syntaxes:
            return
        most = min(MOST_INFLATED, memory_for_reading() // PARSED)
        if inflated_size(stream, most) > most:
            raise InputError(
                f"'{path.name}' inflates from {size_text(path.stat().st_size)} to more than {size_text(most)}, the most that is "
                "read of a deflated DICOM file here; store it without deflation."
            )


def _transfer_syntaxes(stream) -> set[bytes]:
    """Return every transfer syntax in the file meta information, and leave the stream where the data set begins.

    The elements are followed one by one, as pydicom does; the length that their group states may be wrong (PS3.10 7.1).

    Raises:
        ValueError: if they can't be followed.
    """
    found = set()
    stream.seek(132)
    while True:
        at = stream.tell()
        head = stream.read(8)
        if len(head) < 8 or head[:2] != b"\2\0":
            stream.seek(at)
            return found
        element, kind, length = struct.unpack("<2xH2sH", head)
        if not kind.isalpha():
            length, kind = struct.unpack("<4xI", head)[0], b"UI"  # implicit value representation, which is wrong here
        elif kind in LONG:
            length = struct.unpack("<I", stream.read(4).ljust(4, b"\0"))[0]
        if length == 0xFFFFFFFF:
            raise ValueError("file meta information with a sequence of undefined length")
        if element == 0x0010:
            found.add(stream.read(min(length, 256)).strip(b" \0"))
            stream.seek(at + (12 if kind in LONG else 8) + length)
        else:
            stream.seek(length, 1)

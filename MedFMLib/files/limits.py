"""Bound what reading a file may take: by the size that it declares, before a library allocates it. Knows no format.

A header of a few bytes can declare terabytes, and a compressed file of a megabyte can hold gigabytes. What is declared is
compared with the memory that is free, and with what a file of that length can hold at all.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..hardware import free_memory

SHARE = 0.7
"""Of the free memory, what reading one image may take."""

COPIES = 2.5
"""Memory while a volume is read ÷ bytes of its voxels: what the library holds, our copy, and a part in conversion. Measured
with SimpleITK 2.5 and pydicom 3: 2.0 to 2.4."""

UNKNOWN_MEMORY = 16 << 30
"""Bytes that count as free on a system that doesn't say."""

DEFLATE = 1032
"""Largest ratio of deflate (zlib, gzip): 258 bytes from two bits."""

BLOCK = 1 << 20


def memory_for_reading() -> int:
    """Return the bytes that reading one file may take."""
    return int((free_memory() or UNKNOWN_MEMORY) * SHARE)


def check_voxels(shown: str, shape: Sequence[int], bits: int, copies: float = COPIES) -> int:
    """Check that voxels fit into memory, before they are read, and return their bytes.

    Args:
        shown: name of the file, for the message.
        shape: numbers of voxels along each axis, of frames and of channels.
        bits: of one value.
        copies: memory while they are read ÷ their bytes.

    Raises:
        InputError: if a number is below 1, or they don't fit; the message has both sizes.
    """
    counts = [int(n) for n in shape]
    if min(counts, default=0) < 1:
        raise InputError(f"'{shown}' declares {_times(counts)} voxels, which is no image; export it again.")
    size = math.prod(counts) * bits // 8
    allowed = memory_for_reading()
    if size * copies > allowed:
        raise InputError(
            f"'{shown}' declares {_times(counts)} values of {bits} bits; reading them takes {size_text(int(size * copies))} of "
            f"memory, and {size_text(allowed)} may be used here. Crop or resample it, or read it on a machine with more memory."
        )
    return size


def check_length(path: Path, size: int) -> None:
    """Check that a file is long enough for what it declares, even if it is compressed as far as deflate can.

    Args:
        path: the file, with header and voxels.
        size: bytes of the declared voxels.

    Raises:
        InputError: if it can't hold them.
    """
    length = path.stat().st_size
    if size > length * DEFLATE:
        raise InputError(
            f"'{path.name}' declares {size_text(size)} of voxels, which its {length} bytes can't hold; it is truncated or "
            "damaged. Copy it again."
        )


def inflated_size(stream, most: int, window: int = -zlib.MAX_WBITS) -> int:
    """Return how many bytes come out of a deflated stream, without keeping them; `most` + 1 if there are more.

    Args:
        stream: binary stream at the start of the compressed bytes.
        most: where counting ends.
        window: as for `zlib.decompressobj`; negative for a raw stream.

    Raises:
        zlib.error: if it is damaged.
    """
    inflater, count = zlib.decompressobj(window), 0
    while not inflater.eof and (packed := stream.read(BLOCK // 16)):
        while packed and not inflater.eof:
            count += len(inflater.decompress(packed, BLOCK))
            packed = inflater.unconsumed_tail
            if count > most:
                return most + 1
    return count


def size_text(count: int) -> str:
    """Return bytes as text: "1.4 GB", "300.0 MB"."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _times(counts: Sequence[int]) -> str:
    return "×".join(f"{n}" for n in counts)

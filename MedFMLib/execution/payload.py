"""Split a request into its voxels and the rest, so that voxels are neither copied nor sent twice.

Copied into one message with the rest, 150 MB of voxels would hold Python's lock (GIL) and block every other thread.
Separated, they go to a pipe, a socket or a file as they are, and are identified by their own SHA-256. Everything else of
the image travels with the rest: its grid with what its axes are worth, notes, displayed pixels, sizes of pictures.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..core.request import Request
from ..errors import InputError
from ..storage.json_text import read_json
from . import serialization

PIECE = 1 << 20
"""Bytes hashed at a time; the GIL is free meanwhile."""


@dataclass(frozen=True, eq=False)
class Payload:
    """A serialized request with separate voxels.

    Args:
        rest: everything but the voxels, serialized, after their shape and type.
        voxels: their raw bytes in C order, or the path of a file with them.
    """

    rest: bytes
    voxels: memoryview | bytes | Path

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the voxels' bytes.

        Raises:
            TypeError: if the voxels are in a file.
        """
        view, sha = memoryview(self.voxels), hashlib.sha256()
        for start in range(0, len(view), PIECE):
            sha.update(view[start : start + PIECE])
        return sha.hexdigest()


def pack(request: Request) -> Payload:
    """Return a request as payload."""
    image = request.image
    voxels = np.ascontiguousarray(image.voxels)
    dtype = voxels.dtype
    stub = replace(
        image,
        voxels=np.zeros((1, 1, 1, 1), dtype),
        geometry=replace(image.geometry, shape=(1, 1, 1)),
        display=None,
        extents=(),
    )
    facts = json.dumps({"shape": voxels.shape, "dtype": dtype.str}).encode()
    content = (replace(request, image=stub), image.display, image.extents)
    rest = struct.pack("<I", len(facts)) + facts + serialization.dumps(content)
    return Payload(rest, memoryview(voxels.reshape(-1).view(np.uint8)))


def file_of(voxels: np.ndarray) -> Path | None:
    """Return the file that holds exactly these voxels in C order, None if there is none.

    Args:
        voxels: any array; of one that maps a whole file, a process on this machine needs the file's path only.
    """
    mapped = voxels
    while isinstance(mapped, np.ndarray) and not isinstance(mapped, np.memmap):
        mapped = mapped.base
    if not isinstance(mapped, np.memmap) or mapped.filename is None or mapped.offset:
        return None
    whole = voxels.nbytes == mapped.nbytes == os.path.getsize(mapped.filename)
    return Path(mapped.filename) if whole and voxels.flags.c_contiguous else None


def look(rest: bytes, limit: int | None = None) -> tuple[Request, tuple[int, ...], np.dtype]:
    """Return the request of a payload without its voxels.

    Args:
        rest: `Payload.rest`.
        limit: largest number of bytes of its arrays, for requests from untrusted clients; unlimited if None.

    Returns:
        (the request with a placeholder image of one voxel, shape (C, I, J, K) of the voxels, their type)

    Raises:
        InputError: if it is damaged or of another version.
    """
    request, shape, dtype, *_ = _look(rest, limit)
    return request, shape, dtype


def _look(rest: bytes, limit: int | None = None):
    """Return what `look` does, then (displayed pixels or None, sizes of pictures)."""
    try:
        (size,) = struct.unpack_from("<I", rest)
        facts = json.loads(rest[4 : 4 + size])
        if limit is not None:
            _check_header(rest, 4 + size)
        shape, dtype = tuple(int(n) for n in facts["shape"]), facts["dtype"]
        if len(shape) != 4 or min(shape) < 1 or dtype not in serialization.DTYPES:
            raise ValueError("shape or type")
    except (struct.error, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"The request of {len(rest)} bytes is damaged or of another version; send it again."
        ) from error
    content = serialization.loads(rest[4 + size :], limit)
    if not isinstance(content, tuple) or len(content) != 3 or not isinstance(content[0], Request):
        raise InputError(f"A request was expected, not a {type(content).__name__}; use the same version of MedFM.")
    request, display, extents = content
    if not (display is None or isinstance(display, np.ndarray)) or not isinstance(extents, tuple):
        raise InputError("The displayed pixels of the request are damaged or of another version; send it again.")
    return request, shape, np.dtype(dtype), display, extents


def _check_header(rest: bytes, start: int) -> None:
    """Check the size and depth of the header of a stranger's message; `serialization` reads it, whatever it is."""
    start += len(serialization.MAGIC)
    (length,) = struct.unpack_from("<Q", rest, start)
    read_json(rest[start + 8 : start + 8 + length])


def size_of(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the size of voxels in bytes.

    Args:
        shape: (C, I, J, K).
        dtype: type of one voxel.
    """
    return math.prod(shape) * dtype.itemsize


def unpack(payload: Payload) -> Request:
    """Return the request that `pack` converted.

    Raises:
        InputError: if it is damaged, or the number of voxel bytes does not match.
    """
    request, shape, dtype, display, extents = _look(payload.rest)
    if isinstance(payload.voxels, Path):
        array = np.memmap(payload.voxels, dtype, "r", shape=shape)
    else:
        if len(payload.voxels) != size_of(shape, dtype):
            raise InputError(f"{size_of(shape, dtype)} bytes of voxels were expected, not {len(payload.voxels)}.")
        array = np.frombuffer(payload.voxels, dtype).reshape(shape)
    stub = request.image
    geometry = replace(stub.geometry, shape=shape[1:])
    image = replace(stub, voxels=array, geometry=geometry, display=display, extents=extents)
    return replace(request, image=image)

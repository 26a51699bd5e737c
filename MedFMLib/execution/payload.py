"""A request with its voxels apart, so that they are neither copied nor sent twice. Knows values and their wire form.

Copied into one message with the rest, 150 MB of voxels would hold Python's lock for every other thread; apart, they go
to a pipe, a socket or a file as they are, and are named by their own SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from ..core.geometry import Geometry
from ..core.image import Image
from ..core.request import Request
from ..errors import InputError
from . import serialization

PIECE = 1 << 20
"""Bytes hashed at a time; the lock is free meanwhile."""


@dataclass(frozen=True, eq=False)
class Payload:
    """A request on its way.

    Args:
        rest: everything but the voxels, in the wire form, after their shape and type.
        voxels: their raw bytes in C order, or the file that holds them.
    """

    rest: bytes
    voxels: memoryview | bytes | Path

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the voxels' bytes.

        Raises:
            TypeError: if they lie in a file.
        """
        view, sha = memoryview(self.voxels), hashlib.sha256()
        for start in range(0, len(view), PIECE):
            sha.update(view[start : start + PIECE])
        return sha.hexdigest()


def pack(request: Request) -> Payload:
    """Take a request apart."""
    image = request.image
    voxels = np.ascontiguousarray(image.voxels)
    stub = Image(
        np.zeros((1, 1, 1, 1), voxels.dtype),
        Geometry((1, 1, 1), image.geometry.affine, image.geometry.frame_of_reference),
        image.modality,
        image.name,
        image.facts,
    )
    facts = json.dumps({"shape": voxels.shape, "dtype": voxels.dtype.str}).encode()
    rest = struct.pack("<I", len(facts)) + facts + serialization.dumps(replace(request, image=stub))
    return Payload(rest, memoryview(voxels.reshape(-1).view(np.uint8)))


def look(rest: bytes, limit: int | None = None) -> tuple[Request, tuple[int, ...], np.dtype]:
    """(the request with an image of one voxel, (C, I, J, K), type of the voxels), without the voxels.

    Args:
        limit: most bytes that its arrays may take, for requests from strangers.

    Raises:
        InputError: if it is damaged or of another version.
    """
    try:
        (size,) = struct.unpack_from("<I", rest)
        facts = json.loads(rest[4 : 4 + size])
        shape, dtype = tuple(int(n) for n in facts["shape"]), facts["dtype"]
        if len(shape) != 4 or min(shape) < 1 or dtype not in serialization.DTYPES:
            raise ValueError("shape or type")
    except (struct.error, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"The request of {len(rest)} bytes is damaged or of another version; send it again."
        ) from error
    request = serialization.loads(rest[4 + size :], limit)
    if not isinstance(request, Request):
        raise InputError(f"A request was expected, not a {type(request).__name__}; use the same version of MedFM.")
    return request, shape, np.dtype(dtype)


def size_of(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Bytes of so many voxels."""
    return math.prod(shape) * dtype.itemsize


def unpack(payload: Payload) -> Request:
    """The request that `pack` took apart.

    Raises:
        InputError: if it is damaged, or the voxels don't fit.
    """
    request, shape, dtype = look(payload.rest)
    if isinstance(payload.voxels, Path):
        array = np.memmap(payload.voxels, dtype, "r", shape=shape)
    else:
        if len(payload.voxels) != size_of(shape, dtype):
            raise InputError(f"{size_of(shape, dtype)} bytes of voxels were expected, not {len(payload.voxels)}.")
        array = np.frombuffer(payload.voxels, dtype).reshape(shape)
    stub = request.image
    geometry = Geometry(shape[1:], stub.geometry.affine, stub.geometry.frame_of_reference)
    return replace(request, image=Image(array, geometry, stub.modality, stub.name, stub.facts))

"""What parent and worker process say to each other: frames on a pipe, and a request split from its voxels.

A frame is one letter, the length (8 bytes, little endian) and that many bytes. Voxels travel as raw bytes in a
frame of their own: copied into one big byte string they would keep every other thread waiting.
"""

from __future__ import annotations

import json
import struct
import threading
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from .. import errors, wire
from ..errors import MedFMError
from ..geometry import Geometry
from ..image import Image
from ..request import Request

REQUEST, VOXELS, CANCEL = b"R", b"V", b"C"
STAGE, FRACTION, TEXT, NOTE, DONE, ERROR = b"S", b"F", b"T", b"N", b"D", b"E"
HEADER = struct.Struct("<cQ")


class FrameWriter:
    """Writes whole frames from any thread."""

    def __init__(self, stream: BinaryIO):
        self._stream, self._lock = stream, threading.Lock()

    def write(self, kind: bytes, payload: bytes | memoryview = b"") -> None:
        """Send one frame.

        Raises:
            OSError: if the other side has gone.
        """
        with self._lock:
            self._stream.write(HEADER.pack(kind, len(payload)))
            self._stream.write(payload)
            self._stream.flush()


def read_frame(stream: BinaryIO) -> tuple[bytes, bytes]:
    """(kind, payload) of the next frame.

    Raises:
        EOFError: if the other side has gone.
    """
    kind, size = HEADER.unpack(_read_exactly(stream, HEADER.size))
    return kind, _read_exactly(stream, size)


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size) if size else b""
    if len(data) < size:
        raise EOFError("The other process has gone.")
    return data


def split_request(request: Request) -> tuple[bytes, memoryview]:
    """(everything but the voxels, the voxels' bytes) of a request."""
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
    return struct.pack("<I", len(facts)) + facts + wire.dumps(replace(request, image=stub)), memoryview(
        voxels.reshape(-1).view(np.uint8)
    )


def join_request(rest: bytes, voxels: bytes) -> Request:
    """The request that `split_request` took apart."""
    (size,) = struct.unpack_from("<I", rest)
    facts = json.loads(rest[4 : 4 + size])
    request = wire.loads(rest[4 + size :])
    shape, stub = tuple(facts["shape"]), request.image
    geometry = Geometry(shape[1:], stub.geometry.affine, stub.geometry.frame_of_reference)
    array = np.frombuffer(voxels, np.dtype(facts["dtype"])).reshape(shape)
    return replace(request, image=Image(array, geometry, stub.modality, stub.name, stub.facts))


def error_bytes(error: MedFMError) -> bytes:
    """An error for the other side."""
    return json.dumps({"type": type(error).__name__, "message": str(error)}).encode()


def error_from(data: bytes) -> MedFMError:
    """The error that `error_bytes` wrote."""
    content = json.loads(data)
    kind = getattr(errors, content["type"], MedFMError)
    return kind(content["message"])

"""Read and write frames, the messages of two processes on a byte stream.

A frame is one letter, the length (8 bytes, little endian) and that many bytes. Voxels are sent as raw bytes in a
separate frame, or as the path of a file that both processes can read.
"""

from __future__ import annotations

import json
import struct
import threading
from typing import BinaryIO

REQUEST, VOXELS, VOXELS_FILE, CANCEL, LOAD = b"R", b"V", b"F", b"C", b"L"
EVENT, RESPONSE, ERROR, PULSE = b"E", b"D", b"X", b"P"
HEADER = struct.Struct("<cQ")


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """Return one frame as bytes.

    Args:
        kind: one letter, e.g. `REQUEST`.
        payload: content of the frame.
    """
    return HEADER.pack(kind, len(payload)) + payload


def json_frame(kind: bytes, content) -> bytes:
    """Return one frame with JSON content as bytes.

    Args:
        kind: one letter, e.g. `EVENT`.
        content: what JSON can hold.
    """
    return frame(kind, json.dumps(content).encode())


class FrameWriter:
    """Writer of complete frames, usable from any thread."""

    def __init__(self, stream: BinaryIO):
        self._stream, self._lock = stream, threading.Lock()

    def write(self, kind: bytes, payload: bytes | memoryview = b"") -> None:
        """Write one frame.

        Args:
            kind: one letter, e.g. `REQUEST`.
            payload: content of the frame.

        Raises:
            OSError: if the other process has ended.
        """
        with self._lock:
            if self._stream.closed:
                raise BrokenPipeError("This side closed the pipe.")
            self._stream.write(HEADER.pack(kind, len(payload)))
            self._stream.write(payload)
            self._stream.flush()

    def write_json(self, kind: bytes, content) -> None:
        """Write one frame with JSON content.

        Args:
            kind: one letter, e.g. `EVENT`.
            content: what JSON can hold.

        Raises:
            OSError: if the other process has ended.
        """
        self.write(kind, json.dumps(content).encode())


def read_frame(stream: BinaryIO) -> tuple[bytes, bytes]:
    """Return (kind, payload) of the next frame.

    Raises:
        EOFError: if the other process has ended.
    """
    kind, size = HEADER.unpack(_read_exactly(stream, HEADER.size))
    return kind, _read_exactly(stream, size)


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size) if size else b""
    if len(data) < size:
        raise EOFError("The other process has ended.")
    return data

"""What two processes say to each other on a stream of bytes: frames.

A frame is one letter, the length (8 bytes, little endian) and that many bytes. Voxels travel as raw bytes in a frame of
their own, or as the path of a file that both can read.
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
    """One frame as bytes."""
    return HEADER.pack(kind, len(payload)) + payload


def json_frame(kind: bytes, content) -> bytes:
    """One frame with JSON in it."""
    return frame(kind, json.dumps(content).encode())


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
            if self._stream.closed:
                raise BrokenPipeError("This side closed the pipe.")
            self._stream.write(HEADER.pack(kind, len(payload)))
            self._stream.write(payload)
            self._stream.flush()

    def write_json(self, kind: bytes, content) -> None:
        """Send one frame with JSON in it.

        Raises:
            OSError: if the other side has gone.
        """
        self.write(kind, json.dumps(content).encode())


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

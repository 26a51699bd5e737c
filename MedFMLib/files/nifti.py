"""Read the two transforms of a NIfTI-1 header, and write NIfTI files with any affine. Knows no voxels' meaning.

Source: the NIfTI-1 standard (nifti1.h, "3D IMAGE (VOLUME) ORIENTATION AND LOCATION IN SPACE"). NIfTI's world is RAS, as
MedFM's.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError

CHUNK = 1 << 24
"""Bytes that are checked at a time; a multiple of the size of every value."""

HEADER = 348
"""Bytes of a NIfTI-1 header; NIfTI-2 has 540."""

NIFTI2 = 540
METRES, MICROMETRES = 1, 3
"""Units of length in `xyzt_units`; 2 is mm, 0 unknown and taken for mm."""


@dataclass(frozen=True, eq=False)
class NiftiPlace:
    """Where a NIfTI header places its voxels.

    Args:
        qform: 4×4, index → RAS mm, of the quaternion; None if its code is 0.
        sform: 4×4, index → RAS mm, of the matrix; None if its code is 0.
        offset: what ITK adds to every value of a file whose slope is 0 or not a number, where the standard says that
            values are not scaled; 0 for other files.
    """

    qform: np.ndarray | None = field(default=None, repr=False)
    sform: np.ndarray | None = field(default=None, repr=False)
    offset: float = 0.0


def is_nifti2(path: Path) -> bool:
    """Return whether a file has a NIfTI-2 header."""
    start = _start(path, 4)
    return len(start) == 4 and NIFTI2 in (struct.unpack("<i", start)[0], struct.unpack(">i", start)[0])


def read_place(path: Path) -> NiftiPlace | None:
    """Return the transforms of a NIfTI-1 file; None if its header is not one.

    Args:
        path: a .nii, .nii.gz or .hdr file; of a pair, also the .img file.
    """
    if path.name.lower().endswith(".img"):
        stem = path.name[:-4].lower()
        path = next((p for p in path.parent.iterdir() if p.name.lower() == f"{stem}.hdr"), path)
    head = _start(path, HEADER)
    if len(head) < HEADER:
        return None
    order = "<" if struct.unpack("<i", head[:4])[0] == HEADER else ">"
    if struct.unpack(f"{order}i", head[:4])[0] != HEADER:
        return None
    if head[344:347] not in (b"n+1", b"ni1"):
        return NiftiPlace()  # Analyze 7.5 states no orientation
    pixdim = struct.unpack(f"{order}8f", head[76:108])
    qcode, scode = struct.unpack(f"{order}2h", head[252:256])
    b, c, d, x, y, z = struct.unpack(f"{order}6f", head[256:280])
    rows = np.array(struct.unpack(f"{order}12f", head[280:328])).reshape(3, 4)
    scale = {METRES: 1000.0, MICROMETRES: 0.001}.get(head[123] & 7, 1.0)
    qform = sform = None
    if qcode > 0:
        turn = _rotation(b, c, d)
        turn[:, 2] *= -1 if pixdim[0] < 0 else 1
        qform = np.eye(4)
        qform[:3, :3] = turn * np.abs(pixdim[1:4]) * scale
        qform[:3, 3] = np.array([x, y, z]) * scale
    if scode > 0:
        sform = np.vstack([rows * scale, [0, 0, 0, 1]])
    usable = [form if form is not None and _invertible(form) else None for form in (qform, sform)]
    slope, intercept = struct.unpack(f"{order}2f", head[112:120])
    unscaled = slope == 0 or not np.isfinite(slope)
    return NiftiPlace(*usable, intercept if unscaled and np.isfinite(intercept) else 0.0)


def check_values(path: Path) -> None:
    """Check that no value of a NIfTI-1 file is NaN or infinite.

    Raises:
        InputError: if one is, with their number.
    """
    head = _start(path, HEADER)
    if len(head) < HEADER:
        return
    order = "<" if struct.unpack("<i", head[:4])[0] == HEADER else ">"
    kind = {16: "f4", 64: "f8"}.get(struct.unpack(f"{order}h", head[70:72])[0])
    if kind is None:
        return
    offset = int(struct.unpack(f"{order}f", head[108:112])[0])
    pair = head[344:347] != b"n+1"
    data = (
        next((p for p in path.parent.iterdir() if p.name.lower() == f"{path.name[:-4].lower()}.img"), path)
        if pair
        else path
    )
    bad = 0
    try:
        with _opened(data) as stream:
            stream.read(0 if pair else max(offset, HEADER))
            while chunk := stream.read(CHUNK):
                values = np.frombuffer(chunk[: len(chunk) // 8 * 8], f"{order}{kind}")
                bad += len(values) - int(np.count_nonzero(np.isfinite(values)))
    except (OSError, EOFError, zlib.error):
        return  # reported when the file is read
    if bad:
        raise InputError(
            f"'{path.name}' has {bad} voxels that are NaN or infinite; replace them first (with 0 or the value of air)."
        )


def _opened(path: Path):
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.open(path, "rb") if compressed else path.open("rb")


def is_sheared(affine: np.ndarray) -> bool:
    """Return whether the voxel axes of an affine are not perpendicular."""
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > 1e-4)


def _invertible(affine: np.ndarray) -> bool:
    return bool(np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12)


def _start(path: Path, count: int) -> bytes:
    """Return the first bytes of a file, decompressed if it is compressed."""
    try:
        with _opened(path) as stream:
            return stream.read(count)
    except (OSError, EOFError, zlib.error):
        return b""


def _rotation(b: float, c: float, d: float) -> np.ndarray:
    """Return the (3, 3) rotation of the unit quaternion whose last three parts are given."""
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )

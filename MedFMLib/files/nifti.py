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

from ..core.geometry import Geometry
from ..errors import InputError, OutputError

CHUNK = 1 << 24
"""Bytes that are checked at a time; a multiple of the size of every value."""

HEADER = 348
"""Bytes of a NIfTI-1 header; NIfTI-2 has 540."""

NIFTI2 = 540
SINGLE_FILE = 352
"""Offset of the voxels in a NIfTI-1 file without extensions."""

LAYOUT = "<i10s18sihcB8h3f4h8f3fhBB4f2i80s24s2h6f12f16s4s"
"""Fields of a NIfTI-1 header in their order, little-endian."""

TYPES = {"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64, "int8": 256, "uint16": 512, "uint32": 768,
         "int64": 1024, "uint64": 1280}  # fmt: skip
"""Type of the voxels → code of the standard."""

LONGEST_AXIS = 32767
SCANNER, MM = 1, 2
"""Code of a transform to the patient's coordinates; unit of length."""

SAME_MM = 1e-3
"""A quaternion in single precision is left out if it places a corner farther off than this."""

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


def check_values(path: Path, count: int) -> None:
    """Check that no value of a NIfTI-1 file is NaN or infinite.

    Args:
        path: the file.
        count: number of its values; what follows them is not looked at.

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
            left = count * int(kind[1])
            while chunk := stream.read(min(CHUNK, left)):
                left -= len(chunk)
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


def write_nifti(path: Path, voxels: np.ndarray, geometry: Geometry) -> None:
    """Write a NIfTI-1 file with the grid in its sform, and in its qform too if that can hold it.

    A quaternion holds no shear, and in single precision it turns some grids by up to 6e-4 rad; then its code is 0, and
    readers take the sform. Of a grid without an orientation both codes are 0. ITK writes neither shear nor 0.

    Args:
        path: the file, compressed if its name ends in .gz; replaced if it exists.
        voxels: (I, J, K).
        geometry: its grid.

    Raises:
        OutputError: if NIfTI-1 can't hold so many voxels along an axis, or the type of the values.
    """
    kind = {"bool": "uint8", "float16": "float32"}.get(voxels.dtype.name, voxels.dtype.name)
    if kind not in TYPES or max(voxels.shape) > LONGEST_AXIS:
        raise OutputError(
            f"A NIfTI file can't hold {voxels.dtype} voxels of shape {voxels.shape}; write a .nrrd instead."
        )
    forms = SCANNER if geometry.oriented else 0
    turn, corner = _quaternion(geometry)
    shape, spacing, values = geometry.shape, geometry.spacing, np.dtype(kind).newbyteorder("<")
    head = struct.pack(
        LAYOUT, HEADER, b"", b"", 0, 0, b"r", 0, 3, *shape, 1, 1, 1, 1, 0.0, 0.0, 0.0, 0, TYPES[kind], values.itemsize * 8, 0,
        corner, *spacing, 1.0, 1.0, 1.0, 1.0, SINGLE_FILE, 1.0, 0.0, 0, 0, MM, 0.0, 0.0, 0.0, 0.0, 0, 0, b"MedFM", b"",
        forms if turn is not None else 0, forms, *(turn if turn is not None else (0.0, 0.0, 0.0)), *geometry.origin,
        *geometry.affine[:3].ravel(), b"", b"n+1\0",
    )  # fmt: skip
    with path.open("wb") as raw:
        name, compressed = "", path.name.lower().endswith(".gz")
        stream = gzip.GzipFile(name, "wb", 6, raw, mtime=0) if compressed else raw
        stream.write(head + bytes(SINGLE_FILE - HEADER))
        for k in range(shape[2]):  # a slice at a time: no second copy of the volume
            stream.write(np.asarray(voxels[:, :, k], values).tobytes(order="F"))
        if compressed:
            stream.close()


def _quaternion(geometry: Geometry) -> tuple[tuple[float, float, float] | None, float]:
    """Return ((b, c, d), sign of the third axis) of a grid's directions; None if a quaternion can't hold them."""
    axes = geometry.directions.copy()
    sign = 1.0 if np.linalg.det(axes) > 0 else -1.0
    axes[:, 2] *= sign
    if np.abs(axes.T @ axes - np.eye(3)).max() > 1e-6:
        return None, sign
    # the eigenvector of the largest eigenvalue is the quaternion, for all rotations (Bar-Itzhack, 2000)
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = axes
    k = np.array([[xx + yy + zz, zy - yz, xz - zx, yx - xy], [zy - yz, xx - yy - zz, xy + yx, xz + zx],
                  [xz - zx, xy + yx, yy - xx - zz, yz + zy], [yx - xy, xz + zx, yz + zy, zz - xx - yy]])  # fmt: skip
    a, b, c, d = np.linalg.eigh(k)[1][:, -1]
    parts = _rounded(np.array([a, b, c, d]) * (1 if a >= 0 else -1))
    back = _rotation(*parts) * (1, 1, sign) * geometry.spacing
    far = np.abs(back - geometry.affine[:3, :3]) @ (np.array(geometry.shape) - 1)
    return (parts if float(np.linalg.norm(far)) <= SAME_MM else None), sign


def _rounded(quaternion: np.ndarray) -> tuple[float, float, float]:
    """Round the last three parts of a unit quaternion to single precision so that the first, √(1 − …), comes out right.

    Rounded each to its nearest, a first part near 0 would come out as up to 3e-4.

    Args:
        quaternion: (4,), the first part not negative.
    """
    near = quaternion[1:].astype(np.float32)
    steps = [[np.float32(v), np.nextafter(v, np.float32(-2)), np.nextafter(v, np.float32(2))] for v in near]
    found = np.array(np.meshgrid(*steps, indexing="ij"), np.float64).reshape(3, -1).T
    first = np.sqrt(np.maximum(0.0, 1.0 - (found**2).sum(axis=1)))
    b, c, d = found[int(np.abs(first - quaternion[0]).argmin())].tolist()
    return b, c, d

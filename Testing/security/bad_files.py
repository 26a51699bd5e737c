"""Files that break readers, made as a stranger would make them."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

GB = 10**9


def dicom(path: Path, syntax=ExplicitVRLittleEndian, **values) -> Path:
    """A small CT slice; `values` replace attributes, None removes one."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = generate_uid(), generate_uid(), "CT"
    made.PatientName, made.PatientID = "DOE^JANE", "4711"
    made.Rows, made.Columns, made.BitsAllocated, made.BitsStored, made.HighBit = 16, 16, 16, 16, 15
    made.SamplesPerPixel, made.PixelRepresentation, made.PhotometricInterpretation = 1, 1, "MONOCHROME2"
    made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    made.PixelSpacing, made.SliceThickness, made.InstanceNumber = [1, 1], 1, 1
    made.PixelData = bytes(512)
    made["PixelData"].VR = "OW"
    for name, value in values.items():
        setattr(made, name, value) if value is not None else delattr(made, name)
    made.save_as(path, enforce_file_format=True)
    return path


def _data_set(content: bytes) -> int:
    """Where the data set begins."""
    return 144 + struct.unpack("<I", content[140:144])[0]


def clip(path: Path) -> Path:
    """A clip whose header declares 430 gigapixels."""
    return dicom(
        path, SOPClassUID=UltrasoundMultiFrameImageStorage, Modality="US", Rows=65535, Columns=65535, NumberOfFrames=100,
        ImagePositionPatient=None, ImageOrientationPatient=None,
    )  # fmt: skip


def nested_sequences(path: Path, depth: int = 20_000) -> Path:
    """Sequences in sequences, before the image's attributes."""
    whole = dicom(path).read_bytes()
    at = _data_set(whole)
    opening = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    path.write_bytes(whole[:at] + opening * depth + closing * depth + whole[at:])
    return path


def deflated_bomb(path: Path, inflated: int = GB) -> Path:
    """A deflated data set of 1 MB that inflates to a gigabyte."""
    content = dicom(path, DeflatedExplicitVRLittleEndian).read_bytes()
    at = _data_set(content)
    packer, block = zlib.compressobj(9, zlib.DEFLATED, -15), bytes(1 << 20)
    plain = zlib.decompress(content[at:], -15)
    length = inflated // (1 << 20) << 20
    pieces = [packer.compress(plain[:-524] + b"\x20\x00\x00\x40UT\0\0" + struct.pack("<I", length))]
    pieces += [packer.compress(block) for _ in range(length >> 20)]
    path.write_bytes(content[:at] + b"".join([*pieces, packer.flush()]))
    return path


def nifti(path: Path, shape, kind: int = 4, bits: int = 16, content: bytes = b"", repeat: int = 0) -> Path:
    """A NIfTI-1 file with any declared shape; its voxels are `content`, or `repeat` MiB of zeros."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<2h", head, 70, kind, bits)
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    struct.pack_into("<2f", head, 108, 352.0, 1.0)
    struct.pack_into("<h", head, 254, 1)
    struct.pack_into("<12f", head, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    head[344:348] = b"n+1\0"
    if path.suffix != ".gz":
        path.write_bytes(bytes(head) + content + bytes(repeat << 20))
        return path
    step = 1 << 26  # members of a gzip file follow each other, so that one block is compressed once
    block, count = gzip.compress(bytes(step), 9), (repeat << 20) // step
    path.write_bytes(gzip.compress(bytes(head) + content) + block * count)
    return path


def nrrd(path: Path, sizes: str, content: bytes = b"", field: str = "") -> Path:
    """A NRRD file with any declared sizes."""
    text = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sizes}\nspace: left-posterior-superior\n"
    text += "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\nendian: little\nencoding: raw\n"
    path.write_bytes((text + field + "\n").encode() + content)
    return path


def png(path: Path, width: int, height: int) -> Path:
    """A grey PNG of any declared size with one line of pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(min(width + 1, 1 << 20)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def jpeg2000_of_another_size(path: Path, width: int = 60_000, height: int = 60_000) -> Path:
    """A DICOM slice of 16×16 whose codestream states another size."""
    size = struct.pack(">HHH8IH3B", 0xFF51, 41, 0, width, height, 0, 0, width, height, 0, 0, 1, 15, 1, 1)
    frame = b"\xff\x4f" + size + b"\xff\xd9"
    frame += b"\0" * (len(frame) % 2)
    return dicom(path, JPEG2000Lossless, PixelData=pydicom.encaps.encapsulate([frame]))


def good_volume(path: Path, seed: int = 0, shape=(12, 20, 24)) -> Path:
    """A volume of random voxels."""
    voxels = np.random.default_rng(seed).integers(0, 100, shape).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    return path


def twelve_bad_files(folder: Path) -> list[Path]:
    """One file of each kind."""
    secret = folder.parent / "secret.raw"
    secret.write_bytes(b"topsecretvoxels!" * 2048)
    made = [
        nested_sequences(folder / "nested.dcm"),
        deflated_bomb(folder / "deflated.dcm"),
        clip(folder / "frames.dcm"),
        jpeg2000_of_another_size(folder / "codestream.dcm"),
        nifti(folder / "bomb.nii.gz", (2400, 2400, 1000), repeat=11_000),
        nifti(folder / "declared.nii", (30_000, 30_000, 30_000)),
        nifti(folder / "nan.nii", (8, 8, 8), 16, 32, np.full(512, np.nan, np.float32).tobytes()),
        nrrd(folder / "sizes.nrrd", "100000 100000 100000"),
        nrrd(folder / "elsewhere.nhdr", "16 16 48", field=f"data file: {secret}\n"),
        png(folder / "text.nii.gz", 10, 10),
        folder / "empty.mha",
        folder / "pipe.nii",
    ]
    (folder / "empty.mha").touch()
    os.mkfifo(folder / "pipe.nii")
    return made

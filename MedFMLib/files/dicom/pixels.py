"""Decode the pixels of DICOM files to stored values, and scale each plane with its own slope and intercept.

pydicom decodes what it can by itself (uncompressed, RLE, JPEG and JPEG 2000 of 8 bits) or with its plugins; the rest
goes to GDCM, which comes with SimpleITK, as a copy with a neutral header: GDCM would otherwise apply the first frame's
scale to all, and invert MONOCHROME1.
"""

from __future__ import annotations

import struct
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..limits import check_voxels
from ..sitk import collected_warnings
from .headers import DAMAGED, Header, numbers_of, read_complete, text_of
from .opening import open_dataset
from .planes import Plane

SMALL = 4096
"""Values up to this are held as float32 with an error far below 1e-3; larger ones as float64."""

SECONDARY_CAPTURE = ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.7.3", "1.2.840.10008.5.1.4.1.1.7.2")
"""Single image, multi-frame of more than 8 bits, multi-frame of 8 bits."""

Tell = Callable[[str], None]


def read_values(planes: Sequence[Plane], tell: Tell = lambda note: None) -> np.ndarray:
    """Return the scaled values of planes of one size, (I, J, K), k in the order of the planes.

    Integers stay integers where slopes and intercepts are whole numbers.

    Args:
        planes: of one or several files.
        tell: receives the decoder's warnings.

    Raises:
        InputError: if pixels are truncated, damaged, or not of the size in the header.
    """
    rows, columns = planes[0].rows, planes[0].columns
    _check_memory(planes, 16)
    whole = all(float(p.slope).is_integer() and float(p.intercept).is_integer() for p in planes)
    values = np.zeros((len(planes), rows, columns), np.int16 if whole else np.float32)
    files: dict[Path, list[int]] = {}
    for number, plane in enumerate(planes):
        files.setdefault(plane.header.path, []).append(number)
    for path, numbers in files.items():
        stored = stored_values(path, tell)
        table = has_table(planes[numbers[0]].header)
        if table:
            stored = looked_up(stored, read_complete(path))
        for number in numbers:
            plane = replace(planes[number], slope=1.0, intercept=0.0) if table else planes[number]
            if plane.frame >= len(stored) or stored.shape[1:] != (rows, columns):  # also colour, (rows, columns, 3)
                raise InputError(f"The pixels of '{path.name}' don't have the size in its header; copy the file again.")
            values = _put(values, number, stored[plane.frame], plane, whole)
    return values.transpose(2, 1, 0)


def is_colour(planes: Sequence[Plane], path: Path) -> bool:
    """Return whether planes are in colour: of three samples a pixel, or with a palette.

    Args:
        planes: of one volume.
        path: of the file or folder, for messages.

    Raises:
        InputError: if only some are.
    """
    coloured = [
        plane for plane in planes
        if plane.header.text("SamplesPerPixel") not in ("", "1")
        or plane.header.text("PhotometricInterpretation") == "PALETTE COLOR"
    ]  # fmt: skip
    if coloured and len(coloured) < len(planes):
        raise InputError(
            f"The series in '{path.name}' mixes images in colour, such as '{coloured[0].name}', and in grey; remove those of one "
            "kind, or choose another series."
        )
    return bool(coloured)


def read_colours(planes: Sequence[Plane], tell: Tell = lambda note: None) -> np.ndarray:
    """Return the colours of planes of one size, (3, I, J, K) uint8, k in the order of the planes.

    Args:
        planes: of one or several files, all in colour.
        tell: receives the decoder's warnings.

    Raises:
        InputError: if pixels are truncated, damaged, or not of the size in the header.
    """
    rows, columns = planes[0].rows, planes[0].columns
    _check_memory(planes, 3 * 8)
    values = np.zeros((len(planes), rows, columns, 3), np.uint8)
    files = {plane.header.path: eight_bits(stored_values(plane.header.path, tell)) for plane in planes}
    for number, plane in enumerate(planes):
        stored = files[plane.header.path]
        if plane.frame >= len(stored) or stored.shape[1:] != (rows, columns, 3):
            raise InputError(
                f"The pixels of '{plane.header.path.name}' don't have the size in its header; copy the file again."
            )
        values[number] = stored[plane.frame]
    return values.transpose(3, 2, 1, 0)


def _check_memory(planes: Sequence[Plane], bits: int) -> None:
    """Refuse planes that don't fit into memory together; `stored_values` does so for the frames of one file."""
    first = planes[0]
    shown = (
        first.header.path.name if len({plane.header.path for plane in planes}) == 1 else first.header.path.parent.name
    )
    check_voxels(shown, (first.columns, first.rows, len(planes)), bits)


def eight_bits(colours: np.ndarray) -> np.ndarray:
    """Return colours as uint8, the most significant bits of larger types.

    Args:
        colours: of any unsigned type.
    """
    return colours if colours.dtype == np.uint8 else (colours >> (8 * (colours.dtype.itemsize - 1))).astype(np.uint8)


def _put(values: np.ndarray, number: int, stored: np.ndarray, plane: Plane, whole: bool) -> np.ndarray:
    """Write one plane into the array; return the array, of a larger type if the values need it."""
    if not whole or stored.dtype.kind == "f":
        if values.dtype.kind != "f":
            values = values.astype(np.float64)
        scaled = stored * np.float64(plane.slope) + plane.intercept
        if values.dtype == np.float32 and np.abs(scaled).max() > SMALL:
            values = values.astype(np.float64)
        values[number] = scaled
        return values
    low, high = (int(v) * int(plane.slope) + int(plane.intercept) for v in (stored.min(), stored.max()))
    for larger in (np.int32, np.int64):
        limits = np.iinfo(values.dtype)
        if min(low, high) < limits.min or max(low, high) > limits.max:
            values = values.astype(larger)
    if plane.slope == 1 and plane.intercept == 0:
        values[number] = stored
    else:
        values[number] = stored.astype(values.dtype) * values.dtype.type(plane.slope) + values.dtype.type(
            plane.intercept
        )
    return values


def has_table(header: Header) -> bool:
    """Return whether a header scales its values with a lookup table instead of a slope (PS3.3 C.11.1); an empty one is none.

    Args:
        header: of the file.
    """
    from pydicom.sequence import Sequence as Items

    try:
        items = header.dataset.get("ModalityLUTSequence")
        return isinstance(items, Items) and any(item.get("LUTDescriptor") or item.get("LUTData") for item in items)
    except DAMAGED:
        return True  # `looked_up` says what is wrong


def looked_up(stored: np.ndarray, header: Header) -> np.ndarray:
    """Return what the modality lookup table of a file makes of its stored values.

    Args:
        stored: (frames, rows, columns).
        header: complete, with such a table; see `has_table`.

    Raises:
        InputError: if the table is damaged.
    """
    from pydicom.pixels import apply_modality_lut

    try:
        return np.asarray(apply_modality_lut(stored, header.dataset))
    except DAMAGED as error:
        raise InputError(
            f"The lookup table of '{header.path.name}' (ModalityLUTSequence) is damaged ({type(error).__name__}); copy the file "
            "again."
        ) from error


def stored_values(path: Path, tell: Tell = lambda note: None) -> np.ndarray:
    """Return the stored values of all frames of a file.

    Args:
        path: a DICOM file.
        tell: receives the decoder's warnings.

    Returns:
        (frames, rows, columns), or (frames, rows, columns, 3) for colour, which is RGB whatever the file's colour space

    Raises:
        InputError: if the pixels are truncated, damaged, or compressed in a way that nothing here decodes.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with path.open("rb") as stream:
                raw = stream.read(132)[128:] != b"DICM"
            dataset = open_dataset(path, force=raw, stop_before_pixels=False)
            if raw:
                _supply_transfer_syntax(dataset)
            stored = _decode(dataset, path, tell)
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(
            f"The pixels of '{path.name}' can't be read ({_short(error)}); the file is truncated, damaged, or of a kind that "
            "MedFM doesn't know. Copy it again."
        ) from error
    for text in dict.fromkeys(_short(warning.message) for warning in caught if _matters(warning)):
        tell(f"pydicom on '{path.name}': {text}")
    return stored


def _matters(warning) -> bool:
    """Return whether a warning is about pixels; odd values of other elements are reported where they are needed."""
    return "pixel" in str(warning.message).lower() and not issubclass(warning.category, DeprecationWarning)


def _short(error) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines and "SimpleITK" in lines[0]:  # the first lines name places in ITK's source
        return lines[-1].split("): ", 1)[-1][:160]
    return (lines[0] if lines else type(error).__name__)[:160]


def _supply_transfer_syntax(dataset) -> None:
    """Set the transfer syntax of a data set without file meta information, which can only be uncompressed."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None):
        return
    implicit, little = dataset.original_encoding
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = (
        ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    )
    dataset.file_meta = meta


def _decode(dataset, path: Path, tell: Tell) -> np.ndarray:
    syntax = dataset.file_meta.TransferSyntaxUID
    frames = int((numbers_of(dataset, "NumberOfFrames") or [1])[0]) if text_of(dataset, "NumberOfFrames") else 1
    samples = int(text_of(dataset, "SamplesPerPixel") or 1)
    check_voxels(path.name, (int(dataset.Columns), int(dataset.Rows), frames, samples), int(dataset.BitsAllocated))
    if syntax.is_compressed:
        check_codestreams(dataset, path, frames)
    if not syntax.is_compressed:
        _check_length(dataset, path, frames, samples)
    try:
        stored = dataset.pixel_array  # colour is converted from YBR to RGB
    except DAMAGED:
        if not syntax.is_compressed:
            raise
        with collected_warnings() as warned:
            stored = _by_gdcm(dataset, frames)
        for text in warned:
            tell(f"GDCM on '{path.name}': {text}")
    if text_of(dataset, "PhotometricInterpretation") == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        stored, samples = apply_color_lut(stored, dataset), 3
        if stored.dtype == np.uint16:
            stored = (stored >> 8).astype(np.uint8)
    shape = (frames, int(dataset.Rows), int(dataset.Columns), *((samples,) if samples > 1 else ()))
    stored = np.asarray(stored).reshape(shape)
    return stored if samples > 1 else _significant(stored, dataset)


def check_codestreams(dataset, path: Path, frames: int) -> None:
    """Refuse compressed frames that are larger than the header says: a decoder allocates what the frame states.

    Args:
        dataset: a pydicom Dataset with compressed pixels.
        path: of its file, for the message.
        frames: their number.

    Raises:
        InputError: if one has another size.
    """
    from pydicom.encaps import generate_frames

    size = int(dataset.Rows), int(dataset.Columns)
    for frame in generate_frames(dataset.PixelData, number_of_frames=frames):
        stated = codestream_size(frame)
        if stated is not None and stated != size:
            raise InputError(
                f"The pixels of '{path.name}' are {stated[1]}×{stated[0]}, and its header says {size[1]}×{size[0]}; the file is "
                "damaged, copy it again."
            )


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) that a JPEG, JPEG-LS or JPEG 2000 codestream states, None for others.

    Args:
        frame: bytes of one compressed frame (ISO/IEC 10918-1 B.2.2: SOF; 14495-1; 15444-1 A.5.1: SIZ).
    """
    if frame[:2] == b"\xff\x4f" and frame[2:4] == b"\xff\x51" and len(frame) >= 24:
        right, bottom, left, top = struct.unpack(">4I", frame[8:24])
        return bottom - top, right - left
    if frame[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack(">2H", frame[at + 5 : at + 9])
            return rows, columns
        at += 2 + struct.unpack(">H", frame[at + 2 : at + 4])[0]
    return None


def _check_length(dataset, path: Path, frames: int, samples: int) -> None:
    """Refuse pixel data that is shorter than the header says."""
    sub = 2 if text_of(dataset, "PhotometricInterpretation") == "YBR_FULL_422" else samples
    bits = dataset.Rows * dataset.Columns * frames * sub * int(dataset.BitsAllocated)
    data = next(
        (dataset[name].value for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if name in dataset),
        b"",
    )
    if len(data) < -(-bits // 8):
        raise InputError(
            f"The DICOM file '{path.name}' is truncated: {len(data)} of {-(-bits // 8)} bytes of pixels; copy it again."
        )


def _significant(stored: np.ndarray, dataset) -> np.ndarray:
    """Return values without the bits above Bits Stored, where old files keep overlays."""
    allocated, used = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if stored.dtype.kind == "f" or used >= allocated or allocated == 1:
        return stored
    shift = allocated - used
    down = max(0, int(dataset.HighBit) + 1 - used)
    return stored << (shift - down) >> shift  # keeps the sign of signed types


def _by_gdcm(dataset, frames: int) -> np.ndarray:
    """Return the stored values that GDCM decodes from a copy without scale, meaning and identity."""
    import pydicom
    import SimpleITK as sitk
    from pydicom.dataset import FileDataset, FileMetaDataset

    bits, colour = int(dataset.BitsAllocated), int(text_of(dataset, "SamplesPerPixel") or 1) > 1
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE[0 if frames == 1 else 1 if bits > 8 else 2]
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    copy = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    copy.SOPClassUID, copy.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    for name in ("SamplesPerPixel", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored",
                 "HighBit", "PixelRepresentation", "PixelData"):  # fmt: skip
        if name in dataset:
            copy[name] = dataset[name]
    copy.PhotometricInterpretation = dataset.PhotometricInterpretation if colour else "MONOCHROME2"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.dcm"
        copy.save_as(path, enforce_file_format=True)
        picture = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    return sitk.GetArrayFromImage(picture)

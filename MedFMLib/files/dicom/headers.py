"""Read the headers of DICOM files, value by value, each with a sentence for what is wrong with it.

Values are converted where they are needed, so that a damaged value that nobody needs does no harm. A file without the
DICOM preamble (a data set as it was sent over the network) is read as well.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..names import OTHER_FORMATS
from ..presence import fetched_by, start_of
from .opening import open_dataset

SAFE_FACTS = (
    "BodyPartExamined",
    "SliceThickness",
    "MagneticFieldStrength",
    "ScanningSequence",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "KVP",
    "ConvolutionKernel",
    "Manufacturer",
    "ManufacturerModelName",
    "PatientPosition",
    "ViewPosition",
    "PatientOrientation",
)
"""Header fields that describe the acquisition; `facts` takes known values of them."""

SEPARATE_VOLUMES = (
    "TemporalPositionIdentifier", "TemporalPositionIndex", "AcquisitionNumber", "EchoNumbers", "EchoTime", "InversionTime",
    "DiffusionBValue", "TriggerTime", "NominalPercentageOfCardiacPhase", "FlipAngle", "FrameReferenceTime", "SequenceName",
    "ImageType", "ContrastBolusAgent", "ConvolutionKernel", "AcquisitionTime", "ContentTime",
)  # fmt: skip
"""Attributes of a single-frame image in which two volumes of one series can differ."""

HEADER_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesDescription", "Modality", "Rows",
    "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio",
    "InstanceNumber", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "Units", "ModalityLUTSequence", "SpacingBetweenSlices", "FrameOfReferenceUID",
    "Laterality", "ImageLaterality", "SequenceOfUltrasoundRegions", *SEPARATE_VOLUMES, *SAFE_FACTS,
]  # fmt: skip
"""What is read of every file; a file with several frames is read completely, except for its pixels."""

MULTI_FRAME_TAGS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")

DAMAGED = (Exception,)
"""What pydicom and the decoders raise for damaged files is nearly every kind of exception; MedFM's own are raised outside
of what these catch."""


@dataclass(frozen=True, eq=False)
class Header:
    """Header of one file.

    Args:
        path: the file.
        dataset: pydicom Dataset without pixels: `HEADER_TAGS`, or everything if the file has several frames.
    """

    path: Path
    dataset: object = field(repr=False)

    def text(self, name: str) -> str:
        """Return a value as text, several joined by a backslash; "" if it is missing or empty. Never fails."""
        return text_of(self.dataset, name)

    def number(self, name: str, default: float | None = None) -> float:
        """Return one number.

        Args:
            name: keyword of the attribute.
            default: for a missing or empty value; an error if None.

        Raises:
            InputError: if it is missing without a default, or is not one finite number.
        """
        if default is not None and not self.text(name):
            return default
        return float(self.numbers(name, 1)[0])

    def numbers(self, name: str, count: int, dataset=None) -> np.ndarray:
        """Return (count,) float64.

        Args:
            name: keyword of the attribute.
            count: how many numbers it must have.
            dataset: an item of a sequence of this file that holds it; the file itself if None.

        Raises:
            InputError: if it is missing, or is not so many finite numbers; the message names tag, value and file.
        """
        found = numbers_of(self.dataset if dataset is None else dataset, name)
        shown = text_of(self.dataset if dataset is None else dataset, name)
        if found is None:
            wrong = f"'{shown[:40]}', which is no number" if shown else "no value"
            raise InputError(
                f"'{self.path.name}' has {wrong} in {name} ({tag_of(name)}); correct or leave out that file."
            )
        if len(found) != count or not np.isfinite(found).all():
            raise InputError(
                f"'{self.path.name}' has '{shown[:40]}' in {name} ({tag_of(name)}), where {count} finite "
                f"number{'s are' if count > 1 else ' is'} needed; correct or leave out that file."
            )
        return found

    @property
    def uid(self) -> str:
        """SOP Instance UID."""
        return self.text("SOPInstanceUID")

    @property
    def frames(self) -> int:
        """Number of frames, 1 for an image without frames.

        Raises:
            InputError: if the value is not a positive number.
        """
        count = self.number("NumberOfFrames", 1.0)
        if count < 1 or count != int(count):
            raise InputError(f"'{self.path.name}' has {count:g} in NumberOfFrames; correct or leave out that file.")
        return int(count)


def tag_of(name: str) -> str:
    """Return the tag of a keyword in the usual notation, "0028,0030"."""
    from pydicom.datadict import tag_for_keyword

    number = tag_for_keyword(name) or 0
    return f"{number >> 16:04X},{number & 0xFFFF:04X}"


def text_of(dataset, name: str) -> str:
    """Return a value as text, several joined by a backslash; "" if it is missing or empty. Never fails.

    Args:
        dataset: a pydicom Dataset.
        name: keyword of the attribute.
    """
    from pydicom.multival import MultiValue

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = dataset.get(name)
    except DAMAGED:
        raw = getattr(dataset.get_item(name), "value", b"") or b""
        return raw.decode("latin-1").strip(" \0") if isinstance(raw, bytes) else str(raw).strip()
    if value is None or isinstance(value, bytes):
        return ""
    if isinstance(value, MultiValue | list | tuple):
        return "\\".join(str(part).strip() for part in value)
    return str(value).strip(" \0")


def numbers_of(dataset, name: str) -> np.ndarray | None:
    """Return the numbers of a value, float64; None if it is missing, empty, or not made of numbers.

    Args:
        dataset: a pydicom Dataset.
        name: keyword of the attribute.
    """
    parts = text_of(dataset, name).split("\\")
    try:
        return np.array([float(part) for part in parts], np.float64)
    except ValueError:
        return None


def files_of(path: Path) -> list[Path]:
    """Return the files that a DICOM path may mean: itself, or all files of a folder and its subfolders, sorted.

    Args:
        path: a file or folder. Files that begin with a dot and `DICOMDIR` are left out.
    """
    if path.is_file():
        return [path]
    found = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    return sorted(file for file in found if file.name[0] != "." and file.name != "DICOMDIR" and file.is_file())


def read_header(path: Path) -> Header | None:
    """Return the header of a file; None if it is not DICOM.

    Raises:
        InputError: if it is DICOM, and damaged.
    """
    return _read(path, complete=False)


def read_headers(files: Sequence[Path]) -> list[Header]:
    """Return the headers of those files that are DICOM.

    Raises:
        InputError: if one is damaged.
    """
    return [header for header in map(read_header, files) if header is not None]


def read_complete(path: Path) -> Header:
    """Return the whole header of a DICOM file, without its pixels.

    Raises:
        InputError: if it is not DICOM, or damaged.
    """
    header = _read(path, complete=True)
    if header is None:
        raise InputError(f"'{path.name}' is no DICOM file; give a DICOM file or folder.")
    return header


def _read(path: Path, complete: bool) -> Header | None:
    from pydicom.errors import InvalidDicomError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values are reported where they are needed
            start = start_of(path)
            raw = start[128:132] != b"DICM"
            if raw and fetched_by(start) and not path.name.lower().endswith(OTHER_FORMATS):
                raise InputError(
                    f"'{path.name}' only points to a file in a store, which isn't here; get it first ({fetched_by(start)})."
                )
            if raw and not _begins_like_a_dataset(start):
                return None
            dataset = open_dataset(path, force=raw, tags=None if complete else HEADER_TAGS)
            if not complete and _has_frames(dataset):
                dataset = open_dataset(path, force=raw)
            if raw and not text_of(dataset, "SOPClassUID"):
                return None  # it only looked like DICOM
    except InvalidDicomError:
        return None
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(
            f"The DICOM file '{path.name}' is damaged ({type(error).__name__}); copy it again or remove it."
        ) from error
    return Header(path, dataset)


def _has_frames(dataset) -> bool:
    counted = numbers_of(dataset, "NumberOfFrames")
    complete = text_of(dataset, "SOPClassUID") in (*ENHANCED, RT_DOSE)
    return complete or (counted is not None and bool((counted > 1).any()))


RT_DOSE = "1.2.840.10008.5.1.4.1.1.481.2"
ENHANCED = {
    "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2", "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.3",
    "1.2.840.10008.5.1.4.1.1.4.4", "1.2.840.10008.5.1.4.1.1.128.1", "1.2.840.10008.5.1.4.1.1.130",
    "1.2.840.10008.5.1.4.1.1.13.1.1", "1.2.840.10008.5.1.4.1.1.13.1.2", "1.2.840.10008.5.1.4.1.1.13.1.3",
    "1.2.840.10008.5.1.4.1.1.30", "1.2.840.10008.5.1.4.1.1.6.2",
}  # fmt: skip
"""SOP classes whose frames are described in functional groups: enhanced CT, MR, PET, tomosynthesis, parametric maps."""


def _begins_like_a_dataset(start: bytes) -> bool:
    """Return whether bytes begin with an element of group 0002 or 0008, as data sets without a preamble do."""
    if len(start) < 8:
        return False
    little, big = start[0] | start[1] << 8, start[0] << 8 | start[1]
    element = start[2] | start[3] << 8 if little in (2, 8) else start[2] << 8 | start[3]
    if little not in (2, 8) and big != 8:
        return False
    return element <= 0x0070  # the first elements of these groups

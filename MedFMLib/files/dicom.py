"""Read one DICOM series as a volume: headers with pydicom, pixels (any compression) with SimpleITK's GDCM.

The grid is computed from Image Position and Orientation (DICOM PS3.3 C.7.6.2), never from file order or slice
thickness. Nothing that identifies a patient is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.geometry import Geometry, lps_from_ras
from ..core.image import MODALITIES, Image
from ..errors import InputError
from .sitk import from_sitk, output_name

GAP_TOLERANCE = 0.25
"""Slice distances may differ from their median by this fraction; a larger difference means that slices are missing."""

PROJECTIONS = {"CR": "CR", "DX": "CR", "RF": "CR", "XA": "CR", "MG": "CR"}
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
)
"""Header fields that describe the acquisition and identify nobody."""

REASON_TAGS = ("ReasonForStudy", "ReasonForTheRequestedProcedure", "RequestedProcedureDescription")
"""Header fields with the reason for the examination: free text, so they are not part of the image's facts, which are shared."""

HEADER_TAGS = [
    "SOPClassUID", "SeriesInstanceUID", "Modality", "Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "InstanceNumber", "NumberOfFrames", "SamplesPerPixel", "FrameOfReferenceUID", "ContrastBolusAgent",
    *SAFE_FACTS,
]  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """Header and path of one file.

    Args:
        path: the file.
        header: pydicom dataset with the tags of `HEADER_TAGS`.
    """

    path: Path
    header: object


def read_dicom(
    path: Path, *, modality: str = "", frame: int | None = None, series: str = "", files: Sequence[Path] = ()
) -> Image:
    """Read one series as a volume.

    Args:
        path: a DICOM file or a folder with DICOM files.
        modality: overrides the modality in the header.
        frame: which time point of a series with several, from 0.
        series: which series of a folder: its number in the list that the error shows, or its UID.
        files: the files of `path` to read; all by default.

    Raises:
        InputError: no DICOM, several series, missing slices, different sizes or directions, damaged pixels.
    """
    groups = find_series(path, files)
    slices = _choose(groups, path, series)
    first = slices[0].header
    if int(getattr(first, "SamplesPerPixel", 1) or 1) > 1:
        raise InputError(f"The series in '{path.name}' is in colour; choose a greyscale series.")
    stated = str(getattr(first, "Modality", "OT"))
    found = PROJECTIONS.get(stated, stated if stated in MODALITIES else "OT")
    facts = {tag: str(getattr(first, tag)) for tag in SAFE_FACTS if getattr(first, tag, None) not in (None, "")}
    facts["Contrast"] = "yes" if str(getattr(first, "ContrastBolusAgent", "") or "").strip() else "not stated"
    name = output_name(path)
    if len(slices) == 1 and int(getattr(first, "NumberOfFrames", 1) or 1) > 1:
        image = from_sitk(_pixels(slices[0].path), name, modality=modality or found, frame=frame, file_name=path.name)
        return Image(image.voxels, image.geometry, image.modality, name, facts)
    slices = _one_frame(_sorted(slices, path), path, frame)
    geometry = _geometry(slices, path)
    planes = [_plane(s, geometry) for s in slices]
    return Image(np.stack(planes, axis=-1)[None], geometry, modality or found, name, facts)


def find_slices(path: Path, series: str = "", frame: int | None = None) -> list[Slice]:
    """Return the slices of one series in the order of the volume's k axis, or its only multi-frame file.

    Args:
        path: a DICOM file or a folder with DICOM files.
        series: number or UID of the series; "" if there is only one.
        frame: which time point of a series with several, from 0.

    Raises:
        InputError: as for `read_dicom`.
    """
    slices = _choose(find_series(path), path, series)
    if len(slices) == 1 and int(getattr(slices[0].header, "NumberOfFrames", 1) or 1) > 1:
        return slices
    return _one_frame(_sorted(slices, path), path, frame)


def reason_for_study(path: Path, series: str = "") -> str:
    """Return the reason for the examination from the header, for the report's indication; "" if there is none.

    Args:
        path: a DICOM file or a folder with DICOM files.
        series: number or UID of the series; "" if there is only one.

    Raises:
        InputError: as for `read_dicom`.
    """
    import pydicom

    first = find_slices(path, series)[0]
    header = pydicom.dcmread(first.path, stop_before_pixels=True, specific_tags=list(REASON_TAGS))
    said = (str(getattr(header, tag, "") or "").strip() for tag in REASON_TAGS)
    return "; ".join(dict.fromkeys(filter(None, said)))


def find_series(path: Path, files: Sequence[Path] = ()) -> dict[str, list[Slice]]:
    """Return the series UIDs with their slices, for a DICOM file or a folder with its subfolders.

    Args:
        path: a DICOM file or a folder.
        files: the files of `path` to read; all by default.

    Raises:
        InputError: if there is no DICOM image, or a file is damaged.
    """
    import pydicom
    from pydicom.errors import InvalidDicomError

    files = files or (
        [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file() and p.name != "DICOMDIR")
    )
    groups: dict[str, list[Slice]] = defaultdict(list)
    for file in files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=HEADER_TAGS)
        except InvalidDicomError:
            continue
        except (OSError, EOFError, ValueError, AttributeError) as error:
            raise InputError(
                f"The DICOM file '{file.name}' is damaged ({type(error).__name__}); copy it again or remove it."
            ) from error
        if getattr(header, "Rows", None) and getattr(header, "Columns", None):
            groups[str(getattr(header, "SeriesInstanceUID", ""))].append(Slice(file, header))
    if not groups:
        what = "is no DICOM image" if path.is_file() else "contains no DICOM images"
        raise InputError(
            f"'{path.name}' {what}; give a NIfTI, NRRD or MHA file, a DICOM file, or a folder of one series."
        )
    return dict(groups)


def _choose(groups: dict[str, list[Slice]], path: Path, series: str) -> list[Slice]:
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    if series:
        for number, (uid, slices) in enumerate(ordered, start=1):
            if series in (str(number), uid):
                return slices
    elif len(ordered) == 1:
        return ordered[0][1]
    listed = "; ".join(
        f"{n}: {getattr(s[0].header, 'Modality', '?')}, {len(s)} image{'s' if len(s) > 1 else ''} of "
        f"{s[0].header.Columns}×{s[0].header.Rows}"
        for n, (_, s) in enumerate(ordered, start=1)
    )
    problem = f"has no series {series!r}" if series else f"contains {len(ordered)} series"
    raise InputError(f"'{path.name}' {problem} ({listed}); choose one with --series NUMBER (in Python series=).")


def _sorted(slices: list[Slice], path: Path) -> list[Slice]:
    """Return the slices in the order along their normal."""
    for s in slices:
        for tag in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
            if not getattr(s.header, tag, None):
                raise InputError(
                    f"'{s.path.name}' has no position in the patient ({tag} is missing); choose another series."
                )
    sizes = {(int(s.header.Rows), int(s.header.Columns)) for s in slices}
    if len(sizes) > 1:
        raise InputError(f"The series in '{path.name}' mixes image sizes {sorted(sizes)}; choose a series of one size.")
    directions = np.array([s.header.ImageOrientationPatient for s in slices], dtype=float)
    if np.abs(directions - directions[0]).max() > 1e-2:
        raise InputError(
            f"The series in '{path.name}' mixes slice directions (a localizer?); choose a series with one direction."
        )
    return sorted(slices, key=lambda s: (round(_depth(s), 3), int(getattr(s.header, "InstanceNumber", 0) or 0)))


def _normal(s: Slice) -> np.ndarray:
    direction = np.array(s.header.ImageOrientationPatient, dtype=float)
    return np.cross(direction[:3], direction[3:])


def _depth(s: Slice) -> float:
    return float(np.dot(_normal(s), np.array(s.header.ImagePositionPatient, dtype=float)))


def _one_frame(slices: list[Slice], path: Path, frame: int | None) -> list[Slice]:
    """Return the slices of one time point, for a series with several images at each position."""
    places: dict[float, list[Slice]] = defaultdict(list)
    for s in slices:
        places[round(_depth(s), 2)].append(s)
    counts = {len(group) for group in places.values()}
    if counts == {1}:
        if frame not in (None, 0):
            raise InputError(f"The series in '{path.name}' has one frame, number 0, so there is no frame {frame}.")
        return slices
    if len(counts) > 1:
        raise InputError(
            f"The series in '{path.name}' has between {min(counts)} and {max(counts)} images at one position; "
            "remove the duplicates or choose another series."
        )
    (count,) = counts
    if frame is None or not 0 <= frame < count:
        raise InputError(
            f"The series in '{path.name}' has {count} frames; choose one with --frame 0 to {count - 1} (in Python frame=)."
        )
    return [group[frame] for _, group in sorted(places.items())]


def _geometry(slices: list[Slice], path: Path) -> Geometry:
    header = slices[0].header
    positions = np.array([s.header.ImagePositionPatient for s in slices], dtype=float)
    direction = np.array(header.ImageOrientationPatient, dtype=float)
    rows, columns = (float(v) for v in header.PixelSpacing)
    normal = _normal(slices[0])
    step = normal * float(getattr(header, "SliceThickness", None) or 1.0)
    if len(slices) > 1:
        depths = np.array([_depth(s) for s in slices])
        gaps = np.diff(depths)
        typical = float(np.median(gaps))
        widest = int(np.argmax(np.abs(gaps - typical)))
        if abs(gaps[widest] - typical) > GAP_TOLERANCE * typical:
            raise InputError(
                f"Slices are missing in '{path.name}': {gaps[widest]:.1f} mm lie between '{slices[widest].path.name}' and "
                f"'{slices[widest + 1].path.name}', {typical:.1f} mm between most others; copy the whole series."
            )
        step = (positions[-1] - positions[0]) / (len(slices) - 1)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = direction[:3] * columns, direction[3:] * rows, step
    affine[:3, 3] = positions[0]
    shape = (int(header.Columns), int(header.Rows), len(slices))
    return Geometry(shape, lps_from_ras(affine), str(getattr(header, "FrameOfReferenceUID", "") or ""))


def _pixels(path: Path):
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        return sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    except RuntimeError as error:
        raise InputError(
            f"The pixels of '{path.name}' can't be read; the file is truncated or damaged. Copy it again."
        ) from error


def _plane(s: Slice, geometry: Geometry) -> np.ndarray:
    """Return the rescaled values of one slice, (I, J)."""
    import SimpleITK as sitk

    _check_length(s.path)
    array = sitk.GetArrayFromImage(_pixels(s.path))
    plane = array.reshape(array.shape[-2:]) if array.ndim == 3 else array
    if plane.shape != (geometry.shape[1], geometry.shape[0]):
        raise InputError(f"The pixels of '{s.path.name}' don't have the size in its header; copy the file again.")
    return plane.T


def _check_length(path: Path) -> None:
    """Check for truncated pixel data, which GDCM would fill with zeros."""
    import pydicom

    try:
        data = pydicom.dcmread(path, defer_size="1 KB", specific_tags=[
            "Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "NumberOfFrames", "PixelData"])  # fmt: skip
        if data.file_meta.TransferSyntaxUID.is_compressed:
            return
        frames = int(getattr(data, "NumberOfFrames", 1) or 1)
        expected = (
            data.Rows * data.Columns * frames * data.BitsAllocated // 8 * int(getattr(data, "SamplesPerPixel", 1) or 1)
        )
        actual = len(data.PixelData)
    except (OSError, EOFError, AttributeError, ValueError, KeyError) as error:
        raise InputError(f"The DICOM file '{path.name}' is truncated or damaged; copy it again.") from error
    if actual < expected:
        raise InputError(
            f"The DICOM file '{path.name}' is truncated: {actual} of {expected} bytes of pixels; copy it again."
        )

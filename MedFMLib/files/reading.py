"""Volumes from files: NIfTI, NRRD, MetaImage through SimpleITK; DICOM goes on to `dicom`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.geometry import Geometry, lps_from_ras
from ..core.image import MODALITIES, Image, guess_modality
from ..errors import InputError

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def output_name(path: Path) -> str:
    """What results of an input are called: its name without the image suffixes."""
    name = path.resolve().name
    for suffix in (".seg.nrrd", *sorted(VOLUME_SUFFIXES, key=len, reverse=True), ".dcm", ".dicom", ".ima"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def read_image(path: Path | str, *, modality: str = "", frame: int | None = None, series: str = "") -> Image:
    """Read a volume.

    Args:
        path: a NIfTI, NRRD or MetaImage file, a DICOM file, or a folder with DICOM files.
        modality: overrides what the file says or what would be guessed.
        frame: which volume of a 4D file, from 0.
        series: which series of a DICOM folder: its number in the list that the error shows, or its UID.

    Raises:
        InputError: not there, not readable, damaged, or not one scalar volume; says what to do.
    """
    path = Path(path).expanduser()
    if modality and modality not in MODALITIES:
        raise InputError(f"Unknown modality {modality!r}; choose one of {', '.join(MODALITIES)}.")
    if not path.exists():
        raise InputError(f"There is no file or folder '{path}'; check the path.")
    lower = path.name.lower()
    if lower.endswith(PICTURE_SUFFIXES):
        raise InputError(
            f"'{path.name}' is a picture, which has no place in a patient; give a volume (NIfTI, NRRD, MHA) or DICOM."
        )
    if lower.endswith(VOLUME_SUFFIXES):
        return _read_volume(path, modality, frame)
    from .dicom import read_dicom

    return read_dicom(path, modality=modality, frame=frame, series=series)


def _read_volume(path: Path, modality: str, frame: int | None) -> Image:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK repeats on stderr what the error says
    try:
        picture = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1].strip()
        raise InputError(
            f"'{path.name}' can't be read; it is damaged, truncated or not what its name says ({reason[:160]})."
        ) from error
    return from_sitk(picture, output_name(path), modality=modality, frame=frame, file_name=path.name)


def from_sitk(picture, name: str, *, modality: str = "", frame: int | None = None, file_name: str = "") -> Image:
    """A SimpleITK image as an Image; see `read_image` for the arguments and errors."""
    import SimpleITK as sitk

    shown = file_name or name
    if picture.GetNumberOfComponentsPerPixel() > 1:
        raise InputError(
            f"'{shown}' has {picture.GetNumberOfComponentsPerPixel()} values per voxel (colour or vectors); "
            "convert it to a scalar (greyscale) volume first."
        )
    if picture.GetDimension() == 4:
        picture = _frame(picture, shown, frame)
    elif frame not in (None, 0):
        raise InputError(f"'{shown}' has one frame, number 0, so there is no frame {frame}.")
    if picture.GetDimension() != 3:
        raise InputError(
            f"'{shown}' has {picture.GetDimension()} dimensions; MedFM needs a 3D volume, "
            "or one DICOM slice that knows its place."
        )
    voxels = sitk.GetArrayFromImage(picture).transpose(2, 1, 0)[None]
    facts = {}
    if not modality:
        modality, facts = guess_modality(voxels[0]), {"modality_guessed": "yes"}
    return Image(voxels, geometry_of(picture), modality, name, facts)


def _frame(picture, shown: str, frame: int | None):
    import SimpleITK as sitk

    count = picture.GetSize()[3]
    if frame is None and count > 1:
        raise InputError(
            f"'{shown}' is 4D with {count} frames; choose one with --frame 0 to {count - 1} (console: frame=)."
        )
    frame = frame or 0
    if not 0 <= frame < count:
        raise InputError(f"'{shown}' has frames 0 to {count - 1}, so there is no frame {frame}.")
    size = list(picture.GetSize())
    size[3] = 0
    return sitk.Extract(picture, size, [0, 0, 0, frame], sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX)


def geometry_of(picture) -> Geometry:
    """The grid of a 3D SimpleITK image (which is LPS)."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(picture.GetDirection()).reshape(3, 3) * np.array(picture.GetSpacing())
    affine[:3, 3] = picture.GetOrigin()
    return Geometry(picture.GetSize(), lps_from_ras(affine))

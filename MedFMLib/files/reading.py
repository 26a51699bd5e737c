"""Read volumes from files: NIfTI, NRRD and MetaImage with SimpleITK, DICOM with `dicom`."""

from __future__ import annotations

from pathlib import Path

from ..core.image import MODALITIES, Image
from ..errors import InputError
from .dicom import read_dicom
from .sitk import VOLUME_SUFFIXES, from_sitk, output_name

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def read_image(path: Path | str, *, modality: str = "", frame: int | None = None, series: str = "") -> Image:
    """Read a volume.

    Args:
        path: a NIfTI, NRRD or MetaImage file, a DICOM file, or a folder with DICOM files.
        modality: overrides the modality of the header or the guess.
        frame: which volume of a 4D file, from 0.
        series: which series of a DICOM folder: its number in the list that the error shows, or its UID.

    Raises:
        InputError: if it is missing, unreadable, damaged, or not one scalar volume; the message has the next step.
    """
    path = Path(path).expanduser()
    if modality and modality not in MODALITIES:
        raise InputError(f"Unknown modality {modality!r}; choose one of {', '.join(MODALITIES)}.")
    if not path.exists():
        raise InputError(f"There is no file or folder '{path}'; check the path.")
    lower = path.name.lower()
    if lower.endswith(PICTURE_SUFFIXES):
        raise InputError(
            f"'{path.name}' is a picture without a position in the patient; give a volume (NIfTI, NRRD, MHA) or DICOM."
        )
    if lower.endswith(VOLUME_SUFFIXES):
        return _read_volume(path, modality, frame)
    return read_dicom(path, modality=modality, frame=frame, series=series)


def _read_volume(path: Path, modality: str, frame: int | None) -> Image:
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK would repeat the error on stderr
    try:
        picture = sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = [line for line in str(error).splitlines() if line.strip()][-1].strip()
        raise InputError(
            f"'{path.name}' can't be read; it is damaged, truncated or not of the type that its name suggests ({reason[:160]})."
        ) from error
    return from_sitk(picture, output_name(path), modality=modality, frame=frame, file_name=path.name)

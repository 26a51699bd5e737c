"""Convert SimpleITK images to `Image`s, and name outputs after inputs. Knows no DICOM header.

SimpleITK's physical space is LPS, MedFM's is RAS; arrays of SimpleITK are (K, J, I), ours (C, I, J, K).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..core.geometry import Geometry, lps_from_ras
from ..core.image import Image, guess_modality
from ..errors import InputError

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def output_name(path: Path) -> str:
    """Return the base name for the results of an input: its file name without the image suffixes."""
    name = path.resolve().name
    for suffix in (".seg.nrrd", *sorted(VOLUME_SUFFIXES, key=len, reverse=True), ".dcm", ".dicom", ".ima"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def from_sitk(picture, name: str, *, modality: str = "", frame: int | None = None, file_name: str = "") -> Image:
    """Convert a SimpleITK image to an `Image`.

    Args:
        picture: 3D or 4D scalar image.
        name: name of the result.
        modality: one of `MODALITIES`; "" to guess it from the values.
        frame: which volume of a 4D image, from 0.
        file_name: name of the file for error messages; `name` by default.

    Raises:
        InputError: if it is not one scalar volume.
    """
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
            "or one DICOM slice with a position."
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
            f"'{shown}' is 4D with {count} frames; choose one with --frame 0 to {count - 1} (in Python frame=)."
        )
    frame = frame or 0
    if not 0 <= frame < count:
        raise InputError(f"'{shown}' has frames 0 to {count - 1}, so there is no frame {frame}.")
    size = list(picture.GetSize())
    size[3] = 0
    return sitk.Extract(picture, size, [0, 0, 0, frame], sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX)


def geometry_of(picture) -> Geometry:
    """Return the grid of a 3D SimpleITK image (which is LPS) in RAS."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(picture.GetDirection()).reshape(3, 3) * np.array(picture.GetSpacing())
    affine[:3, 3] = picture.GetOrigin()
    return Geometry(picture.GetSize(), lps_from_ras(affine))

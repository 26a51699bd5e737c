"""Read images: volumes from NIfTI, NRRD, MetaImage and MGH files, DICOM, pictures, and images of other libraries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.image import MODALITIES, Image
from ..errors import InputError
from .damage import readable
from .dicom import read_dicom
from .names import PICTURE_SUFFIXES, VOLUME_SUFFIXES, output_name
from .pictures import join_pictures, read_picture_file
from .presence import check_path
from .volumes import read_volume_file


def read_image(
    source: Path | str | os.PathLike | Any,
    *,
    modality: str = "",
    frame: int | None = None,
    series: str = "",
    resample: bool = False,
) -> Image:
    """Read a volume, or pictures without a place in a patient.

    Args:
        source: a NIfTI, NRRD, MetaImage or MGH file, a picture file, a DICOM file, a folder with DICOM files; or an
            image of SimpleITK or nibabel, or a pair (numpy array (I, J, K), 4×4 affine index → RAS mm), as nibabel
            has them; or an `Image`, which is returned.
        modality: overrides the modality of the header or the guess.
        frame: which volume of a 4D file or of a DICOM series with several (time points, echoes, stacks), or which
            picture of several, from 0.
        series: which series of a DICOM folder: its number in the list that the error shows, or its UID.
        resample: interpolate DICOM slices of uneven spacing to an even grid, instead of refusing them.

    Raises:
        InputError: if it is missing, unreadable, damaged, or not one image; the message has the next step.
    """
    if modality and modality not in MODALITIES:
        raise InputError(f"Unknown modality {modality!r}; choose one of {', '.join(MODALITIES)}.")
    if isinstance(source, Image):
        return replace(source, modality=modality) if modality else source
    if not isinstance(source, str | os.PathLike):
        from .objects import image_from_object

        return image_from_object(source, modality=modality, frame=frame)
    path = Path(os.fspath(source)).expanduser()
    with readable(path):
        return _read_path(path, modality, frame, series, resample)


def _read_path(path: Path, modality: str, frame: int | None, series: str, resample: bool) -> Image:
    check_path(path)
    lower = path.name.lower()
    if path.is_file() and lower.endswith(PICTURE_SUFFIXES):
        return read_picture_file(path, output_name(path), modality=modality, frame=frame)
    if path.is_file() and lower.endswith(VOLUME_SUFFIXES):
        return read_volume_file(path, output_name(path), modality=modality, frame=frame)
    return read_dicom(path, modality=modality, frame=frame, series=series, resample=resample)


def read_study(sources: Sequence[Any], **reading: Any) -> Image:
    """Read one image, or several pictures of one examination as one image for one question.

    Args:
        sources: see `read_image`; several must all be pictures, such as the two views of a chest radiograph.
        reading: options of `read_image`.

    Raises:
        InputError: as for `read_image`; also if one of several is a volume.
    """
    if not sources:
        raise InputError("There is no image; give a file or folder.")
    return join_pictures([read_image(source, **reading) for source in sources])

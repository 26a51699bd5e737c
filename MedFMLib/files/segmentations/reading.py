"""Read segmentations of any kind onto the grid of an image: finds out what a path holds. Knows no format itself."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core.findings import Segmentation
from ...core.geometry import Geometry
from ...errors import InputError
from ..damage import readable
from ..dicom.headers import read_header
from ..names import VOLUME_SUFFIXES
from ..objects import image_from_object
from ..presence import check_path
from .dicom_segmentations import SEGMENTATIONS, read_dicom_segmentation
from .found import SHOWN, Target, Tell, make_segmentation
from .label_folders import label_files_in, name_of_file
from .label_volumes import IN_MEMORY, read_label_image, read_label_volume
from .structure_sets import STRUCTURE_SET, read_structure_set

KINDS = "give a .seg.nrrd, a label map (NIfTI, NRRD, MHA), a DICOM SEG or RTSTRUCT, or a folder with one file a label."


def read_segmentation(
    path: Path | str | os.PathLike | Any,
    geometry: Geometry,
    *,
    resample: bool = False,
    threshold: float | None = None,
    tell: Tell | None = None,
    names: Mapping[int, str] | None = None,
) -> Segmentation:
    """Read segments onto the grid of an image.

    Names, codes and colours of the file are kept; where it has none, they follow from the names, and a label map's
    values are called "label 1" and so on. Segments without a voxel are left out.

    Args:
        path: a `.seg.nrrd`, a label map, a DICOM SEG or RTSTRUCT, or a folder with one file a label; or a label map as an
            image of SimpleITK or nibabel, or as a pair (array (I, J, K), 4×4 affine index → RAS mm).
        geometry: the image's grid.
        resample: take the nearest voxel of labels on another grid, and cut off what lies outside of the image; `tell`
            receives what is lost. Otherwise these are errors.
        threshold: smallest value, 0…1, that belongs to a segment: of probability maps, which are refused without it, and
            of a fractional DICOM SEG, where it is 0.5 by default.
        tell: receives notes, such as what was left out; by default they become Python warnings.
        names: value → name of a label map; by default as its header or a file beside it says.

    Raises:
        InputError: if it can't be read, has no segment, or lies on another grid.
    """
    if not isinstance(path, str | os.PathLike):
        target = Target(geometry, resample, threshold, names or {}, tell or warnings.warn)
        image = image_from_object(path, modality="OT", name="label map", shown="the label map")
        return make_segmentation(read_label_image(image, target), target, IN_MEMORY)
    path = Path(os.fspath(path)).expanduser()
    if threshold is not None and not 0 < threshold <= 1:
        raise InputError(f"The threshold must be above 0 and at most 1, not {threshold:g}.")
    target = Target(geometry, resample, threshold, names or {}, tell or warnings.warn)
    with readable(path):
        check_path(path)
        found = _from_folder(path, target) if path.is_dir() else _from_file(path, target)
        return make_segmentation(found, target, f"'{path.name}'")


def _from_file(path: Path, target: Target):
    if path.name.lower().endswith(VOLUME_SUFFIXES):
        return read_label_volume(path, target)
    header = read_header(path)
    if header is None:
        raise InputError(f"'{path.name}' can't be read as a segmentation; {KINDS}")
    kind = header.text("SOPClassUID")
    if kind in SEGMENTATIONS:
        return read_dicom_segmentation(path, target)
    if kind == STRUCTURE_SET:
        return read_structure_set(path, target)
    raise InputError(
        f"'{path.name}' is a DICOM object of another kind ({header.text('Modality') or 'no modality'}); {KINDS}"
    )


def _from_folder(folder: Path, target: Target):
    """Return the segments of a folder: of its label maps, one after the other, or of its only DICOM object."""
    files = label_files_in(folder)
    if files:
        notes: list[str] = []
        quiet = replace(target, tell=notes.append)
        found = [item for file in files for item in read_label_volume(file, quiet, name_of_file(file))]
        for note in [
            *notes[:SHOWN],
            *([f"{len(notes) - SHOWN} further notes are like these."] if len(notes) > SHOWN else []),
        ]:
            target.tell(note)
        return found
    objects = [file for file in sorted(folder.iterdir()) if file.is_file() and _is_object(file)]
    if len(objects) == 1:
        return _from_file(objects[0], target)
    if objects:
        names = ", ".join(f"'{file.name}'" for file in objects[:5])
        raise InputError(f"'{folder.name}' has {len(objects)} DICOM segmentations ({names}); give one of them.")
    raise InputError(f"The folder '{folder.name}' has no segmentation; {KINDS}")


def _is_object(path: Path) -> bool:
    try:
        header = read_header(path)
    except InputError:
        return False
    return header is not None and header.text("SOPClassUID") in (*SEGMENTATIONS, STRUCTURE_SET)

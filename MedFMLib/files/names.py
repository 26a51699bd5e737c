"""Name files: which suffixes MedFM reads, and what results are called after an input. Reads nothing."""

from __future__ import annotations

import os
from pathlib import Path

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".img", ".mgh", ".mgz", ".mgh.gz")
"""Of volume files, in lower case."""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2", ".j2k", ".jpe")
"""Of picture files, in lower case."""

OTHER_FORMATS = (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES, ".json", ".txt", ".csv", ".pdf", ".md")
"""Of files beside DICOM files that are no part of a series."""

SEGMENTATION_SUFFIXES = (".seg.nrrd", ".seg.dcm", ".seg.nii", ".seg.nii.gz")
"""Of files that hold a segmentation by their name."""


def output_name(path: Path) -> str:
    """Return the base name for the results of an input: its file name, as it was typed, without the image suffixes.

    A link keeps its own name: what it points to in a store (git-annex, DVC) has a hash for a name.
    """
    name = os.path.basename(os.path.abspath(path))
    suffixes = (*SEGMENTATION_SUFFIXES, ".seq.nrrd", *VOLUME_SUFFIXES, *PICTURE_SUFFIXES, ".dcm", ".dicom", ".ima")
    for suffix in sorted(suffixes, key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name

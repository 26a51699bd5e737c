"""Write segmentations as label maps that other programs read, with the names of their values beside them.

`write_labels` makes one file of all segments and two tables: NAME.labels.txt, which ITK-SNAP reads ("Import label
descriptions"), and NAME.labels.json, in the form of nnU-Net's `labels`. `write_label_files` makes one file a segment, as
TotalSegmentator does. For 3D Slicer, `writing.write_segmentation` keeps overlaps, colours and codes.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..core.findings import Segmentation
from ..errors import InputError, OutputError
from .writing import make_folder, write_text, write_volume

LABEL_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Of label maps that can be written."""

SNAP_HEADING = """################################################
# ITK-SnAP Label Description File
# File format: 
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Where: 
#    IDX:   Zero-based index 
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    IDX:   Label mesh visibility (0 or 1)
#  LABEL:   Label description 
################################################
"""  # noqa: W291  # as ITK-SNAP writes it, spaces at the ends included

LONGEST = 100
"""Characters of a file's name; with suffix and folder it stays below what every file system takes."""


def label_stem(path: Path) -> str:
    """Return the name of a label map without its suffix.

    Raises:
        InputError: if its suffix is none of `LABEL_SUFFIXES`.
    """
    for suffix in LABEL_SUFFIXES:
        if path.name.lower().endswith(suffix) and len(path.name) > len(suffix):
            return path.name[: -len(suffix)]
    raise InputError(
        f"Labels can't be written to '{path.name}'; give a name that ends in {', '.join(LABEL_SUFFIXES)} or .seg.nrrd, or a "
        "folder."
    )


def unique_names(segmentation: Segmentation) -> list[str]:
    """Return the segments' names, each once: a second "lesion" becomes "lesion 2"."""
    made: list[str] = []
    taken = {"background"}
    for segment in segmentation.segments:
        plain = " ".join(segment.label.split()) or "segment"
        name, number = plain, 1
        while name.casefold() in taken:
            number += 1
            name = f"{plain} {number}"
        taken.add(name.casefold())
        made.append(name)
    return made


def write_labels(path: Path, segmentation: Segmentation, tell: Callable[[str], None] | None = None) -> list[Path]:
    """Write all segments as one label map with values 1, 2, …, in their order, and two tables of their names.

    Args:
        path: a file with one of `LABEL_SUFFIXES`, replaced if it exists.
        segmentation: the segments.
        tell: receives a sentence on voxels of two segments, which the later one gets; by default a Python warning.

    Returns:
        the label map, NAME.labels.txt and NAME.labels.json

    Raises:
        InputError: if the suffix is none of them, or there are more segments than a label map can hold.
        OutputError: if they can't be written.
    """
    stem, count = label_stem(path), len(segmentation.segments)
    if count > np.iinfo(np.uint16).max:
        raise InputError(f"A label map holds at most {np.iinfo(np.uint16).max} segments, not {count}.")
    values = np.zeros(segmentation.geometry.shape, np.uint8 if count <= 255 else np.uint16)
    names, twice, covered = unique_names(segmentation), 0, []
    for value, segment in enumerate(segmentation.segments, 1):
        part, inside = values[segment.boxed.box], segment.boxed.inside
        if over := int(np.count_nonzero(part[inside])):
            twice += over
            covered.append(names[value - 1])
        part[inside] = value
    if twice:
        (tell or warnings.warn)(
            f"'{path.name}' holds one label a voxel: {twice} voxels of several segments got the later one "
            f"({', '.join(covered[:5])}); a .seg.nrrd keeps all."
        )
    rows = [(0, (0, 0, 0), 0, 0, 0, "Clear Label")]
    for value, (segment, name) in enumerate(zip(segmentation.segments, names, strict=True), 1):
        rows.append(
            (value, tuple(min(255, max(0, round(255 * c))) for c in segment.color), 1, 1, 1, name.replace('"', "'"))
        )
    table = "".join(
        f'{n:5d} {r:5d} {g:4d} {b:4d} {a:8d} {v:2d} {m:2d}    "{name}"\n' for n, (r, g, b), a, v, m, name in rows
    )
    numbers = {"background": 0} | {name: value for value, name in enumerate(names, 1)}
    return [
        write_volume(path, values, segmentation.geometry),
        write_text(path.with_name(f"{stem}.labels.txt"), SNAP_HEADING + table),
        write_text(path.with_name(f"{stem}.labels.json"), json.dumps(numbers, indent=2, ensure_ascii=False)),
    ]


def write_label_files(folder: Path, segmentation: Segmentation) -> list[Path]:
    """Write one NIfTI file a segment, 1 inside, as TotalSegmentator names them: "left kidney" is kidney_left.nii.gz.

    Args:
        folder: created if needed; files of these names in it are replaced.
        segmentation: the segments.

    Returns:
        the files, in the order of the segments

    Raises:
        OutputError: if they can't be written.
    """
    if not segmentation.segments:
        raise OutputError("There is no segment to write; segment something first.")
    folder, taken, files = make_folder(folder), set(), []
    for segment, name in zip(segmentation.segments, unique_names(segmentation), strict=True):
        stem = plain = _file_name(name)
        number = 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{plain}_{number}"
        taken.add(stem.casefold())
        files.append(write_volume(folder / f"{stem}.nii.gz", segment.mask.astype(np.uint8), segmentation.geometry))
    return files


def _file_name(name: str) -> str:
    """Return a name for a file on any system: letters, digits, "-" and "_", the side last."""
    words = [word for word in re.split(r"[\W_]+", name) if word]
    if words and words[0].lower() in ("left", "right"):
        words = [*words[1:], words[0]]
    return "_".join(words)[:LONGEST] or "segment"

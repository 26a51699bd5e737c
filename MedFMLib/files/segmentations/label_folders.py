"""Know the layouts in which label files are stored, and the names that they give. Reads no voxels.

```
segmentations/kidney_left.nii.gz …     one file a label, as TotalSegmentator writes them beside ct.nii.gz
imagesTr/case_000_0000.nii.gz          nnU-Net: the last four digits are the number of a channel
labelsTr/case_000.nii.gz
images/NAME.nii.gz  labels/NAME.nii.gz
```
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...core.terminology import structure
from ..names import SEGMENTATION_SUFFIXES, VOLUME_SUFFIXES, output_name

PAIRED = (("images", "labels"), ("imagesTr", "labelsTr"), ("imagesTs", "labelsTs"))
"""Folders of images and of their labels, side by side."""

SEPARATE = "segmentations"
"""Folder with one file a label, beside its image; MedFM's own are called NAME-segmentations."""

CHANNEL = re.compile(r"_\d{4}$")


@dataclass(frozen=True)
class LabelledImage:
    """An image file and what labels it.

    Args:
        name: of the case, without the number of a channel.
        image: the image file.
        labels: a file or a folder with one file a label; None if there is none.
    """

    name: str
    image: Path
    labels: Path | None


def is_label_file(path: Path) -> bool:
    """Return whether a file holds labels, by its name and folder alone; a DICOM SEG is known by its header only.

    Args:
        path: a file; it need not exist.
    """
    if path.name.lower().endswith(SEGMENTATION_SUFFIXES):
        return True
    folder = path.parent
    for images, labels in PAIRED:
        if folder.name == labels and (labels != "labels" or (folder.parent / images).is_dir()):
            return True
    return folder.name.endswith(f"-{SEPARATE}") or (folder.name == SEPARATE and bool(volumes_in(folder.parent)))


def volumes_in(folder: Path) -> list[Path]:
    """Return the volume files directly in a folder, sorted, without hidden ones."""
    found = [path for path in folder.iterdir() if path.name.lower().endswith(VOLUME_SUFFIXES) and path.name[0] != "."]
    pairs = {path.with_suffix(".hdr").name.lower() for path in found if path.suffix.lower() == ".hdr"}
    return sorted(
        path for path in found
        if path.is_file() and not (path.suffix.lower() == ".img" and path.with_suffix(".hdr").name.lower() in pairs)
    )  # fmt: skip


def label_files_in(folder: Path) -> list[Path]:
    """Return the label maps of a folder with one file a label; of a case's folder, those in `segmentations` in it."""
    return volumes_in(folder / SEPARATE) if (folder / SEPARATE).is_dir() else volumes_in(folder)


def name_of_file(path: Path) -> str:
    """Return the label that a file's name means: "kidney_left.nii.gz" is "left kidney"."""
    name = output_name(path)
    known = structure(name)
    return known.label if known.code is not None else " ".join(name.replace("_", " ").split()) or name


def labelled_images(folder: Path) -> list[LabelledImage]:
    """Return the images of a folder with their labels, in any of the known layouts; none if it has none of them.

    Args:
        folder: with a pair of folders such as images and labels, or with a folder for each case that has an image and
            `segmentations`.
    """
    for images, labels in PAIRED:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return [_paired(file, folder / labels) for file in volumes_in(folder / images)]
    cases = [folder, *sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")]
    found = []
    for case in cases:
        if (case / SEPARATE).is_dir():
            files = [file for file in volumes_in(case) if not is_label_file(file)]
            found += [LabelledImage(case.name if len(files) == 1 else output_name(file), file, case / SEPARATE)
                      for file in files]  # fmt: skip
    return found


def _paired(image: Path, labels: Path) -> LabelledImage:
    name = output_name(image)
    for stem in (name, CHANNEL.sub("", name)):
        for suffix in (*SEGMENTATION_SUFFIXES, *VOLUME_SUFFIXES):
            if (file := labels / f"{stem}{suffix}").is_file():
                return LabelledImage(stem, image, file)
    return LabelledImage(name, image, None)

"""Write the result of `medfm segment` where -o says: into a folder, or as one file that other programs read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..core.request import Response
from ..errors import InputError
from ..files import write_segmentation, write_text
from ..files.label_maps import LABEL_SUFFIXES, label_stem, write_label_files, write_labels
from ..files.results import free_name
from .running import err, folder_at, summary

SLICER = ".seg.nrrd"

OTHER_FILES = (
    ".bmp", ".csv", ".dcm", ".gif", ".gz", ".hdr", ".html", ".img", ".jpeg", ".jpg", ".json", ".mgh", ".mgz", ".mhd", ".nhdr",
    ".npy", ".npz", ".obj", ".pdf", ".png", ".stl", ".tif", ".tiff", ".txt", ".vtk", ".webp", ".xml", ".zip",
)  # fmt: skip
"""Suffixes of files that hold no labels, or none that MedFM writes; any other name is a folder's."""


def note(text: str) -> None:
    """Print a note to stderr."""
    err.print(f"Note: {text}", style="yellow", highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class SegmentationOutput:
    """A folder or file for the segmentation of one image.

    Args:
        path: the folder, which exists, or the file.
        is_file: whether it is a file.
    """

    path: Path
    is_file: bool

    @classmethod
    def of(cls, output: Path, separate: bool = False) -> SegmentationOutput:
        """Check an -o before the run.

        Args:
            output: as it was given.
            separate: whether one file a label is wanted, which needs a folder.

        Raises:
            InputError: if its suffix is that of a file that can't hold labels.
            OutputError: if the folder can't be created.
        """
        output, lower = output.expanduser(), output.name.lower()
        if output.is_dir() or not lower.endswith((SLICER, *LABEL_SUFFIXES, *OTHER_FILES)):
            return cls(folder_at(output), False)
        if lower.endswith(".dcm"):
            raise InputError(
                f"'{output.name}' would be a DICOM object, which needs the image's study; give a folder, then run `medfm export`."
            )
        if not lower.endswith(SLICER):
            label_stem(output)
        if separate:
            raise InputError(f"One file a label needs a folder, not '{output.name}'; give one with -o.")
        folder_at(output.parent)
        return cls(output, True)

    def write(self, name: str, response: Response, separate: bool = False) -> list[Path]:
        """Write segments and measurements, and return the files.

        Args:
            name: of the image, which names the results in a folder.
            response: with a segmentation.
            separate: also write one NIfTI file a label.

        Raises:
            OutputError: if they can't be written.
        """
        segmentation, provenance = response.segmentation, response.provenance
        if self.is_file:
            folder = self.path.parent
            slicer = self.path.name.lower().endswith(SLICER)
            stem = self.path.name[: -len(SLICER)] if slicer else label_stem(self.path)
            if slicer:
                files = [write_segmentation(self.path, segmentation, provenance)]
            else:
                files = write_labels(self.path, segmentation, note)
        else:
            folder, stem = self.path, free_name(self.path, name, provenance.image, note)
            files = [write_segmentation(folder / f"{stem}{SLICER}", segmentation, provenance)]
        if separate and segmentation.segments:
            own = folder / f"{stem}-segmentations"
            parts = write_label_files(own, segmentation)
            files += parts
            if others := sorted(path.name for path in own.glob("*.nii.gz") if path not in parts):
                note(
                    f"'{own.name}' also has files of another run ({', '.join(others[:5])}); remove them if they are not wanted."
                )
        path = folder / f"{stem}.measurements.json"
        return [*files, write_text(path, json.dumps(summary(response, files), indent=2))]

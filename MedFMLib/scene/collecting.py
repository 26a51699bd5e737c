"""Collect a case of the scene for fine-tuning: its volume, the corrected segments, and the questions with answers.

`copy_case` copies what nodes contain, on the GUI thread; `CollectedCase.write` may run on another thread. The folder
has the
layout that `training.data` reads:

    images/NAME.nrrd   labels/NAME.seg.nrrd   patients.csv   questions.jsonl

NAME is derived from the voxels' digest. The user states the patient, by an identifier of the site.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..core.image import Image
from ..errors import InputError
from .reading import SegmentationCopy, copy_segmentation, read_image
from .writing import CONVERSATION, find

_SEEN = re.compile(r"(axial|coronal|sagittal) slice (\d+)")


@dataclass(frozen=True, eq=False)
class CollectedCase:
    """A case to be added to a data set.

    Args:
        image: the volume.
        segments: of one segmentation, or None.
        exchanges: (question, answer, plane, slice number).
    """

    image: Image
    segments: SegmentationCopy | None
    exchanges: tuple[tuple[str, str, str, int], ...]

    def write(self, folder: Path, patient: str) -> str:
        """Add the case to a folder, replacing an earlier version of it.

        Args:
            folder: root of the data set.
            patient: identifier of the patient; the same for all cases of one patient.

        Returns:
            The case's name in the folder.

        Raises:
            InputError: if the patient is not stated, or there is nothing to learn.
            OutputError: if it can't be written.
        """
        from ..files.writing import make_folder, write_segmentation, write_text, write_volume

        patient, folder = patient.strip(), Path(folder).expanduser()
        if not patient:
            raise InputError(
                "Enter an identifier for the patient, such as a number of your own; training and test need different patients."
            )
        if self.segments is None and not self.exchanges:
            raise InputError(
                "There is nothing to learn from this case yet; segment something or ask a question, and correct it."
            )
        name = f"case-{self.image.digest()[:12]}"
        for part in ("images", "labels"):
            make_folder(folder / part)
        write_volume(folder / "images" / f"{name}.nrrd", self.image.scalars, self.image.geometry)
        if self.segments is not None:
            write_segmentation(folder / "labels" / f"{name}.seg.nrrd", self.segments.on(self.image.geometry))
        rows = {row["name"]: row["patient"] for row in _rows(folder / "patients.csv")} | {name: patient}
        text = "name,patient\n" + "".join(f"{_cell(key)},{_cell(value)}\n" for key, value in sorted(rows.items()))
        write_text(folder / "patients.csv", text)
        image = f"images/{name}.nrrd"
        lines = [line for line in _lines(folder / "questions.jsonl") if line.get("image") != image]
        lines += [
            {"image": image, "question": question, "answer": answer, "patient": patient, "plane": plane, "slice": number,
             "modality": self.image.modality, "origin": "collected"}
            for question, answer, plane, number in self.exchanges
        ]  # fmt: skip
        write_text(folder / "questions.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        return name


def copy_case(scene, volume, segmentation=None) -> CollectedCase:
    """Copy what the scene contains of a case.

    Args:
        scene: the MRML scene.
        volume: its volume node.
        segmentation: node with corrected segments; by default MedFM's newest segmentation of the volume.

    Raises:
        InputError: if the volume can't be used.
    """
    image = read_image(volume)
    segmentation = segmentation or find(scene, volume, "segmentation")
    segments = copy_segmentation(segmentation) if segmentation is not None else None
    return CollectedCase(
        image, segments if segments is not None and segments.parts else None, _exchanges(scene, volume)
    )


def _exchanges(scene, volume) -> tuple[tuple[str, str, str, int], ...]:
    """Return the rows of the volume's conversation table that have an answer and a slice, including the user's corrections."""
    table, found = find(scene, volume, CONVERSATION), []
    for row in range(table.GetNumberOfRows() if table is not None else 0):
        question, answer, seen = (table.GetCellText(row, column).strip() for column in range(3))
        places = _SEEN.findall(seen)
        if question and answer and places:
            plane, number = places[len(places) // 2]
            found.append((question, answer, plane, int(number)))
    return tuple(found)


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _lines(path: Path) -> list[dict]:
    return (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line] if path.is_file() else []
    )


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if re.search(r'[",\n]', text) else text

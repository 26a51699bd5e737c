"""Read a folder of volumes with labelmaps: slices, and questions whose answers follow from the labels.

    images/NAME.nii.gz   labels/NAME.nii.gz   (or NAME.seg.nrrd, a DICOM SEG)
    imagesTr/NAME_0000.nii.gz   labelsTr/NAME.nii.gz   nnU-Net: each channel is an image with the same labels
    CASE/ct.nii.gz   CASE/segmentations/liver.nii.gz   TotalSegmentator: one file a label
    labels.json          {"1": "liver", …}, or dataset.json of nnU-Net or a Decathlon; other files contain their names
    patients.csv         name, patient: if one patient has several volumes; otherwise each volume is a patient

Only questions that the labels answer are asked: what is visible, which of two is larger, where something is.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ...core.geometry import PLANES
from ...core.view import display_axes, display_slice
from ...errors import InputError
from ...files.names import output_name
from ...files.segmentations import labelled_images, read_segmentation
from ...files.segmentations.label_names import names_from_json
from .pictures import read_volume, slice_loader, squared
from .samples import PlacedStructure, QuestionPair, ReaderResult, SourcePicture

CLEARLY = 1.5
"""Smallest ratio of pixels at which a structure is called larger."""
LEAST_PIXELS = 12
Names = tuple[tuple[int, str], ...]
MARGIN = 0.12
"""Fraction of the labelled extent by which slices may lie outside of it, so that some show no structure."""


def is_labelled(folder: Path) -> bool:
    """Return whether a folder has volumes with labels in one of the known layouts."""
    return bool(labelled_images(folder))


def read(
    folder: Path, names: dict[int, str] | None = None, slices: int = 6, modality: str = "", organ: str = "",
    resample: bool = False, tell: Callable[[str], None] = lambda note: None, frame: int | None = None,
) -> ReaderResult:  # fmt: skip
    """Return the pictures and pairs.

    Args:
        folder: see the module's docstring.
        names: label value → name; by default from the folder's files.
        slices: number per volume and plane.
        modality: of all volumes, where files don't state it.
        organ: of all volumes, where files don't state it.
        resample: take labels on another grid by resampling them; otherwise those volumes are problems.
        tell: receives notes, such as what resampling lost.
        frame: which volume of a 4D file, from 0.

    Raises:
        InputError: if the labels have no names.
    """
    found, patients = ReaderResult("volumes"), _patients(folder)
    given = names or _names(folder / "labels.json")
    listed = given or _names(folder / "dataset.json")  # which the label files' reader knows, too
    pairs = labelled_images(folder)
    shared = Counter(pair.name for pair in pairs)
    for pair in pairs:
        file, label_file = pair.image, pair.labels
        name = output_name(file) if shared[pair.name] > 1 else pair.name
        if label_file is None:
            found.problem("missing labels", file.name)
            continue
        asked = (file, label_file, modality, tuple(given.items()), tuple(listed.items()), resample, frame)
        try:
            image, known, values = _labelled(*asked, tell=tell)
        except InputError as error:
            found.problem("unreadable picture", file.name, error)
            continue
        for plane in PLANES:
            for number in _chosen(values, image.geometry.index_axis(plane), slices):
                key = f"{name}#{plane}#{number}"
                load = partial(_labelled_values, *asked)
                found.pictures.append(
                    SourcePicture(key, patients.get(pair.name, patients.get(name, pair.name)),
                            slice_loader(partial(read_volume, file, modality, frame), plane, number, load),
                            image.modality, plane, organ)
                )  # fmt: skip
                drawn = display_slice(values, image.geometry, plane, number)
                rows, columns = display_axes(image.geometry, plane)
                spacing = tuple(float(image.geometry.spacing[axis[0]]) for axis in (rows, columns))
                found.pairs += label_pairs(key, drawn, known, spacing)
    found.counts = {"volumes": len(pairs), "images": len(found.pictures), "descriptions": len(found.pairs),
                    "patients": len({p.patient for p in found.pictures})}  # fmt: skip
    return found


def _labelled(*asked, tell: Callable[[str], None] = lambda note: None):
    """Return (image, value → name, (I, J, K) uint8 values); see `_read`."""
    image, known, values, notes = _read(*asked)
    for note in notes:
        tell(note)
    return image, known, values


@lru_cache(maxsize=2)
def _read(file: Path, label_file: Path, modality: str, given: Names, listed: Names, resample: bool, frame: int | None):
    """Return (image, value → name, (I, J, K) uint8 values, notes); the last ones are cached, as slices are read in order.

    Args:
        file: the image.
        label_file: its labels, a file or folder.
        modality: overrides that of the file; "" for none.
        given: names that win over those of the file.
        listed: names of structures that are asked about, whether this volume has them or not.
        resample: see `read_segmentation`.
        frame: which volume of a 4D image, from 0.
    """
    notes: list[str] = []
    image = read_volume(file, modality, frame)
    segmentation = read_segmentation(
        label_file, image.geometry, resample=resample, tell=notes.append, names=dict(given)
    )
    values, known = np.zeros(image.geometry.shape, np.uint8), dict(listed)
    for segment in segmentation.segments:
        plain = segment.label.removeprefix("label ")
        if plain.isdigit():
            raise InputError(
                f"Label {plain} of '{label_file.name}' has no name; give it with --label {plain}=NAME, or in labels.json."
            )
        value = _value_of(segment.label, known)
        known[value] = segment.label
        values[segment.boxed.box][segment.boxed.inside] = value
    return image, known, values, tuple(notes)


def _value_of(name: str, names: dict[int, str]) -> int:
    """Return the value that has a name, or the first free one; two segments of one name are one structure."""
    found = next((value for value, other in names.items() if other == name), None)
    value = found or next(value for value in range(1, len(names) + 2) if value not in names)
    if value > np.iinfo(np.uint8).max:
        raise InputError("A data set holds at most 255 structures a volume; leave some out, or split the data.")
    return value


def _labelled_values(*where) -> np.ndarray:
    return _labelled(*where)[2]


def _chosen(values: np.ndarray, axis: int, count: int) -> list[int]:
    """Return slice numbers, evenly over the labelled extent and slightly beyond."""
    inside = np.flatnonzero(values.any(tuple(n for n in range(3) if n != axis)))
    if not len(inside):
        return []
    margin = MARGIN * (inside[-1] - inside[0] + 1)
    first, last = max(0, inside[0] - margin), min(values.shape[axis] - 1, inside[-1] + margin)
    return sorted({round(float(n)) for n in np.linspace(first, last, count)})


def label_pairs(key: str, drawn: np.ndarray, names: dict[int, str], spacing: tuple[float, float]) -> list[QuestionPair]:
    """Return the questions about a label picture.

    Args:
        key: of the picture.
        drawn: (H, W) label values.
        names: value → name.
        spacing: mm between rows and between columns.
    """
    pixels = {name: int((drawn == value).sum()) for value, name in names.items()}
    visible = [name for name, count in pixels.items() if count >= LEAST_PIXELS]
    certain = {name: count >= LEAST_PIXELS for name, count in pixels.items() if count == 0 or count >= LEAST_PIXELS}
    pairs = [QuestionPair(key, f"is the {name} visible?", "yes" if seen else "no", "presence", origin="rule")
             for name, seen in certain.items()]  # fmt: skip
    for number, one in enumerate(visible):
        for other in visible[number + 1 :]:
            larger, smaller = sorted((one, other), key=lambda name: -pixels[name])
            if pixels[larger] >= CLEARLY * pixels[smaller]:
                question = f"which looks larger in this image, the {one} or the {other}?"
                pairs.append(QuestionPair(key, question, larger, "comparison", origin="rule"))
    if len(names) > 1 and len(certain) == len(names) and len(names) <= 4:
        listed = " or the ".join(names.values())
        answer = ", ".join(visible) if visible else "none"
        pairs.append(QuestionPair(key, f"what is visible, the {listed}?", answer, "visible structures", origin="rule"))
    placed = tuple(PlacedStructure(name, value, squared(drawn == value, spacing))
                   for value, name in names.items() if name in visible)  # fmt: skip
    if names:
        asked = " ; ".join(names.values())
        pairs.append(QuestionPair(key, asked, "", "boxes", "boxes", placed, "rule"))
        pairs.append(QuestionPair(key, asked, "", "masks", "masks", placed, "rule"))
    return pairs


def _names(file: Path) -> dict[int, str]:
    """Return value → name as a JSON file says; {} without one. Regions of several values have no value of their own."""
    if not file.is_file():
        return {}
    return {item.values[0]: item.name for item in names_from_json(file) if len(item.values) == 1}


def _patients(folder: Path) -> dict[str, str]:
    if not (folder / "patients.csv").is_file():
        return {}
    with (folder / "patients.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if rows and not {"name", "patient"} <= set(rows[0]):
        raise InputError("patients.csv needs the columns name and patient.")
    return {output_name(Path(row["name"])): row["patient"] for row in rows}

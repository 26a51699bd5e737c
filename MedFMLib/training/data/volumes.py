"""Read a folder of volumes with labelmaps: slices, and questions whose answers follow from the labels.

    images/NAME.nii.gz   labels/NAME.nii.gz   (or imagesTr, labelsTr; or NAME.seg.nrrd among the labels)
    labels.json          {"1": "liver", …}, or a Decathlon's dataset.json; `.seg.nrrd` contain their segments' names
    patients.csv         name, patient: if one patient has several volumes; otherwise each volume is a patient

Only questions that the labels answer are asked: what is visible, which of two is larger, where something is.
"""

from __future__ import annotations

import csv
import json
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from ...core.geometry import PLANES
from ...core.view import display_axes, display_slice
from ...errors import InputError
from ...files.names import VOLUME_SUFFIXES, output_name
from .pictures import read_volume, slice_loader, squared
from .samples import PlacedStructure, QuestionPair, ReaderResult, SourcePicture

FOLDERS = (("images", "labels"), ("imagesTr", "labelsTr"))
CLEARLY = 1.5
"""Smallest ratio of pixels at which a structure is called larger."""
LEAST_PIXELS = 12
MARGIN = 0.12
"""Fraction of the labelled extent by which slices may lie outside of it, so that some show no structure."""


def folders_in(folder: Path) -> tuple[Path, Path] | None:
    """Return (images, labels), or None if the folder has another layout."""
    for images, labels in FOLDERS:
        if (folder / images).is_dir() and (folder / labels).is_dir():
            return folder / images, folder / labels
    return None


def read(
    folder: Path, names: dict[int, str] | None = None, slices: int = 6, modality: str = "", organ: str = ""
) -> ReaderResult:
    """Return the pictures and pairs.

    Args:
        folder: see the module's docstring.
        names: label value → name; by default from the folder's files.
        slices: number per volume and plane.
        modality: of all volumes, where files don't state it.
        organ: of all volumes, where files don't state it.

    Raises:
        InputError: if the labels have no names.
    """
    images, labels = folders_in(folder)
    found, patients = ReaderResult("volumes"), _patients(folder)
    names = names or _names(folder)
    files = sorted(p for p in images.iterdir() if p.name.lower().endswith(VOLUME_SUFFIXES) and p.name[0] != ".")
    for file in files:
        name = output_name(file)
        label_file = next((p for p in (labels / file.name, labels / f"{name}.seg.nrrd") if p.is_file()), None)
        if label_file is None:
            found.problem("missing labels", file.name)
            continue
        try:
            image, known, values = _labelled(file, label_file, modality, tuple(sorted((names or {}).items())))
        except InputError as error:
            found.problem("unreadable picture", file.name, error)
            continue
        for plane in PLANES:
            for number in _chosen(values, image.geometry.index_axis(plane), slices):
                key = f"{name}#{plane}#{number}"
                load = partial(_labelled_values, file, label_file, modality, tuple(sorted((names or {}).items())))
                found.pictures.append(
                    SourcePicture(key, patients.get(name, name),
                            slice_loader(partial(read_volume, file, modality), plane, number, load),
                            image.modality, plane, organ)
                )  # fmt: skip
                drawn = display_slice(values, image.geometry, plane, number)
                rows, columns = display_axes(image.geometry, plane)
                spacing = tuple(float(image.geometry.spacing[axis[0]]) for axis in (rows, columns))
                found.pairs += label_pairs(key, drawn, known, spacing)
    found.counts = {"volumes": len(files), "images": len(found.pictures), "descriptions": len(found.pairs),
                    "patients": len({p.patient for p in found.pictures})}  # fmt: skip
    return found


@lru_cache(maxsize=2)
def _labelled(file: Path, label_file: Path, modality: str, names: tuple[tuple[int, str], ...]):
    """Return (image, value → name, (I, J, K) uint8 values)."""
    from ...files.segmentations import read_segmentation

    image = read_volume(file, modality)
    segmentation = read_segmentation(label_file, image.geometry)
    values, known = np.zeros(image.geometry.shape, np.uint8), {}
    for number, segment in enumerate(segmentation.segments, 1):
        plain = segment.label.removeprefix("label ")
        value = int(plain) if plain.isdigit() else number
        if plain.isdigit() and value not in dict(names):
            raise InputError(
                f"Label {value} of '{label_file.name}' has no name; give it with --label {value}=NAME, or in labels.json."
            )
        known[value] = dict(names)[value] if plain.isdigit() else segment.label
        values[np.asarray(segment.mask)] = value
    return image, dict(names) | known, values


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


def _names(folder: Path) -> dict[int, str]:
    for file in ("labels.json", "dataset.json"):
        if (folder / file).is_file():
            try:
                content = json.loads((folder / file).read_text(encoding="utf-8"))
                content = content.get("labels", content)
                pairs = [(k, v) if str(k).isdigit() else (v, k) for k, v in content.items()]
                return {int(value): str(name) for value, name in pairs if int(value)}
            except (ValueError, TypeError, AttributeError) as error:
                raise InputError(f'{file} must map label values to names, as {{"1": "liver"}} ({error}).') from error
    return {}


def _patients(folder: Path) -> dict[str, str]:
    if not (folder / "patients.csv").is_file():
        return {}
    with (folder / "patients.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    if rows and not {"name", "patient"} <= set(rows[0]):
        raise InputError("patients.csv needs the columns name and patient.")
    return {output_name(Path(row["name"])): row["patient"] for row in rows}

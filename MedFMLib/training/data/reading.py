"""Choose the reader for a path. Knows the readers; no formats."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import InputError
from . import medpix, tables, volumes, vqa
from .samples import ReaderResult


@dataclass(frozen=True)
class ReaderChoices:
    """The user's options for the files.

    Args:
        images: folder of the pictures, if they are not next to the file.
        labels: value → name, for labelmaps.
        slices: number per volume and plane.
        modality: of all pictures, where files don't state it.
        organ: of all pictures, where files don't state it.
        categories: kinds of question to ask; all if empty.
        resample: take labels that lie on another grid than their volume by resampling them.
        tell: receives notes on how labels were read.
        frame: which volume of 4D files, from 0.
    """

    images: Path | None = None
    labels: dict[int, str] = field(default_factory=dict)
    slices: int = 6
    modality: str = ""
    organ: str = ""
    categories: tuple[str, ...] = ()
    resample: bool = False
    tell: Callable[[str], None] = lambda note: None
    frame: int | None = None


def read(path: Path, choices: ReaderChoices = ReaderChoices()) -> ReaderResult:
    """Return all pictures and pairs of a path.

    Args:
        path: file or folder.
        choices: the user's options.

    Raises:
        InputError: if nothing is there, or its format is unknown.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise InputError(f"There is no file or folder '{path}'; check the path.")
    if path.is_dir():
        found = _folder(path, choices)
    elif path.suffix.lower() == ".csv":
        found = tables.read(path)
    elif path.suffix.lower() in (".json", ".jsonl"):
        found = vqa.read(path, choices.images) if vqa.kind_of(path) else tables.read(path)
    else:
        raise InputError(f"'{path.name}' is not a JSON, JSON lines or CSV file; give one, or a folder.")
    if choices.categories:
        known = {pair.category for pair in found.pairs}
        if unknown := sorted(set(choices.categories) - known - set(medpix.QUESTIONS)):
            raise InputError(
                f"There are no questions of the kind {', '.join(unknown)}; the kinds are {', '.join(known)}."
            )
        found.pairs = [pair for pair in found.pairs if pair.category in choices.categories]
        asked = {pair.picture for pair in found.pairs}
        found.pictures = [picture for picture in found.pictures if picture.key in asked]
    return found


def _folder(path: Path, choices: ReaderChoices) -> ReaderResult:
    if medpix.is_medpix(path):
        return medpix.read(path, choices.categories)
    found = []
    if volumes.is_labelled(path):
        labelled = volumes.read(
            path,
            choices.labels,
            choices.slices,
            choices.modality,
            choices.organ,
            choices.resample,
            choices.tell,
            choices.frame,
        )
        found.append(labelled)
    table = next((path / name for name in ("questions.jsonl", "questions.csv") if (path / name).is_file()), None)
    if table is not None:
        found.append(tables.read(table))
    if found:
        return found[0] if len(found) == 1 else _joined(*found)
    raise InputError(
        f"'{path.name}' has no known format: MedPix 2.0 (Descriptions.json), volumes (images/ and labels/, imagesTr/ and "
        "labelsTr/, or segmentations/ beside each image), or cases collected in MedFM (questions.jsonl)."
    )


def _joined(one: ReaderResult, other: ReaderResult) -> ReaderResult:
    """Join volumes with labels and questions about their slices, as in cases collected from a scene."""
    patients = {picture.patient for picture in (*one.pictures, *other.pictures)}
    counts = {name: one.counts.get(name, 0) + other.counts.get(name, 0) for name in {**one.counts, **other.counts}}
    return ReaderResult(
        f"{one.source} and {other.source}", one.pictures + other.pictures, one.pairs + other.pairs,
        one.problems + other.problems, counts | {"patients": len(patients)}, one.empty | other.empty,
    )  # fmt: skip

"""Find the cases of a batch: volumes in a folder, DICOM studies by their tags, rows of a CSV. Knows files, no models.

A case's id is the name of its file, unless that is a DICOM identifier; DICOM cases are named by a hash of their UIDs.
Neither a patient's name nor an ID is read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

from ..core.image import MODALITIES, Image
from ..errors import InputError
from ..files import output_name, read_image
from ..files.dicom.headers import Header, read_header
from ..files.dicom.series import PROJECTIONS, Series, group_series
from ..files.names import PICTURE_SUFFIXES, VOLUME_SUFFIXES
from ..files.presence import fetched_by, start_of
from ..files.segmentations import is_label_file
from ..files.segmentations.dicom_segmentations import SEGMENTATIONS
from .plan import SCENES, BatchCase, CaseIds, CaseOptions, TaskStep, step_from

LARGEST, ALL = "largest", "all"
OTHER_FILES = (
    ".csv",
    ".json",
    ".txt",
    ".html",
    ".sqlite",
    ".pdf",
    ".zip",
    ".bval",
    ".bvec",
    ".xml",
    ".raw",
)
"""Suffixes of files that are never read as DICOM."""

Tell = Callable[[str], None]

LeaveOut = Callable[[Path], bool]
"""Called with each file before its header is read; True makes it a case of its own that is not looked at."""


@dataclass(frozen=True)
class SeriesChoice:
    """Selection of series in DICOM studies, and options for reading volumes.

    Args:
        series: "largest" (of each study, the one with most images), "all", or a UID or words of the description.
        modality: selects series of this modality only; for other files, overrides the guess.
        frame: see `read_image`; -1 for none.

    Raises:
        InputError: if the modality is unknown.
    """

    series: str = LARGEST
    modality: str = ""
    frame: int = -1

    def __post_init__(self) -> None:
        if self.modality and self.modality not in MODALITIES:
            raise InputError(f"Unknown modality '{self.modality}'; choose one of {', '.join(MODALITIES)}.")


def find(
    path: Path,
    steps: tuple[TaskStep, ...],
    options: CaseOptions,
    pick: SeriesChoice,
    tell: Tell = print,
    leave_out: LeaveOut = lambda file: False,
) -> list[BatchCase]:
    """Return the cases of a folder, a CSV or one file, in a fixed order.

    Args:
        path: the folder, CSV or file.
        steps: tasks of each case.
        options: of each case.
        pick: which series, and how to read volumes.
        tell: receives sentences about skipped files.
        leave_out: see `LeaveOut`.

    Raises:
        InputError: if there is nothing to do, or the CSV has invalid content.
    """
    path = Path(os.path.abspath(path.expanduser()))
    if not path.exists():
        raise InputError(f"There is no file or folder '{path}'; check the path.")
    if path.suffix.lower() == ".csv":
        return from_csv(path, steps, options, pick)
    if not steps:
        raise InputError("No task is given; add --task segment, --task report or --task 'ask:QUESTION'.")
    plain = BatchCase("", "", steps, options, modality=pick.modality, frame=pick.frame)
    if path.is_file():
        return [replace(plain, id=CaseIds().give(output_name(path), path.name), source=str(path))]
    cases = from_folder(path, plain, pick, tell, leave_out)
    if not cases:
        raise InputError(
            f"'{path}' has no volume or picture (NIfTI, NRRD, MHA, DICOM, PNG, JPEG); give another folder, or a CSV of cases."
        )
    return cases


def from_folder(
    folder: Path, plain: BatchCase, pick: SeriesChoice, tell: Tell, leave_out: LeaveOut = lambda file: False
) -> list[BatchCase]:
    """Return one case for each volume file, then for each chosen DICOM series, of a folder with its subfolders.

    A folder without either has one case for each picture file.

    Args:
        folder: the folder.
        plain: a case with tasks and options for all.
        pick: which series, and how to read volumes.
        tell: receives sentences about skipped files.
        leave_out: see `LeaveOut`.
    """
    volumes, pictures, others, left = [], [], [], 0
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_dir() or any(part.startswith(".") for part in parts):
            continue
        lower = path.name.lower()
        if is_label_file(path):
            left += 1
        elif lower.endswith(VOLUME_SUFFIXES):
            volumes.append(path)
        elif lower.endswith(PICTURE_SUFFIXES):
            pictures.append(path)
        elif not lower.endswith((*OTHER_FILES, *SCENES)) and path.name != "DICOMDIR":
            others.append(path)
    if left:
        many = "s were" if left > 1 else " was"
        tell(f"{left} segmentation{many} skipped (.seg.nrrd, .seg.dcm, and label maps in folders such as labelsTr).")
    names = CaseIds()

    def of_files(paths: list[Path]) -> list[BatchCase]:
        return [
            replace(plain, id=names.give(output_name(path), path.relative_to(folder).as_posix()), source=str(path))
            for path in paths
        ]

    cases = of_files(volumes) + from_dicom(others, names, plain, pick, tell, leave_out)
    if pictures and cases:  # previews and screenshots lie beside volumes
        many = "s were" if len(pictures) > 1 else " was"
        tell(
            f"{len(pictures)} picture file{many} skipped, since the folder has volumes; list them in a CSV to include them."
        )
        return cases
    return cases or of_files(pictures)


# -- DICOM -------------------------------------------------------------------------------------------------


def from_dicom(
    files: list[Path],
    names: CaseIds,
    plain: BatchCase,
    pick: SeriesChoice,
    tell: Tell,
    leave_out: LeaveOut = lambda file: False,
) -> list[BatchCase]:
    """Return one case for each chosen series of DICOM files, and one for each damaged file, whose row says what is wrong.

    Args:
        files: in any folders.
        names: gives ids to cases.
        plain: a case with tasks and options for all.
        pick: which series, and how to read volumes.
        tell: receives sentences about skipped files.
        leave_out: see `LeaveOut`.
    """
    headers: list[Header] = []
    damaged: list[Path] = []
    for path in files:
        if not path.is_file():
            if path.is_symlink():
                damaged.append(path)  # to a file in a store that isn't here
            continue
        if leave_out(path):
            damaged.append(path)
            continue
        try:
            header = read_header(path)
        except InputError:
            damaged.append(path)
            continue
        if header is not None:
            headers.append(header)
    segmentations = sum(header.text("SOPClassUID") in SEGMENTATIONS for header in headers)
    if damaged and headers:
        many = "s can't be read: each is" if len(damaged) > 1 else " can't be read: it is"
        tell(f"{len(damaged)} DICOM file{many} a case of its own, and series may lack slices.")
    if segmentations:
        tell(f"{segmentations} DICOM segmentation{'s were' if segmentations > 1 else ' was'} skipped.")
    studies: dict[str, list[Series]] = defaultdict(list)
    for one in group_series(headers):
        studies[one.first.text("StudyInstanceUID") or one.uid].append(one)
    cases = []
    for study, series in sorted(studies.items()):
        for some in _chosen(series, pick):
            paths = [header.path for one in some for header in one.headers]
            root = Path(os.path.commonpath([path.parent for path in paths]))
            unique = f"{study} {some[0].uid}" if len(some) == 1 else study
            cases.append(
                replace(
                    plain, id=names.give("", unique), source=str(root), modality="",
                    files=tuple(path.relative_to(root).as_posix() for path in paths),
                )
            )  # fmt: skip
    if studies and not cases:
        tell(f"None of the {sum(map(len, studies.values()))} DICOM series matches --series and --modality.")
    return cases + _unreadable(damaged, names, plain)


def _unreadable(files: list[Path], names: CaseIds, plain: BatchCase) -> list[BatchCase]:
    """Return a case for each damaged file, and one for all pointers of a folder to files in a store."""
    cases, seen = [], set()
    for path in files:
        pointer = not path.exists() or (os.access(path, os.R_OK) and bool(fetched_by(start_of(path))))
        if pointer and path.parent in seen:
            continue
        seen |= {path.parent} if pointer else set()
        cases.append(replace(plain, id=names.give("", str(path)), source=str(path), modality=""))
    return cases


def _chosen(series: list[Series], pick: SeriesChoice) -> list[list[Series]]:
    """Return the chosen series of one study, one list for each case: the views of a radiograph belong together."""
    kept = series
    if pick.modality:
        kept = [one for one in kept if pick.modality in (one.modality, PROJECTIONS.get(one.modality))]
    if pick.series not in (LARGEST, ALL):
        words = pick.series.casefold()
        return [
            [one] for one in kept if one.uid == pick.series or words in one.first.text("SeriesDescription").casefold()
        ]
    if pick.series == ALL:
        return [[one] for one in kept]
    if kept and all(one.pictures for one in kept):
        return [kept]
    return [[one] for one in kept if not one.pictures][:1] or [[one] for one in kept[:1]]


# -- CSV ---------------------------------------------------------------------------------------------------

COLUMNS = ("case", "image", "task", "question", "modality", "frame", "series", *(f.name for f in fields(CaseOptions)))


def from_csv(path: Path, steps: tuple[TaskStep, ...], options: CaseOptions, pick: SeriesChoice) -> list[BatchCase]:
    """Return the cases of a CSV; rows with the same case and image are further tasks of one case.

    Columns: `image` (relative to the CSV), and optionally `case`, `task`, `question`, `modality`, `frame`, `series` (a
    number or
    UID, for a DICOM folder) and any of `CaseOptions`; several labels are separated by semicolons. An empty cell takes
    the value
    of the command.

    Args:
        path: the CSV file, UTF-8.
        steps: tasks of rows without one.
        options: of rows without their own.
        pick: which series, and how to read volumes.

    Raises:
        InputError: an unknown column, a missing image, or an invalid value, with its line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            text = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"'{path.name}' can't be read as UTF-8 text ({error}); save it as CSV UTF-8.") from error
    first = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=";" if first.count(";") > first.count(",") else ",", strict=True
    )
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    if unknown := [name for name in columns if name not in COLUMNS]:
        raise InputError(
            f"'{path.name}' has the column '{unknown[0]}', which is unknown; the columns are {', '.join(COLUMNS)}."
        )
    if "image" not in columns:
        raise InputError(f"'{path.name}' has no column 'image'; its first line must name the columns.")
    names, cases = CaseIds(), {}
    try:
        for row in reader:
            line = reader.line_num
            if None in row:
                raise InputError(
                    f"Line {line} of '{path.name}' has more cells than columns; put texts with commas in quotes."
                )
            row = {key: (value or "").strip() for key, value in row.items()}
            if not any(row.values()):
                continue
            try:
                _add(cases, names, row, path, steps, options, pick)
            except (InputError, ValueError) as error:
                raise InputError(f"Line {line} of '{path.name}': {error}") from error
    except csv.Error as error:
        raise InputError(f"Line {reader.line_num} of '{path.name}' is no CSV ({error}); save it again.") from error
    if not cases:
        raise InputError(f"'{path.name}' has no row with a case.")
    return list(cases.values())


def _add(cases: dict, names: CaseIds, row: dict, path: Path, steps, options: CaseOptions, pick: SeriesChoice) -> None:
    if not row["image"]:
        raise InputError("there is no image.")
    source = os.path.abspath(path.parent / Path(row["image"]).expanduser())
    asked = row.get("task", "") + (f":{row['question']}" if row.get("question") else "")
    asked = f"ask{asked}" if asked.startswith(":") else asked
    mine = (step_from(asked),) if asked else steps
    if not mine:
        raise InputError("there is no task; add a column 'task', or give --task.")
    given = {f.name: _typed(f.type, row[f.name]) for f in fields(CaseOptions) if row.get(f.name)}
    frame = int(row["frame"]) if row.get("frame") else pick.frame
    modality = SeriesChoice(modality=row.get("modality", "").upper()).modality or pick.modality
    series = row.get("series", "") or (pick.series if pick.series not in (LARGEST, ALL) else "")
    case = BatchCase("", source, mine, replace(options, **given), modality=modality, frame=frame, series=series)
    key = (row.get("case", ""), source, series)
    if key not in cases:
        unique = f"{key[0]} {row['image']} {series}"
        cases[key] = replace(case, id=names.give(key[0] or output_name(Path(row["image"])), unique))
        return
    before = cases[key]
    new = tuple(step for step in mine if step not in before.steps)
    if replace(case, id=before.id, steps=()) != replace(before, steps=()):
        raise InputError(
            f"the case '{before.id}' has other settings in another line; give the cases different names in 'case'."
        )
    cases[key] = replace(before, steps=before.steps + new)


def _typed(kind: str, text: str):
    """Convert a cell to the type of the `CaseOptions` field."""
    if kind == "bool":
        if text.casefold() not in ("yes", "no", "true", "false", "1", "0"):
            raise InputError(f"'{text}' is neither yes nor no.")
        return text.casefold() in ("yes", "true", "1")
    if kind == "int":
        return int(text)
    if kind.startswith("tuple"):
        return tuple(part.strip() for part in text.split(";") if part.strip())
    return text


# -- reading -------------------------------------------------------------------------------------------------


def read(case: BatchCase) -> Image:
    """Read the volume of a case.

    Raises:
        InputError: if it can't be read; the message names the case, not folders of DICOM files.
    """
    path, frame = Path(case.source), None if case.frame < 0 else case.frame
    if not case.files:
        return read_image(path, modality=case.modality, frame=frame, series=case.series)
    from ..files.dicom import read_dicom

    try:
        return read_dicom(path, modality=case.modality, frame=frame, files=[path / name for name in case.files])
    except InputError as error:
        raise InputError(str(error).replace(f"'{path.name}'", f"'{case.id}'")) from error


def stamp(case: BatchCase) -> str:
    """Return a fast hash of the names, sizes and times of a case's files; "" if one is missing."""
    if not case.source:
        return ""  # a scene in memory has no files
    path, sha = Path(case.source), hashlib.sha256()
    files = [path / name for name in case.files] or ([path] if path.is_file() else sorted(path.rglob("*")))
    try:
        for file in files:
            if file.is_file():
                facts = file.stat()
                sha.update(f"{file.relative_to(path)} {facts.st_size} {facts.st_mtime_ns}\n".encode())
            elif not file.exists():
                return ""
    except OSError:
        return ""
    return sha.hexdigest() if files else ""

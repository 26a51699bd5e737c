"""Read a site's own CSV or JSON lines: one question about one picture or slice per line.

    image, question, answer, patient            required
    split, category, modality, plane, organ     optional
    slice                                       with plane, if the image is a volume: its number along that plane
    origin                                      "person" for answers given by a user of MedFM

`image` is a path relative to the file. `patient` is required, because the split must not separate pictures of one
patient.
"""

from __future__ import annotations

import csv
import io
from functools import partial
from pathlib import Path
from typing import Any

from ...core.geometry import PLANES
from ...errors import InputError
from ...files.names import VOLUME_SUFFIXES
from .pictures import read_picture, read_volume, slice_loader
from .samples import SPLITS, QuestionPair, ReaderResult, SourcePicture
from .texts import clean, decoded, entries

NEEDED = ("image", "question", "answer", "patient")
SPLIT_WORDS = {"val": "validation", "dev": "validation", "valid": "validation"} | {name: name for name in SPLITS}


def read(path: Path) -> ReaderResult:
    """Return the pictures and pairs.

    Raises:
        InputError: if the file can't be opened, or a column is missing.
    """
    found = ReaderResult("table")
    rows = entries(path, found) if path.suffix.lower() == ".jsonl" else _csv(path, found)
    if rows and (lacking := [name for name in NEEDED if not any(name in row for row in rows)]):
        raise InputError(
            f"'{path.name}' has no column {' and no '.join(lacking)}; it needs {', '.join(NEEDED)}, and may have split, "
            "category, modality, plane, organ and slice."
        )
    known: set[str] = set()
    for number, row in enumerate(rows, 2):
        where, values = f"{path.name}, row {number}", {name: clean(row.get(name)) for name in row}
        if missing := [name for name in NEEDED if not values.get(name)]:
            found.problem("broken entry", where, f"no {', '.join(missing)}")
            continue
        key = "#".join(filter(None, (values["image"], values.get("plane", ""), values.get("slice", ""))))
        if key not in known:
            picture = _picture(path.parent / values["image"], key, values, where, found)
            if picture is None:
                continue
            known.add(key)
            found.pictures.append(picture)
        found.pairs.append(QuestionPair(key, values["question"], values["answer"], values.get("category") or "question",
                                origin=values.get("origin") or "file"))  # fmt: skip
    found.counts = {"images": len(found.pictures), "descriptions": len(rows),
                    "patients": len({p.patient for p in found.pictures})}  # fmt: skip
    return found


def _csv(path: Path, found: ReaderResult) -> list[dict[str, Any]]:
    text = decoded(path, found)
    if text is None:
        return []
    try:
        dialect: Any = csv.Sniffer().sniff(text[:4096], ",;\t")
    except csv.Error:
        dialect = csv.excel
    try:
        return [{(name or "").strip().lower(): value for name, value in row.items() if name is not None}
                for row in csv.DictReader(io.StringIO(text, newline=""), dialect=dialect)]  # fmt: skip
    except csv.Error as error:
        found.problem("broken entry", path.name, error)
        return []


def _picture(file: Path, key: str, values: dict[str, str], where: str, found: ReaderResult) -> SourcePicture | None:
    if not file.exists():
        found.problem("missing picture", values["image"], where)
        return None
    split = values.get("split", "").lower()
    if split and split not in SPLIT_WORDS:
        found.problem("broken entry", where, f"split is '{split}'; choose one of {', '.join(SPLITS)}")
        return None
    plane, modality = values.get("plane", "").lower(), values.get("modality", "")
    load = partial(read_picture, file)
    if file.name.lower().endswith(VOLUME_SUFFIXES):
        if plane not in PLANES or not values.get("slice", "").isdigit():
            found.problem("broken entry", where, "a volume needs its plane and slice")
            return None
        load = slice_loader(partial(read_volume, file, modality), plane, int(values["slice"]))
    return SourcePicture(key, values["patient"], load, modality, plane, values.get("organ", "").lower(),
                   SPLIT_WORDS.get(split, ""))  # fmt: skip

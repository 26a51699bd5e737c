"""Files of one response: written apart, then moved to their names, so that no half file has a final name.

    OUTPUT/CASE/CASE.STEP.json            findings, measurements, answers, provenance
    OUTPUT/CASE/CASE.STEP.seg.nrrd        if there is a segmentation
    OUTPUT/CASE/CASE.STEP.html and .txt   if there is a report

When and how fast stands in the manifest, not in these files: the same case gives the same bytes (a report names its time).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from .. import NOTICE
from ..core.request import Response
from ..errors import OutputError
from ..files.writing import make_folder, write_segmentation, write_text
from .plan import BatchCase, TaskStep

APART = ".partial"


def write(folder: Path, case: BatchCase, step: TaskStep, response: Response) -> list[tuple[str, str]]:
    """Write a response; → (name relative to `folder`, SHA-256) of each file, all of them on the disk.

    Raises:
        OutputError: if that fails; nothing that was there is changed then.
    """
    apart = folder / APART / f"{case.id}.{step.key}"
    try:
        shutil.rmtree(apart, ignore_errors=True)
        make_folder(apart)
        made = _write_apart(apart / f"{case.id}.{step.key}", response)
        target = folder / case.id
        target.mkdir(exist_ok=True)
        files = []
        for path in made:
            files.append((f"{case.id}/{path.name}", sha256(path)))
            _to_disk(path)
        for path in made:
            os.replace(path, target / path.name)
        _to_disk(target)
        return files
    except OSError as error:
        raise OutputError(
            f"Results of '{case.id}' can't be written to '{folder}' ({error.strerror}); free some space, then run the same again."
        ) from error
    finally:
        shutil.rmtree(apart, ignore_errors=True)


def _write_apart(stem: Path, response: Response) -> list[Path]:
    provenance = replace(response.provenance, started="", seconds=0.0)
    made = []
    if response.segmentation is not None:
        made.append(write_segmentation(Path(f"{stem}.seg.nrrd"), response.segmentation, provenance))
    if response.report is not None:
        made.append(write_text(Path(f"{stem}.html"), response.report.html))
        made.append(write_text(Path(f"{stem}.txt"), response.report.text))
    content = {**found(response), "provenance": asdict(provenance), "notice": NOTICE}
    made.append(write_text(Path(f"{stem}.json"), json.dumps(content, indent=2, ensure_ascii=False)))
    return made


def found(response: Response) -> dict:
    """What a response says in words and numbers; JSON."""
    return {
        "segments": [s.label for s in response.segmentation.segments] if response.segmentation else [],
        "measurements": [asdict(m) for m in response.measurements],
        "answers": [
            {"question": a.question, "answer": a.text, "slices": [str(s) for s in a.evidence]} for a in response.answers
        ],
    }


def clear(folder: Path) -> None:
    """Remove what a process that was killed left half."""
    shutil.rmtree(folder / APART, ignore_errors=True)


def remove_results(folder: Path, names: list[str]) -> None:
    """Remove results of an earlier batch, and folders that are empty then; nothing outside of `folder`."""
    for name in names:
        path = (folder / name).resolve()
        if folder.resolve() in path.parents:
            path.unlink(missing_ok=True)
            try:
                path.parent.rmdir()
            except OSError:
                pass  # something else is in it


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    """Have the system write a file, or a folder's list of names, to the disk now."""
    if os.name == "nt" and path.is_dir():
        return  # Windows keeps names by itself
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

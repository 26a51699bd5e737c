"""Write the files of one response to a temporary folder, then move them, so that no incomplete file has its final name.

    OUTPUT/CASE/CASE.STEP.json            findings, measurements, answers, provenance
    OUTPUT/CASE/CASE.STEP.seg.nrrd        if there is a segmentation
    OUTPUT/CASE/CASE.STEP.html and .txt   if there is a report

Time and duration are in the manifest, not in these files: the same case gives the same bytes (except a report, which
has its time).
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
    """Write a response and flush its files to the disk.

    Args:
        folder: of the batch.
        case: the case.
        step: its task.
        response: its result.

    Returns:
        (name relative to `folder`, SHA-256) of each file

    Raises:
        OutputError: if that fails; existing files are unchanged.
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
    """Return a response's measurements and answers as JSON, and a note if the image is outside of the model's domain."""
    outside = response.provenance.outside_domain
    said = any(outside in a.text for a in response.answers)
    return {
        "segments": [s.label for s in response.segmentation.segments] if response.segmentation else [],
        "measurements": [asdict(m) for m in response.measurements],
        "answers": [
            {"question": a.question, "answer": a.text, "slices": [str(s) for s in a.evidence]} for a in response.answers
        ],
        **({"note": outside} if outside and not said else {}),
    }


def clear(folder: Path) -> None:
    """Remove incomplete files of a killed process."""
    shutil.rmtree(folder / APART, ignore_errors=True)


def remove_results(folder: Path, names: list[str]) -> None:
    """Remove results of an earlier batch, and folders that become empty; nothing outside of `folder`.

    Args:
        folder: of the batch.
        names: relative to `folder`.
    """
    for name in names:
        path = (folder / name).resolve()
        if folder.resolve() in path.parents:
            path.unlink(missing_ok=True)
            try:
                path.parent.rmdir()
            except OSError:
                pass  # the folder has other files


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows can't and need not flush folders
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Write checkpoints atomically and find the newest complete one. Knows folders; nothing of their content.

A checkpoint is written to `.part/checkpoint-N` next to the others, listed with sizes and hashes in `complete.json`, and
renamed when complete. Resuming uses the newest one whose list matches. The last two are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

from ...errors import ModelError

KEPT = 2
LIST = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def part_of(root: Path, step: int) -> Path:
    """Return the folder in which the checkpoint of a step is written.

    Args:
        root: folder of the checkpoints.
        step: number of the step.
    """
    return root / ".part" / f"checkpoint-{step}"


def finish(root: Path, step: int) -> Path:
    """Rename a completely written checkpoint, delete all but the last ones, and return its folder.

    Args:
        root: folder of the checkpoints.
        step: number of the step.
    """
    part, final = part_of(root, step), root / f"checkpoint-{step}"
    files = sorted(p for p in part.rglob("*") if p.is_file())
    listed = {p.relative_to(part).as_posix(): [p.stat().st_size, _sha256(p)] for p in files}
    (part / LIST).write_text(json.dumps(listed, indent=1), encoding="utf-8")
    for path in (*files, part / LIST):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    shutil.rmtree(final, ignore_errors=True)
    part.replace(final)
    for old in complete_names(root)[:-KEPT]:
        shutil.rmtree(root / f"checkpoint-{old}", ignore_errors=True)
    return final


def tidy(root: Path) -> None:
    """Delete checkpoints left incomplete by a killed training."""
    shutil.rmtree(root / ".part", ignore_errors=True)


def complete_names(root: Path) -> list[int]:
    """Return the steps with a checkpoint, ascending, judged by the folders' names alone."""
    names = (_NAME.fullmatch(p.name) for p in root.glob("checkpoint-*"))
    return sorted(int(name[1]) for name in names if name)


def newest(root: Path) -> Path | None:
    """Return the newest complete checkpoint, or None."""
    return next(
        (path for step in reversed(complete_names(root)) if is_complete(path := root / f"checkpoint-{step}")), None
    )


def is_complete(folder: Path) -> bool:
    """Return whether size and hash of every file match the list."""
    try:
        listed = json.loads((folder / LIST).read_text(encoding="utf-8"))
        return bool(listed) and all(
            (folder / name).stat().st_size == size and _sha256(folder / name) == sha
            for name, (size, sha) in listed.items()
        )
    except (OSError, ValueError, TypeError):
        return False


def require_complete(folder: Path) -> Path:
    """Return the folder of a checkpoint after checking that it is complete.

    Raises:
        ModelError: if it is not.
    """
    if not is_complete(folder):
        raise ModelError(
            f"The checkpoint {folder.name} is incomplete; resume again to use an older one, or start again."
        )
    return folder


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""Data sets, estimates and trainings in a process of their own, for programs with a window. Knows a child; loads nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...execution import subprocess_task
from ...interfaces.jobs import Progress
from .settings import MOST, TrainingSettings

CHILD = Path(__file__).with_name("finetune_main.py")
WORDS = (
    "It was stopped.",
    "It ended unexpectedly, perhaps for want of memory; what was learned so far can be resumed.",
)


def build_data(
    path: Path, output: Path, progress: Progress, *, skip: bool = False, licence: str = "", interpreter: str = ""
):
    """Make a data set of a site's files; → its card. See `data.building`.

    Args:
        skip: leave out what can't be used. licence: of pictures and texts. interpreter: see `execution.worker.runner.python`.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    task = {"do": "data", "path": str(path), "output": str(output), "skip": skip, "licence": licence}
    return _run(task, progress, interpreter)


def estimate(data: Path, settings: TrainingSettings, progress: Progress, interpreter: str = "") -> dict[str, Any]:
    """What a training would take; see `run.estimated`.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    return _run({"do": "estimate", "data": str(data), "settings": settings.as_json()}, progress, interpreter)


def train(data: Path, run: Path, settings: TrainingSettings, progress: Progress, *, name: str, resume: bool = False,
          most: int = MOST, precisions: Sequence[str] | None = None, interpreter: str = "") -> dict[str, Any]:  # fmt: skip
    """Train, judge and put on the shelf; → the adapter's card. See `making.finetune`; `control` pauses and stops it.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    task = {"do": "train", "data": str(data), "run": str(run), "settings": settings.as_json(), "name": name, "resume": resume,
            "most": most, "precisions": precisions}  # fmt: skip
    return _run(task, progress, interpreter)


def _run(task: dict, progress: Progress, interpreter: str):
    return subprocess_task.run(
        CHILD,
        task,
        progress,
        subprocess_task.forward_progress(progress, ModelError),
        WORDS,
        dict(os.environ),
        interpreter,
    )

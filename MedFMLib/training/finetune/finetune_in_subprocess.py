"""Build data sets, estimate and train in a subprocess, for programs with a window. Imports no torch."""

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
    "It ended unexpectedly, perhaps because the memory ran out; a training can be resumed from its last checkpoint.",
)


def build_data(
    path: Path, output: Path, progress: Progress, *, skip: bool = False, licence: str = "", interpreter: str = ""
):
    """Build a data set from a site's files and return its card; see `data.building`.

    Args:
        path: the site's files.
        output: folder of the data set.
        progress: receives the stages and may cancel.
        skip: leave out unusable entries.
        licence: of pictures and texts.
        interpreter: see `execution.worker.runner.python`.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    task = {"do": "data", "path": str(path), "output": str(output), "skip": skip, "licence": licence}
    return _run(task, progress, interpreter)


def estimate(data: Path, settings: TrainingSettings, progress: Progress, interpreter: str = "") -> dict[str, Any]:
    """Return the memory and time of a training; see `run.estimated`.

    Args:
        data: folder of a built data set.
        settings: of the training.
        progress: receives the stages and may cancel.
        interpreter: see `execution.worker.runner.python`.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    return _run({"do": "estimate", "data": str(data), "settings": settings.as_json()}, progress, interpreter)


def train(data: Path, run: Path, settings: TrainingSettings, progress: Progress, *, name: str, resume: bool = False,
          most: int = MOST, precisions: Sequence[str] | None = None, interpreter: str = "") -> dict[str, Any]:  # fmt: skip
    """Train, evaluate and install an adapter, and return its card; see `making.finetune`.

    `control` pauses and stops it.

    Args:
        data: folder of a built data set.
        run: folder of the training.
        settings: of the training.
        progress: receives the stages and may cancel.
        name: of the installed adapter.
        resume: continue from the last complete checkpoint.
        most: largest number of held-out pairs to ask.
        precisions: see `judging.judge`.
        interpreter: see `execution.worker.runner.python`.

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

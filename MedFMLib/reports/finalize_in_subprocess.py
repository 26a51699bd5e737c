"""Finalize a report in a subprocess, with the Python that has the packages, so that a GUI stays responsive."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from ..errors import InputError
from ..execution import subprocess_task
from ..interfaces.jobs import Progress
from .finalize import FinalizeRequest

CHILD = Path(__file__).with_name("finalize_main.py")
WORDS = (
    "It was stopped; finished files are complete.",
    "It ended unexpectedly, perhaps for lack of memory; try again.",
)


def finalize_in_subprocess(task: FinalizeRequest, progress: Progress, interpreter: str = "") -> list[Path]:
    """Finalize a report and return the files, the stored report first; see `finalize`.

    Args:
        task: the request.
        progress: callbacks for stages, fraction and cancellation.
        interpreter: the Python that has the packages; see `execution.worker.runner.python`.

    Raises:
        MedFMError: with the cause and the next step.
    """
    reported = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(task).items()}
    found = subprocess_task.run(
        CHILD,
        reported,
        progress,
        subprocess_task.forward_progress(progress, InputError),
        WORDS,
        dict(os.environ),
        interpreter,
    )
    return [Path(path) for path in found]

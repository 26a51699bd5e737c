"""Issuing in a process of its own, in the Python that has the packages, so that a window stays awake. Knows a child process."""

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
    "It was stopped; files that were finished are whole.",
    "It ended unexpectedly, perhaps for want of memory; try again.",
)


def finalize_in_subprocess(task: FinalizeRequest, progress: Progress, interpreter: str = "") -> list[Path]:
    """See `finalize`; → the files, the kept report first.

    Args:
        interpreter: the Python that has the packages; see `execution.worker.runner.python`.

    Raises:
        MedFMError: in one sentence with the next step.
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

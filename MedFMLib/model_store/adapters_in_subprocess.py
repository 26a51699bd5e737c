"""Adapters taken and merged in a process of their own, for programs with a window. Knows a child process; loads nothing."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ModelError
from ..execution import subprocess_task
from ..interfaces.jobs import Progress

CHILD = Path(__file__).with_name("adapters_main.py")
WORDS = ("It was stopped; nothing is left of it.", "It ended unexpectedly, perhaps for want of memory; try again.")


def import_adapter(path: Path, progress: Progress, interpreter: str = "") -> str:
    """Take an adapter to the shelf; → its name. See `adapters.import_adapter`.

    Args:
        interpreter: the Python that computes; see `execution.worker.runner.python`.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    return _run({"do": "import", "path": str(path)}, progress, interpreter)


def merge_adapter(model: str, adapter: str, target: Path, progress: Progress, interpreter: str = "") -> str:
    """Write a model with an adapter merged in; → the new folder. See `adapters.merge_adapter`.

    Args:
        model: id of the base. adapter: as for a request. target: the new folder, or one to put it into.
        interpreter: the Python that computes; see `execution.worker.runner.python`.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    return _run({"do": "merge", "model": model, "adapter": adapter, "target": str(target)}, progress, interpreter)


def _run(task: dict, progress: Progress, interpreter: str) -> str:
    return subprocess_task.run(
        CHILD,
        task,
        progress,
        subprocess_task.forward_progress(progress, ModelError),
        WORDS,
        dict(os.environ),
        interpreter,
    )

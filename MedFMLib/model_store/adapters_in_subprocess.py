"""Import and merge adapters in a subprocess, for programs with a GUI. Loads no model in this process."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import ModelError
from ..execution import subprocess_task
from ..interfaces.jobs import Progress

CHILD = Path(__file__).with_name("adapters_main.py")
WORDS = ("It was stopped; nothing was changed.", "It ended unexpectedly, perhaps for lack of memory; try again.")


def import_adapter(path: Path, progress: Progress, interpreter: str = "") -> str:
    """Install an adapter and return its name; see `adapters.import_adapter`.

    Args:
        path: an exported zip or folder, or a PEFT folder.
        progress: callbacks for stages, fraction and cancellation.
        interpreter: the Python for the subprocess; see `execution.worker.runner.python`.

    Raises:
        MedFMError: with the cause and the next step.
    """
    return _run({"do": "import", "path": str(path)}, progress, interpreter)


def merge_adapter(model: str, adapter: str, target: Path, progress: Progress, interpreter: str = "") -> str:
    """Write a model with a merged adapter and return the new folder; see `adapters.merge_adapter`.

    Args:
        model: id of the base.
        adapter: name of an adapter, or a folder.
        target: the new folder, or an existing one to put it into.
        progress: callbacks for stages, fraction and cancellation.
        interpreter: the Python for the subprocess; see `execution.worker.runner.python`.

    Raises:
        MedFMError: with the cause and the next step.
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

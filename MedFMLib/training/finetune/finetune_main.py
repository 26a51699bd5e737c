"""Run one task of `finetune_in_subprocess`: build a data set, estimate, or train.

    python finetune_main.py LIBRARY_FOLDER

A program with a window thus needs no torch and does not freeze. One JSON line on stdin: {"do": "data" | "estimate" |
"train", …}; see `finetune_in_subprocess` for the arguments and `execution.subprocess_task` for the rest. When its stdin
ends, a training stops after its step and saves a checkpoint; other work ends at once.
"""

from __future__ import annotations

import os
import sys

LACKING = "Fine-tuning needs the Python package '{}', which is missing: pip install medfm[train]."


def work(task: dict, progress):
    """Run the task and return what `finetune_in_subprocess` returns.

    Args:
        task: the JSON line.
        progress: receives the stages.
    """
    from pathlib import Path

    from MedFMLib.storage import offline
    from MedFMLib.training.data import building, reading
    from MedFMLib.training.data.dataset import Dataset
    from MedFMLib.training.finetune.settings import TrainingSettings

    offline.while_loading()
    if task["do"] == "data":
        found = reading.read(Path(task["path"]))
        checked = building.check(found, progress=progress)
        if not task["skip"]:
            building.refuse_problems(checked, ())
        return building.build(checked, Path(task["output"]), task["licence"], progress)
    settings = TrainingSettings.from_json(task["settings"])
    if task["do"] == "estimate":
        from MedFMLib.training.finetune import run

        return run.estimated(Dataset.load(Path(task["data"])), settings, progress)
    from MedFMLib.training.finetune import making

    return making.finetune(Path(task["data"]), Path(task["run"]), settings, name=task["name"], resume=task["resume"],
                           most=task["most"], precisions=task["precisions"], progress=progress)  # fmt: skip


def gone(task: dict, progress) -> None:
    """Handle the end of the parent: a training stops after its step; other work, which writes atomically, ends at once.

    Args:
        task: the JSON line.
        progress: not used.
    """
    from pathlib import Path

    from MedFMLib.errors import MedFMError
    from MedFMLib.training.finetune import control

    if task["do"] != "train":
        os._exit(0)
    try:
        control.order(Path(task["run"]), "stop")
    except MedFMError:
        os._exit(0)  # the training has not begun


if __name__ == "__main__":
    sys.path[:1] = [sys.argv[1]]  # the library's folder, instead of this file's
    from MedFMLib.environment.allocator import keep_freed_memory
    from MedFMLib.execution.subprocess_main import serve

    keep_freed_memory()
    serve(work, LACKING, gone)

"""The process that builds data sets and trains, so that a program with a window needs no torch and does not freeze.

    python child.py LIBRARY_FOLDER

One JSON line on stdin: {"do": "data" | "estimate" | "train", …}; see `aside` for the arguments and `store.child` for the rest.
When its stdin ends, a training stops after its step and keeps what it learned; other work just ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading


class Told:
    """A `Progress` that tells the parent."""

    def __init__(self, stream):
        self._stream = stream

    def tell(self, **content) -> None:
        """One line."""
        self._stream.write(json.dumps(content) + "\n")
        self._stream.flush()

    def stage(self, name: str) -> None:
        """See `Progress`."""
        self.tell(stage=name)

    def fraction(self, value: float) -> None:
        """See `Progress`."""
        self.tell(fraction=value)

    def note(self, text: str) -> None:
        """See `Progress`."""
        self.tell(note=text)

    def partial(self, text: str) -> None:
        """See `Progress`."""

    def cancelled(self) -> bool:
        """It is killed instead: everything is written in one step."""
        return False


def work(task: dict, told: Told):
    """Do what is told; → what `aside` returns."""
    from pathlib import Path

    from MedFMLib import offline
    from MedFMLib.training.data import building, reading
    from MedFMLib.training.data.dataset import Dataset
    from MedFMLib.training.finetune.settings import Settings

    offline.while_loading()
    if task["do"] == "data":
        found = reading.read(Path(task["path"]))
        checked = building.check(found, progress=told)
        if not task["skip"]:
            building.refuse_problems(checked, ())
        return building.build(checked, Path(task["output"]), task["licence"], told)
    settings = Settings.from_json(task["settings"])
    if task["do"] == "estimate":
        from MedFMLib.training.finetune import run

        return run.estimated(Dataset.load(Path(task["data"])), settings, told)
    from MedFMLib.training.finetune import making

    return making.finetune(Path(task["data"]), Path(task["run"]), settings, name=task["name"], resume=task["resume"],
                           most=task["most"], precisions=task["precisions"], progress=told)  # fmt: skip


def _stop_with_stdin(task: dict) -> None:
    """Wait for the end of stdin: whoever asked has gone."""
    sys.stdin.read()
    from pathlib import Path

    from MedFMLib.errors import MedFMError
    from MedFMLib.training.finetune import control

    if task["do"] != "train":
        os._exit(0)
    try:
        control.order(Path(task["run"]), "stop")
    except MedFMError:
        os._exit(0)  # it has not begun


def main() -> None:
    """Keep stdout for lines to the parent: what libraries print goes to stderr."""
    sys.path[:1] = [sys.argv[1]]  # instead of this file's folder
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from MedFMLib.errors import MedFMError

    told, task = Told(stdout), json.loads(sys.stdin.readline())
    threading.Thread(target=_stop_with_stdin, args=(task,), daemon=True).start()
    try:
        told.tell(result=work(task, told))
    except MedFMError as error:
        told.tell(error=str(error))
    except ImportError as error:
        name = (error.name or str(error)).partition(".")[0]
        told.tell(error=f"Fine-tuning needs the Python package '{name}', which is missing: pip install medfm[train].")
    except Exception as error:
        told.tell(error=f"It could not be done ({type(error).__name__}: {' '.join(str(error).split())[:300]}).")
    finally:
        os._exit(0)  # without waiting for the thread that reads


if __name__ == "__main__":
    main()

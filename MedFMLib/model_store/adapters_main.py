"""Import or merge an adapter as a subprocess, so that a program with a GUI needs no torch and stays responsive.

    python adapters_main.py LIBRARY_FOLDER

It reads one JSON line on stdin: {"do": "import", "path"} or {"do": "merge", "model", "adapter", "target"}; the rest of
the protocol
is in `execution.subprocess_main`. When its stdin ends, it stops at the next step and removes temporary files.
"""

from __future__ import annotations

import sys

LACKING = "Adapters need the Python package '{}', which is missing; install MedFM's packages."


def work(task: dict, progress) -> str:
    """Perform the task and return the adapter's name, or the folder of the merged model.

    Args:
        task: the JSON object from stdin.
        progress: callbacks for stages, fraction and cancellation.
    """
    from pathlib import Path

    from MedFMLib.interfaces import registry
    from MedFMLib.model_store import adapters
    from MedFMLib.storage import offline

    offline.while_loading()
    if task["do"] == "import":
        return adapters.import_adapter(Path(task["path"]), "", progress)
    return str(adapters.merge_adapter(registry.card(task["model"]), task["adapter"], Path(task["target"]), progress))


if __name__ == "__main__":
    sys.path[:1] = [sys.argv[1]]  # the library's folder, instead of this file's
    from MedFMLib.execution.subprocess_main import serve

    serve(work, LACKING)

"""The process that takes or merges an adapter, so that a program with a window needs no torch and does not freeze.

    python adapter_child.py LIBRARY_FOLDER

One JSON line on stdin: {"do": "import", "path"} or {"do": "merge", "model", "adapter", "target"}; see `child` for the rest.
When its stdin ends, it stops at the next step and tidies up.
"""

from __future__ import annotations

import sys

LACKING = "Adapters need the Python package '{}', which is missing; install MedFM's packages."


def work(task: dict, progress) -> str:
    """Do what is told; → the adapter's name, or the folder of the merged model."""
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

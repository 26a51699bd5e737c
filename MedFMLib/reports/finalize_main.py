"""Finalize a report as a subprocess.

    python finalize_main.py LIBRARY_FOLDER

One JSON line on stdin has the fields of `finalize.FinalizeRequest`; the result is the list of files. See
`execution.subprocess_task` for the rest of the protocol.
"""

from __future__ import annotations

import sys

LACKING = "Exports need the Python package '{}', which is missing; install MedFM's packages."


def context(task: dict, progress) -> list[str]:
    """Perform the task and return the files.

    Args:
        task: the JSON object from stdin.
        progress: callbacks for stages, fraction and cancellation.
    """
    from pathlib import Path

    from MedFMLib.reports.finalize import FinalizeRequest, finalize

    for name in ("report", "folder", "study"):
        task[name] = Path(task[name]) if task[name] else None
    return [str(path) for path in finalize(FinalizeRequest(**task | {"forms": tuple(task["forms"])})).files]


if __name__ == "__main__":
    sys.path[:1] = [sys.argv[1]]  # the library's folder, instead of this file's
    from MedFMLib.execution.subprocess_main import serve

    serve(context, LACKING)

"""The process that issues a report.

    python child.py LIBRARY_FOLDER

One JSON line on stdin: the fields of `issuing.Issue`; → the files. See `execution.subprocess_task` for the rest.
"""

from __future__ import annotations

import sys

LACKING = "Exports need the Python package '{}', which is missing; install MedFM's packages."


def context(task: dict, progress) -> list[str]:
    """Do what is told; → the files."""
    from pathlib import Path

    from MedFMLib.reports.finalize import FinalizeRequest, finalize

    for name in ("report", "folder", "study"):
        task[name] = Path(task[name]) if task[name] else None
    return [str(path) for path in finalize(FinalizeRequest(**task | {"forms": tuple(task["forms"])})).files]


if __name__ == "__main__":
    sys.path[:1] = [sys.argv[1]]  # the library's folder, instead of this file's
    from MedFMLib.execution.subprocess_main import serve

    serve(context, LACKING)

"""The process that issues a report.

    python child.py LIBRARY_FOLDER

One JSON line on stdin: the fields of `issuing.Issue`; → the files. See `execution.subprocess_task` for the rest.
"""

from __future__ import annotations

import sys

LACKING = "Exports need the Python package '{}', which is missing; install MedFM's packages."


def work(task: dict, progress) -> list[str]:
    """Do what is told; → the files."""
    from pathlib import Path

    from MedFMLib.reports.finalize import Issue, issue

    for name in ("report", "folder", "study"):
        task[name] = Path(task[name]) if task[name] else None
    return [str(path) for path in issue(Issue(**task | {"forms": tuple(task["forms"])})).files]


if __name__ == "__main__":
    sys.path[:1] = [sys.argv[1]]  # the library's folder, instead of this file's
    from MedFMLib.execution.subprocess_main import serve

    serve(work, LACKING)

"""The process that issues a report.

    python child.py LIBRARY_FOLDER

One JSON line on stdin: the fields of `issuing.Issue`; one line on stdout: {"result": files} or {"error": a sentence}.
"""

from __future__ import annotations

import json
import os
import sys


def work(told: dict) -> list[str]:
    """Do what is told; → the files."""
    from pathlib import Path

    from MedFMLib.desk.issuing import Issue, issue

    for name in ("report", "folder", "study"):
        told[name] = Path(told[name]) if told[name] else None
    task = Issue(**told | {"forms": tuple(told["forms"])})
    return [str(path) for path in issue(task).files]


def main() -> None:
    """Keep stdout for the line to the parent: what libraries print goes to stderr."""
    sys.path[:1] = [sys.argv[1]]  # instead of this file's folder
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from MedFMLib.errors import MedFMError

    try:
        said: dict = {"result": work(json.loads(sys.stdin.readline()))}
    except MedFMError as error:
        said = {"error": str(error)}
    except ImportError as error:
        name = (error.name or str(error)).partition(".")[0]
        said = {"error": f"Exports need the Python package '{name}', which is missing; install MedFM's packages."}
    except Exception as error:
        said = {"error": f"It could not be done ({type(error).__name__}: {' '.join(str(error).split())[:300]})."}
    stdout.write(json.dumps(said) + "\n")
    stdout.flush()


if __name__ == "__main__":
    main()

"""Find and read cases in a process of its own, for `reading`: JSON lines on stdin and stdout, voxels in files.

    python reading_main.py LIBRARY_FOLDER SCRATCH_FOLDER

A line {"do": "find" or "scene" or "read", …} is answered by lines {"at": file} and {"tell": sentence}, and at last by
{"result": …} or {"error": sentence}. Ends when its stdin ends, and then deletes the scratch folder with the voxels.
"""

from __future__ import annotations

import base64
import json
import os
import queue
import shutil
import sys
import threading
from pathlib import Path


def work(task: dict, emit) -> object:
    """Do one task and return a value that JSON can hold.

    Args:
        task: see `reading`.
        emit: sends one line.
    """
    from MedFMLib.batch import cases
    from MedFMLib.batch.plan import case_as_json, case_from_json

    def tell(text: str) -> None:
        emit({"tell": text})

    if task["do"] == "read":
        return _stored(cases.read(case_from_json(task["case"])), Path(task["to"]))
    plain = case_from_json(task["plain"])
    pick = cases.SeriesChoice(**task["pick"])
    path = Path(task["path"])
    if task["do"] == "scene":
        from MedFMLib.batch import scenes

        found, images = scenes.from_file(path, plain.steps, plain.options, pick, tell)
        stored = {case.id: _stored(images[case.id], Path(task["to"]) / str(n)) for n, case in enumerate(found)}
        return {"cases": [case_as_json(case) for case in found], "images": stored}
    bad = {Path(name) for name in task["bad"]}

    def at(file: Path) -> bool:
        """Say which file is looked at; return whether to leave it out."""
        emit({"at": str(file)})
        return file in bad

    found = cases.find(path, plain.steps, plain.options, pick, tell, leave_out=at)
    return {"cases": [case_as_json(case) for case in found]}


def _stored(image, path: Path) -> dict:
    """Write the voxels of an image to a file, and return everything else."""
    import numpy as np

    from MedFMLib.core.request import Request
    from MedFMLib.execution.payload import pack

    np.ascontiguousarray(image.voxels).tofile(path)
    rest = base64.b64encode(pack(Request("read", image)).rest).decode()
    return {"rest": rest, "voxels": str(path), "digest": image.digest()}


def limit_memory(size: int) -> None:
    """Let this process take so many more bytes, where the system can enforce that.

    Args:
        size: bytes beyond what it has now.
    """
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        soft = pages * os.sysconf("SC_PAGE_SIZE") + size
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    except (ImportError, OSError, ValueError):
        pass  # Windows, macOS; the parent watches the memory as well


def _listen(tasks: queue.SimpleQueue) -> None:
    """Receive tasks; when the parent ends, end this process at once, whatever it reads."""
    for line in sys.stdin:
        tasks.put(line)
    shutil.rmtree(sys.argv[2], ignore_errors=True)  # a killed parent can't do it
    os._exit(0)


def main() -> None:
    """Serve tasks until stdin ends; what libraries print goes to stderr."""
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from MedFMLib.errors import MedFMError

    def emit(line: dict) -> None:
        stdout.write(json.dumps(line) + "\n")
        stdout.flush()

    tasks: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(tasks,), daemon=True).start()
    import pydicom  # noqa: F401 - loaded before the limit is set
    import SimpleITK  # noqa: F401

    while True:
        task = json.loads(tasks.get())
        try:
            limit_memory(task["memory"])
            emit({"result": work(task, emit)})
        except MedFMError as error:
            emit({"error": str(error)})
        except MemoryError:
            emit({"memory": True})
        except RecursionError:
            emit({"error": "It is nested too deeply to be read; export it again."})
        except Exception as error:
            emit({"error": f"It can't be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})."})


if __name__ == "__main__":
    sys.path[:1] = [sys.argv[1]]  # the library's folder, instead of this file's
    main()

"""Run the worker process: read requests from stdin, compute them, write events and the response to stdout.

    python process.py LIBRARY_FOLDER [--compute MODULE:FACTORY] [--clear FOLDER]

Ends when its stdin ends, so it can't outlive the application. Knows neither Qt nor MRML; torch is loaded here.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import queue
import shutil
import sys
import threading
import time
from pathlib import Path

IDLE_SECONDS = 1.0
"""Seconds without a job after which unused memory is returned to the system."""


def listen(stream, work: queue.SimpleQueue, cancel: threading.Event, clear: Path | None) -> None:
    """Read frames from the parent as they come; when the parent ends, end this process immediately.

    Args:
        stream: stdin of the process.
        work: queue that receives payloads and models to load.
        cancel: set when the parent cancels the running job.
        clear: folder to delete if the parent was killed; None for none.
    """
    from MedFMLib.execution.payload import Payload
    from MedFMLib.execution.worker import frames

    parent = os.getppid()
    try:
        while True:
            content = voxels = None  # free their memory while waiting
            kind, content = frames.read_frame(stream)
            if kind == frames.REQUEST:
                kind, voxels = frames.read_frame(stream)
                cancel.clear()
                work.put(Payload(content, voxels if kind == frames.VOXELS else Path(os.fsdecode(voxels))))
            elif kind == frames.LOAD:
                work.put(json.loads(content))
            elif kind == frames.CANCEL:
                cancel.set()
    except (EOFError, OSError):
        if clear is not None and _orphaned(parent):
            shutil.rmtree(clear, ignore_errors=True)  # a killed server can't delete it itself
        os._exit(0)


def _orphaned(parent: int) -> bool:
    """Return whether the parent itself has ended; the system may take a moment to report it."""
    until = time.monotonic() + 0.5
    while os.getppid() == parent and time.monotonic() < until:
        time.sleep(0.01)
    return os.getppid() != parent


def serve(stdin, stdout, make_compute, clear: Path | None = None) -> None:
    """Run requests one after the other, forever.

    Args:
        stdin: binary stream of frames from the parent.
        stdout: binary stream of frames to the parent.
        make_compute: creates the function or object that runs jobs, called at the first job.
        clear: folder to delete if the parent was killed; None for none.
    """
    from MedFMLib.errors import MedFMError
    from MedFMLib.execution import payload, serialization
    from MedFMLib.execution.messages import error_as_json
    from MedFMLib.execution.worker import frames
    from MedFMLib.execution.worker.progress import WorkerProgress

    writer, work, cancel = frames.FrameWriter(stdout), queue.SimpleQueue(), threading.Event()
    threading.Thread(target=listen, args=(stdin, work, cancel, clear), daemon=True).start()
    compute = None
    while True:
        item = response = failure = None  # free their memory while waiting for the next job
        item = _next(work)
        try:
            compute = compute or make_compute()
            if isinstance(item, dict):
                getattr(compute, "prepare", lambda **_: None)(**item)
                continue
            response = getattr(compute, "run", compute)(payload.unpack(item), WorkerProgress(writer, cancel))
            writer.write(frames.RESPONSE, serialization.dumps(response, compress=False))
            continue
        except MedFMError as error:
            failure = error
        except MemoryError:
            failure = MedFMError(
                "The computer ran out of memory; choose a lower precision, fewer slices or a smaller model."
            )
        except Exception as error:
            logging.exception("The job failed")
            failure = MedFMError(
                f"The job failed unexpectedly ({type(error).__name__}: {str(error)[:200]}); the scene is unchanged."
            )
        if isinstance(item, dict):
            logging.warning("A model could not be preloaded: %s", failure)
        else:
            writer.write_json(frames.ERROR, error_as_json(failure))


def _next(work: queue.SimpleQueue):
    """Return the next item of work; after `IDLE_SECONDS` without one, return unused memory to the system."""
    from MedFMLib.environment import allocator

    try:
        return work.get(timeout=IDLE_SECONDS)
    except queue.Empty:
        allocator.trim()
        return work.get()


def main() -> None:
    """Parse the options and serve; stdout is reserved for frames, and what libraries print goes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path, help="folder that has MedFMLib")
    parser.add_argument(
        "--compute", default="MedFMLib.engine:Engine", help="class with `run`, or factory of a function"
    )
    parser.add_argument("--clear", type=Path, help="folder to delete if the parent was killed")
    options = parser.parse_args()
    sys.path[:1] = [str(options.library)]  # instead of this file's folder
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if os.name == "nt":
        import msvcrt

        msvcrt.setmode(stdout.fileno(), os.O_BINARY)
    from MedFMLib.environment.allocator import keep_freed_memory

    keep_freed_memory()
    module, _, name = options.compute.partition(":")
    serve(sys.stdin.buffer, stdout, lambda: getattr(importlib.import_module(module), name)(), options.clear)


if __name__ == "__main__":
    main()

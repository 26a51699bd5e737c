"""The worker process: reads requests from stdin, runs them, tells events and the response on stdout.

    python process.py LIBRARY_FOLDER [--compute MODULE:FACTORY]

Ends when its stdin ends, so it can't outlive the application. Knows neither Qt nor MRML; this is where torch is.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import queue
import struct
import sys
import threading
from pathlib import Path


class Relay:
    """The `Progress` of a job: tells the parent."""

    def __init__(self, writer, cancel: threading.Event):
        from MedFMLib.errors import Cancelled
        from MedFMLib.worker import frames

        self._writer, self._cancel, self._frames, self._error = writer, cancel, frames, Cancelled

    def stage(self, name: str) -> None:
        """See `Progress`."""
        self._raise_if_cancelled()
        self._writer.write(self._frames.STAGE, name.encode())

    def fraction(self, value: float) -> None:
        """See `Progress`."""
        self._raise_if_cancelled()
        self._writer.write(self._frames.FRACTION, struct.pack("<d", value))

    def partial(self, text: str) -> None:
        """See `Progress`."""
        self._writer.write(self._frames.TEXT, text.encode())

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._writer.write(self._frames.NOTE, text.encode())

    def cancelled(self) -> bool:
        """See `Progress`."""
        return self._cancel.is_set()

    def _raise_if_cancelled(self) -> None:
        if self._cancel.is_set():
            raise self._error()


def listen(stream, requests: queue.SimpleQueue, cancel: threading.Event) -> None:
    """Take frames from the parent as they come; when it goes, end this process whatever it does."""
    from MedFMLib.worker import frames

    try:
        while True:
            kind, payload = frames.read_frame(stream)
            if kind == frames.REQUEST:
                voxels = frames.read_frame(stream)[1]
                cancel.clear()
                requests.put((payload, voxels))
            elif kind == frames.CANCEL:
                cancel.set()
    except (EOFError, OSError):
        os._exit(0)


def serve(stdin, stdout, make_compute) -> None:
    """Run requests one after the other, for ever."""
    from MedFMLib import wire
    from MedFMLib.errors import MedFMError
    from MedFMLib.worker import frames

    writer, requests, cancel = frames.FrameWriter(stdout), queue.SimpleQueue(), threading.Event()
    threading.Thread(target=listen, args=(stdin, requests, cancel), daemon=True).start()
    compute = None
    while True:
        rest, voxels = requests.get()
        try:
            compute = compute or make_compute()
            response = compute(frames.join_request(rest, voxels), Relay(writer, cancel))
            writer.write(frames.DONE, wire.dumps(response, compress=False))
        except MedFMError as error:
            writer.write(frames.ERROR, frames.error_bytes(error))
        except MemoryError:
            text = "The computer ran out of memory; choose a lower precision, fewer slices or a smaller model."
            writer.write(frames.ERROR, frames.error_bytes(MedFMError(text)))
        except Exception as error:
            logging.exception("The job failed")
            text = f"The job failed unexpectedly ({type(error).__name__}: {str(error)[:200]}); the scene is unchanged."
            writer.write(frames.ERROR, frames.error_bytes(MedFMError(text)))


def main() -> None:
    """Keep stdout for frames: what libraries print goes to stderr."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", type=Path, help="folder that has MedFMLib")
    parser.add_argument(
        "--compute", default="MedFMLib.engine:Engine", help="class with `run`, or factory of a function"
    )
    options = parser.parse_args()
    sys.path[:1] = [str(options.library)]  # instead of this file's folder
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    if os.name == "nt":
        import msvcrt

        msvcrt.setmode(stdout.fileno(), os.O_BINARY)
    module, _, name = options.compute.partition(":")

    def make_compute():
        made = getattr(importlib.import_module(module), name)()
        return getattr(made, "run", made)

    serve(sys.stdin.buffer, stdout, make_compute)


if __name__ == "__main__":
    main()

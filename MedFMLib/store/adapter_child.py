"""The process that takes or merges an adapter, so that a program with a window needs no torch and does not freeze.

    python adapter_child.py LIBRARY_FOLDER

One JSON line on stdin: {"do": "import", "path"} or {"do": "merge", "model", "adapter", "target"}; see `child` for the rest.
When its stdin ends, it stops at the next step and tidies up.
"""

from __future__ import annotations

import json
import os
import sys
import threading


class Told:
    """A `Progress` that tells the parent."""

    def __init__(self, stream):
        self._stream, self._stop = stream, threading.Event()

    def tell(self, **content) -> None:
        """One line."""
        self._stream.write(json.dumps(content) + "\n")
        self._stream.flush()

    def stop_with_stdin(self) -> None:
        """Wait for the end of stdin, then stop the work."""
        sys.stdin.read()
        self._stop.set()

    def stage(self, name: str) -> None:
        """See `Progress`."""
        self._step(stage=name)

    def fraction(self, value: float) -> None:
        """See `Progress`."""
        self._step(fraction=value)

    def note(self, text: str) -> None:
        """See `Progress`."""
        self._step(note=text)

    def partial(self, text: str) -> None:
        """See `Progress`."""

    def cancelled(self) -> bool:
        """See `Progress`."""
        return self._stop.is_set()

    def _step(self, **content) -> None:
        from MedFMLib.errors import Cancelled

        if self.cancelled():
            raise Cancelled
        self.tell(**content)


def work(task: dict, progress: Told) -> str:
    """Do what is told; → the adapter's name, or the folder of the merged model."""
    from pathlib import Path

    from MedFMLib import offline, registry
    from MedFMLib.store import adapters

    offline.while_loading()
    if task["do"] == "import":
        return adapters.import_adapter(Path(task["path"]), "", progress)
    return str(adapters.merge_adapter(registry.card(task["model"]), task["adapter"], Path(task["target"]), progress))


def main() -> None:
    """Keep stdout for lines to the parent: what libraries print goes to stderr."""
    sys.path[:1] = [sys.argv[1]]  # instead of this file's folder
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from MedFMLib.errors import MedFMError

    told, task = Told(stdout), json.loads(sys.stdin.readline())
    threading.Thread(target=told.stop_with_stdin, daemon=True).start()
    try:
        told.tell(result=work(task, told))
    except MedFMError as error:
        told.tell(error=str(error))
    except ImportError as error:
        name = (error.name or str(error)).partition(".")[0]
        told.tell(error=f"Adapters need the Python package '{name}', which is missing; install MedFM's packages.")
    except Exception as error:
        told.tell(error=f"It could not be done ({type(error).__name__}: {' '.join(str(error).split())[:300]}).")
    finally:
        os._exit(0)  # without waiting for the thread that reads


if __name__ == "__main__":
    main()

"""One piece of work on a thread of its own, looked at by a timer. Knows no Qt: the GUI thread asks, and never waits."""

from __future__ import annotations

import logging
import threading

from MedFMLib.errors import Cancelled, MedFMError


class BackgroundTask:
    """Starts at once; a `Progress` for the work, and what came of it for whoever looks.

    Args:
        work: called with this object as its progress.
    """

    def __init__(self, work):
        self.name, self.value, self.notes = "", 0.0, []
        self.result, self.error = None, ""
        self._cancel, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._run, args=(work,), name="MedFM errand", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Is there a result or an error?"""
        return self._ended.is_set()

    def cancel(self) -> None:
        """Ask the work to stop; it ends soon after."""
        self._cancel.set()

    def _run(self, work) -> None:
        try:
            self.result = work(self)
        except MedFMError as error:
            self.error = str(error)
        except Exception as error:
            logging.exception("MedFM: an errand failed")
            self.error = f"Something unexpected went wrong ({type(error).__name__}: {error}); see Slicer's log."
        self._ended.set()

    # -- Progress, called by the work -------------------------------------------------------------

    def stage(self, name: str) -> None:
        """See `Progress`."""
        self._raise_if_cancelled()
        self.name = name

    def fraction(self, value: float) -> None:
        """See `Progress`."""
        self._raise_if_cancelled()
        self.value = value

    def partial(self, text: str) -> None:
        """See `Progress`."""

    def note(self, text: str) -> None:
        """See `Progress`."""
        self.notes.append(text)

    def cancelled(self) -> bool:
        """See `Progress`."""
        return self._cancel.is_set()

    def _raise_if_cancelled(self) -> None:
        if self._cancel.is_set():
            raise Cancelled()

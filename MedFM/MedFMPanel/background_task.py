"""Run a task on its own thread, polled by a timer. Knows no Qt: the GUI thread polls, and never waits."""

from __future__ import annotations

import logging
import threading

from MedFMLib.errors import MedFMError
from MedFMLib.guard import PatientLock
from MedFMLib.interfaces.jobs import Event, Fraction, Note, ProgressBase, Stage


class BackgroundTask(ProgressBase):
    """A running task that is also its own `Progress`, with the result or error.

    Args:
        work: called with this object as its progress.
    """

    def __init__(self, work):
        self.name, self.value, self.notes = "", 0.0, []
        self.result, self.error = None, ""
        self._cancel, self._ended = threading.Event(), threading.Event()
        threading.Thread(target=self._run, args=(work,), name="MedFM background task", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether there is a result or an error."""
        return self._ended.is_set()

    def cancel(self) -> None:
        """Ask the task to stop; it ends soon after."""
        self._cancel.set()

    def _run(self, work) -> None:
        try:
            self.result = work(self)
        except MedFMError as error:
            self.error = str(error)
        except Exception as error:
            if PatientLock().on:  # see error_display
                logging.error("MedFM: a background task failed")
            else:
                logging.exception("MedFM: a background task failed")
            self.error = f"An unexpected error occurred ({type(error).__name__}: {error}); see Slicer's log."
        self._ended.set()

    # -- Progress, called by the task -------------------------------------------------------------

    def report(self, event: Event) -> None:
        """Record the latest stage and fraction, and every note."""
        match event:
            case Stage(name):
                self.name = name
            case Fraction(value):
                self.value = value
            case Note(text):
                self.notes.append(text)

    def cancelled(self) -> bool:
        """Implement `Progress.cancelled`."""
        return self._cancel.is_set()

"""Wrap slots so that their errors are shown: PythonQt only prints what a slot raises, so the user would not see it."""

from __future__ import annotations

import functools
import logging

from MedFMLib.errors import MedFMError
from MedFMLib.guard import PatientLock


def shown(method):
    """Return a method as a slot.

    The signal's arguments are dropped, and errors are passed to `self.showError` as one sentence.
    """

    @functools.wraps(method)
    def slot(self, *_arguments):
        try:
            return method(self)
        except MedFMError as error:
            self.showError(str(error))
        except Exception as error:
            if PatientLock().on:  # a message may contain a name or a model's words, and nothing of them goes to the log
                logging.error("MedFM: %s failed", method.__name__)
            else:
                logging.exception("MedFM: %s failed", method.__name__)
            self.showError(f"An unexpected error occurred ({type(error).__name__}: {error}); see Slicer's log.")

    return slot

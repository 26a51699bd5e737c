"""Slots that show their errors: PythonQt prints what a slot raises and goes on, so nobody would see it."""

from __future__ import annotations

import functools
import logging

from MedFMLib.errors import MedFMError


def shown(method):
    """A method as a slot: the signal's arguments are dropped, and errors go to `self.showError` as one sentence."""

    @functools.wraps(method)
    def slot(self, *_arguments):
        try:
            return method(self)
        except MedFMError as error:
            self.showError(str(error))
        except Exception as error:
            logging.exception("MedFM: %s failed", method.__name__)
            self.showError(f"Something unexpected went wrong ({type(error).__name__}: {error}); see Slicer's log.")

    return slot

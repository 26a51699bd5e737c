"""The errors that MedFM shows to people. Knows nothing but words.

    MedFMError
    ├── InputError        what was given can't be used        (exit code 2)
    │   └── OutsideDomain     the model was not made for the image
    ├── ModelError        a model or adapter can't be used    (exit code 3)
    ├── OutputError       a result can't be written           (exit code 4)
    └── Cancelled         a person stopped the job            (exit code 130)

Every message is one sentence or two: what was received, and the next step. The front ends print
`str(error)` as it is; anything that is not a `MedFMError` is a defect of ours.
"""

from __future__ import annotations


class MedFMError(Exception):
    """A problem that a person can act on; `str(error)` says what and how."""

    exit_code = 1


class InputError(MedFMError):
    """An image, prompt, label or option can't be used as given."""

    exit_code = 2


class OutsideDomain(InputError):
    """The model was not made for images like this one, so nothing was drawn; see `Request.outside_domain`."""


class ModelError(MedFMError):
    """A model, adapter or the software it needs can't be used."""

    exit_code = 3


class OutputError(MedFMError):
    """A result can't be written where it was asked for; nothing was replaced."""

    exit_code = 4


class Cancelled(MedFMError):
    """The job was stopped on request; nothing was written."""

    exit_code = 130

    def __init__(self, message: str = "The job was cancelled; nothing was changed."):
        super().__init__(message)

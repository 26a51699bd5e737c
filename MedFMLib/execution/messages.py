"""Convert events and errors to JSON objects and back, for pipes and HTTP alike. Knows no transport."""

from __future__ import annotations

from dataclasses import asdict

from .. import errors
from ..errors import InputError, MedFMError
from ..interfaces.jobs import Event, Fraction, Note, PartialText, Stage, Waiting

EVENTS = {cls.__name__: cls for cls in (Stage, Fraction, PartialText, Note, Waiting)}
"""Every event that is transmitted; the end of a job is transmitted as its response or its error instead."""

ERRORS = {cls.__name__: cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, MedFMError)}


def event_as_json(event: Event) -> dict:
    """Return an event as a JSON object."""
    return {"event": type(event).__name__, **asdict(event)}


def event_from_json(content: dict) -> Event:
    """Return the event that `event_as_json` wrote.

    Raises:
        InputError: if it is not a known event, e.g. of another version.
    """
    try:
        return EVENTS[content["event"]](**{key: value for key, value in content.items() if key != "event"})
    except (KeyError, TypeError) as error:
        raise InputError("The other side sent an event of another version of MedFM; use the same on both.") from error


def error_as_json(error: MedFMError) -> dict:
    """Return an error as a JSON object."""
    return {"error": type(error).__name__, "message": str(error)}


def error_from_json(content: dict) -> MedFMError:
    """Return the error that `error_as_json` wrote; an unknown class becomes `MedFMError` with the same sentence."""
    return ERRORS.get(str(content.get("error")), MedFMError)(str(content.get("message", "")))


def relay(event: Event, progress) -> None:
    """Report a received event to a local job.

    Args:
        event: the event.
        progress: the job, or another `Progress`.

    Raises:
        Cancelled: if the job was cancelled.
    """
    if isinstance(event, Waiting):
        getattr(progress, "waiting", lambda _: None)(event.ahead)
    elif isinstance(event, Stage):
        progress.stage(event.name)
    elif isinstance(event, Fraction):
        progress.fraction(event.value)
    elif isinstance(event, PartialText):
        progress.partial(event.text)
    else:
        progress.note(event.text)

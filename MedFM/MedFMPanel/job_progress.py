"""Show the progress of a running job: its stage, queue position, fraction, remaining time and streamed text."""

from __future__ import annotations

import time

from MedFMLib.core.findings import Part
from MedFMLib.interfaces.jobs import Fraction, Note, PartialText, Stage, Waiting

SHORTEST = 3.0
"""Smallest duration in seconds before the remaining time is shown."""


RESTING = ("volumeSelector", "modelSelector", "adapterSelector", "precisionSelector", "folderButton", "installButton",
           "labelList", "labelFilter", "clearLabelsButton", "freeLabelsEdit", "questionBox", "newConversationButton",
           "advancedButton", "marksSelector", "placeSelector", "testButton", "stopButton")  # fmt: skip
"""Widgets that are disabled while a job runs."""


class TimeLeft:
    """Estimate of a job's remaining time, from the growth of its fraction since the stage began.

    Args:
        clock: monotonic, in seconds.
    """

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._start: tuple[float, float] | None = None

    def begin(self) -> None:
        """Start a stage; measurements of the previous one are discarded."""
        self._start = None

    def at(self, value: float) -> str:
        """Return the remaining time in words at a fraction 0…1; "" while it is unknown."""
        now = self._clock()
        if self._start is None or value < self._start[1]:
            self._start = (now, value)
        passed, grown = now - self._start[0], value - self._start[1]
        if passed < SHORTEST or grown <= 0 or value >= 1:
            return ""
        return f"about {in_words(passed * (1 - value) / grown)} left"


def in_words(seconds: float) -> str:
    """Return a rough duration in words: 5 s, 40 s, 3 min, 2 h."""
    if seconds < 60:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{round(seconds / 3600)} h"


class JobProgress:
    """The part of the panel about the running job.

    Args:
        ui: the panel's widgets by name.
        status: its status line.
        results: receives streamed text of an answer.
    """

    def __init__(self, ui, status, results):
        self._ui, self._status, self._results, self._left = ui, status, results, TimeLeft()

    def begin(self) -> None:
        """Reset at the start of a job."""
        self._left.begin()
        self._ui.progressBar.setValue(0)
        self._ui.progressBar.setFormat("%p%")

    def rest(self, running: bool) -> None:
        """Disable widgets while a job runs, and enable them after it."""
        self._ui.progressBar.visible = running
        for name in RESTING:
            getattr(self._ui, name).enabled = not running

    def show(self, event, task: str) -> None:
        """Show one event other than the job's end.

        Args:
            event: of the job.
            task: its task.
        """
        if self._status.quiet:  # a patient reads no stage, no note and no text that a job sends
            return self._show_quietly(event)
        if isinstance(event, Stage):
            self._left.begin()
            self._status.say(f"{event.name}…", log=True)
        elif isinstance(event, Waiting):
            jobs = "job comes" if event.ahead == 1 else "jobs come"
            self._status.say(f"Waiting: {event.ahead} {jobs} first…" if event.ahead else "Starting…", log=True)
        elif isinstance(event, Fraction):
            left = self._left.at(event.value)
            self._ui.progressBar.setValue(round(100 * event.value))
            self._ui.progressBar.setFormat(f"%p%, {left}" if left else "%p%")
        elif isinstance(event, Note):
            self._status.say(event.text, log=True)
        elif isinstance(event, PartialText) and task == "ask":
            self._results.conversation.write(event.text)
            self._results.show_conversation()

    def _show_quietly(self, event) -> None:
        if isinstance(event, Fraction):
            self._ui.progressBar.setValue(round(100 * min(max(event.value, 0.0), 1.0)))
        elif isinstance(event, Stage | Waiting):
            self._status.show_part(Part("waiting" if isinstance(event, Waiting) and event.ahead else "working"))

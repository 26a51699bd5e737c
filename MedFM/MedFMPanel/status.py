"""Show the status line and the log. Knows its own widgets only."""

from __future__ import annotations

import time

from MedFMLib.core.findings import Part
from MedFMLib.patient import render

TROUBLE, WORKING = Part("trouble"), Part("working")
"""What a patient reads of any problem, and of anything that goes on."""


class Status:
    """The status line and the log.

    Args:
        ui: the panel's widgets by name.
    """

    def __init__(self, ui):
        self._ui = ui
        self._is_problem = self._is_hint = False
        self.quiet = False  # in patient mode: no names, no technical words, no log
        self.render = render  # parts in the patient's language

    def say(self, text: str, *, problem: bool = False, log: bool = False) -> None:
        """Show a sentence in place of the last one; problems are marked and always logged.

        Args:
            text: the sentence.
            problem: whether it is a problem.
            log: whether to log it.
        """
        self._show(self.fit(text, problem), problem)
        if log or problem:
            self.log(text)

    def show_part(self, *parts: Part, problem: bool = False) -> None:
        """Show approved parts, which may be shown in patient mode, too.

        Args:
            *parts: the parts.
            problem: whether they tell of a problem.
        """
        self._show(self.render(parts), problem)

    def _show(self, text: str, problem: bool) -> None:
        self._is_problem, self._is_hint = problem, False
        self._ui.statusLabel.text = f"⚠ {text}" if problem else text

    def fit(self, text: str, problem: bool = False) -> str:
        """Return what may be shown of a text: all of it, or in patient mode an approved part in its place.

        Args:
            text: the sentence.
            problem: whether it is a problem.
        """
        if not self.quiet:
            return text
        return self.render(TROUBLE) if problem else self.render(WORKING) if text.endswith("…") else ""

    def hint(self, text: str) -> None:
        """Show the next step, unless a problem is shown, which the user should be able to read first.

        "" removes the hint.
        """
        if text and not self._is_problem:
            self.say(text)
            self._is_hint = True
        elif not text and self._is_hint:
            self.say("")

    def log(self, text: str) -> None:
        """Add a line with the time to the log; nothing in patient mode."""
        if self.quiet:
            return
        self._ui.logView.appendPlainText(f"{time.strftime('%H:%M:%S')}  {text}")

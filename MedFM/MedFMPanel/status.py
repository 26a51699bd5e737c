"""The line that says what is going on, and the log. Knows its own widgets only."""

from __future__ import annotations

import time


class Status:
    """What a person is told.

    Args:
        ui: the panel's widgets by name.
    """

    def __init__(self, ui):
        self._ui = ui
        self._is_problem = self._is_hint = False

    def say(self, text: str, *, problem: bool = False, log: bool = False) -> None:
        """Show a sentence in place of the last one; problems are marked and always logged."""
        self._is_problem, self._is_hint = problem, False
        self._ui.statusLabel.text = f"⚠ {text}" if problem else text
        if log or problem:
            self.log(text)

    def hint(self, text: str) -> None:
        """Show what to do next, unless a problem is shown, which a person should be able to read first; "" ends it."""
        if text and not self._is_problem:
            self.say(text)
            self._is_hint = True
        elif not text and self._is_hint:
            self.say("")

    def log(self, text: str) -> None:
        """Add a line to the log, with the time."""
        self._ui.logView.appendPlainText(f"{time.strftime('%H:%M:%S')}  {text}")

"""The line that says what is going on, and the log. Knows its own widgets only."""

from __future__ import annotations

import time


TROUBLE = "Something did not work. Please tell the staff."
"""What a patient is told of any problem."""


class Status:
    """What a person is told.

    Args:
        ui: the panel's widgets by name.
    """

    def __init__(self, ui):
        self._ui = ui
        self._is_problem = self._is_hint = False
        self.quiet = False  # a patient is at the screen: no names, no technical words, no log

    def say(self, text: str, *, problem: bool = False, log: bool = False, public: bool = False) -> None:
        """Show a sentence in place of the last one; problems are marked and always logged.

        Args:
            public: it may be shown while the line is quiet.
        """
        text = text if public else self.fit(text, problem)
        self._is_problem, self._is_hint = problem, False
        self._ui.statusLabel.text = f"⚠ {text}" if problem else text
        if log or problem:
            self.log(text)

    def fit(self, text: str, problem: bool = False) -> str:
        """What of a text may be shown: all, or while the line is quiet nothing that could name anybody."""
        if not self.quiet:
            return text
        return TROUBLE if problem else text if text.endswith("…") else ""

    def hint(self, text: str) -> None:
        """Show what to do next, unless a problem is shown, which a person should be able to read first; "" ends it."""
        if text and not self._is_problem:
            self.say(text)
            self._is_hint = True
        elif not text and self._is_hint:
            self.say("")

    def log(self, text: str) -> None:
        """Add a line to the log, with the time; nothing while the line is quiet."""
        if self.quiet:
            return
        self._ui.logView.appendPlainText(f"{time.strftime('%H:%M:%S')}  {text}")

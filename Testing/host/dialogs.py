"""Answers to modal dialogs. A test says beforehand what a person would choose; a dialog nobody expects fails it.

Knows nothing of Qt: whoever opens a dialog asks here first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class UnexpectedDialog(AssertionError):
    """A modal dialog would have opened and waited for ever."""


class Dialogs:
    """The queue of prepared answers and the record of what was asked.

    Args:
        testing: if False, a person is there: dialogs really open.
    """

    def __init__(self, testing: bool):
        self.testing = testing
        self.asked: list[str] = []
        self.opened: list[str] = []  # addresses given to the desktop
        self._answers: deque = deque()

    def answer_next(self, answer) -> None:
        """Prepare the answer to the next dialog."""
        self._answers.append(answer)

    def ask(self, question: str, really: Callable):
        """The prepared answer, or what the real dialog returns.

        Raises:
            UnexpectedDialog: in a test that prepared no answer.
        """
        self.asked.append(question)
        if self._answers:
            return self._answers.popleft()
        if not self.testing:
            return really()
        raise UnexpectedDialog(f"A modal dialog opened that the test did not expect: {question}")

    def forget(self) -> None:
        """Start the next test without answers or record."""
        self.asked.clear()
        self.opened.clear()
        self._answers.clear()

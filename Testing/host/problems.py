"""What went wrong without raising: exceptions in slots, Qt warnings, VTK errors. Knows nothing of widgets or scenes.

In the application an exception inside a slot is printed and swallowed, and VTK errors only reach a log, so
a test would pass over both. Here they are collected; a test that ends with one it did not expect fails.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import vtk
from PySide6 import QtCore

IGNORED_QT_MESSAGES = (
    "This plugin does not support",  # the offscreen platform says so of raise(), grabKeyboard() and others
    "propagateSizeHints",
)

IGNORED_VTK_MESSAGES = (
    # Said once when the hierarchy of an imported scene is merged into the present one; the result is right.
    "GetItemParent: Failed to find subject hierarchy item by ID",
)


class HostProblem(AssertionError):
    """Something that the application would only have printed."""


class Problems:
    """The list of what went wrong, and the patterns of what was expected to.

    Args:
        strict: collect; if False (a person uses the window) everything is printed and nothing kept.
    """

    def __init__(self, strict: bool = True):
        self.strict = strict
        self.seen: list[str] = []
        self._expected: list[tuple[re.Pattern, list[str]]] = []
        self._vtk_tags: list[int] = []
        self._previous_hook = None
        self._previous_qt_handler = None

    # -- collecting ----------------------------------------------------------------------------

    def add(self, text: str) -> None:
        """Keep a problem, unless an enclosing `expected` block waits for it."""
        for pattern, matched in self._expected:
            if pattern.search(text):
                matched.append(text)
                return
        if self.strict:
            self.seen.append(text)
        print(text, file=sys.stderr)

    def add_exception(self, where: str, error: BaseException) -> None:
        """Keep an exception that Qt or VTK would swallow."""
        trace = "".join(traceback.format_exception(error))
        self.add(f"Exception in {where}:\n{trace}")

    @contextmanager
    def expected(self, pattern: str) -> Iterator[list[str]]:
        """Within the block, problems that match the pattern are put in the list this yields.

        Raises:
            HostProblem: if none came; an expectation that never fires hides the next real problem.
        """
        entry = (re.compile(pattern, re.DOTALL), [])
        self._expected.append(entry)
        try:
            yield entry[1]
        finally:
            self._expected.remove(entry)
        if not entry[1]:
            raise HostProblem(f"Expected a problem like {pattern!r}, but none came.")

    def check(self) -> None:
        """Raise and forget what was collected.

        Raises:
            HostProblem: with every problem since the last check.
        """
        seen, self.seen = self.seen, []
        if seen:
            raise HostProblem(f"{len(seen)} problem(s) that the application would only print:\n" + "\n".join(seen))

    # -- where they come from ------------------------------------------------------------------

    def watch(self) -> None:
        """Start listening to Python's last resort hook, Qt's message log and VTK's output window."""
        self._previous_hook, sys.excepthook = sys.excepthook, self._on_exception
        self._previous_qt_handler = QtCore.qInstallMessageHandler(self._on_qt_message)
        self._on_vtk_error.__func__.CallDataType = vtk.VTK_STRING
        window = vtk.vtkOutputWindow.GetInstance()
        self._vtk_tags = [window.AddObserver("ErrorEvent", self._on_vtk_error)]

    def unwatch(self) -> None:
        """Stop listening."""
        if self._previous_hook is None:
            return
        sys.excepthook, self._previous_hook = self._previous_hook, None
        QtCore.qInstallMessageHandler(self._previous_qt_handler)
        for tag in self._vtk_tags:
            vtk.vtkOutputWindow.GetInstance().RemoveObserver(tag)
        self._vtk_tags = []

    def _on_exception(self, kind, error, trace) -> None:
        if isinstance(error, KeyboardInterrupt):
            return self._previous_hook(kind, error, trace)
        return self.add_exception("a callback of Qt or VTK", error)

    def _on_qt_message(self, kind, context, text) -> None:
        if any(part in text for part in IGNORED_QT_MESSAGES):
            return
        if kind in (QtCore.QtMsgType.QtDebugMsg, QtCore.QtMsgType.QtInfoMsg):
            print(text, file=sys.stderr)
        else:
            self.add(f"Qt: {text}")

    def _on_vtk_error(self, caller, event, text="") -> None:
        if not any(part in text for part in IGNORED_VTK_MESSAGES):
            self.add(f"VTK: {text.strip()}")

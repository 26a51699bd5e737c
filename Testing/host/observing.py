"""Observers of VTK objects that end with a widget, as CTK's connections do. Knows no MRML."""

from __future__ import annotations

import weakref

import shiboken6
from PySide6 import QtCore


class Observers:
    """The observations of one widget; they stop when it is deleted, in C++ or in Python.

    Args:
        owner: the widget, not kept alive by what it observes.
    """

    def __init__(self, owner: QtCore.QObject):
        self._owner = weakref.ref(owner)
        self._tags: list[tuple[object, int]] = []
        owner.destroyed.connect(self.clear)

    def add(self, subject, event, method: str) -> None:
        """Call the owner's method, without arguments, at every such event of a VTK object."""
        owner = self._owner

        def call(caller, event):
            widget = owner()
            if widget is not None and shiboken6.isValid(widget):
                getattr(widget, method)()

        self._tags.append((subject, subject.AddObserver(event, call)))

    def clear(self, *_) -> None:
        """End them all."""
        for subject, tag in self._tags:
            subject.RemoveObserver(tag)
        self._tags = []

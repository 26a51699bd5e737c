"""The module `qt`: all of PySide6 in one namespace, with PythonQt's few different functions. Knows no MRML."""

from __future__ import annotations

import importlib
import types

from PySide6 import QtCore, QtGui, QtWidgets

from .pythonqt import Slot
from .ui_loader import UiLoader

PARTS = ("QtCore", "QtGui", "QtWidgets", "QtUiTools", "QtNetwork", "QtSvg", "QtTest", "QtXml")


def build(dialogs) -> types.ModuleType:
    """A new `qt` module whose file and input dialogs ask `dialogs`."""
    module = types.ModuleType("qt", "Qt as PythonQt offers it")
    for part in PARTS:
        try:
            source = importlib.import_module(f"PySide6.{part}")
        except ImportError:
            continue  # an optional part of Qt whose system library is absent
        for name in dir(source):
            if not name.startswith("_"):
                setattr(module, name, getattr(source, name))
    module.QUiLoader = UiLoader
    module.Signal, module.Slot, module.Property = QtCore.Signal, QtCore.Slot, QtCore.Property
    module.QTimer = QTimer
    module.QDesktopServices = _desktop_services(dialogs)
    module.QFileDialog = _file_dialog(dialogs)
    module.QInputDialog = _input_dialog(dialogs)
    return module


class QTimer(QtCore.QTimer):
    """What a single shot raises is collected, like what a slot raises."""

    @staticmethod
    def singleShot(milliseconds: int, function) -> None:
        QtCore.QTimer.singleShot(milliseconds, Slot(function))


def _desktop_services(dialogs) -> type:
    class QDesktopServices(QtGui.QDesktopServices):
        """Opens nothing in a test."""

        @staticmethod
        def openUrl(url) -> bool:
            dialogs.opened.append(url.toString())
            return dialogs.testing or QtGui.QDesktopServices.openUrl(url)

    return QDesktopServices


def _file_dialog(dialogs) -> type:
    plain = QtWidgets.QFileDialog

    class QFileDialog(plain):
        """The static functions return a path, not a pair."""

        @staticmethod
        def getOpenFileName(*arguments):
            return dialogs.ask("open file", lambda: plain.getOpenFileName(*arguments)[0])

        @staticmethod
        def getOpenFileNames(*arguments):
            return dialogs.ask("open files", lambda: tuple(plain.getOpenFileNames(*arguments)[0]))

        @staticmethod
        def getSaveFileName(*arguments):
            return dialogs.ask("save file", lambda: plain.getSaveFileName(*arguments)[0])

        @staticmethod
        def getExistingDirectory(*arguments):
            return dialogs.ask("choose folder", lambda: plain.getExistingDirectory(*arguments))

    return QFileDialog


def _input_dialog(dialogs) -> type:
    plain = QtWidgets.QInputDialog

    class QInputDialog(plain):
        """The static functions return a text, not a pair."""

        @staticmethod
        def getText(*arguments):
            return dialogs.ask("enter text", lambda: plain.getText(*arguments)[0])

    return QInputDialog

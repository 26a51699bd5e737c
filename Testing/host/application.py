"""`slicer.app` and the module manager. Knows where things are kept; the views and logics are made elsewhere."""

from __future__ import annotations

import os
import tempfile

import slicer
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .io_manager import qSlicerCoreIOManager

VERSION = "5.12.0"
"""The Slicer line that the stand-in imitates."""


class CommandOptions(QtCore.QObject):
    """`slicer.app.commandOptions()`."""

    noMainWindow = Property(bool, lambda self: False)


class qSlicerModuleManager(QtCore.QObject):
    """Finds modules by name."""

    moduleAboutToBeUnloaded = Signal(str)
    moduleLoaded = Signal(str)

    def __init__(self):
        super().__init__()
        self.by_name: dict[str, object] = {}

    def module(self, name: str):
        return self.by_name.get(name)

    def modulesNames(self) -> list[str]:
        return list(self.by_name)


class BuiltInModule:
    """A module of the application, of which only the logic exists here."""

    def __init__(self, name: str, logic):
        self.name = name
        self.path = ""
        self._logic = logic

    def logic(self):
        return self._logic


class qSlicerApplication(QtWidgets.QApplication):
    """The one application object.

    Args:
        testing: what `testingEnabled()` says; the real one then skips message boxes.
    """

    startupCompleted = Signal()

    def __init__(self, arguments: list[str], testing: bool):
        super().__init__(arguments)
        self._testing = testing
        self._pauses = 0
        self._temporary = tempfile.TemporaryDirectory(prefix="slicer-stand-in-")
        self._modules = qSlicerModuleManager()
        self._io = qSlicerCoreIOManager()
        self._options = CommandOptions()
        self.parts = None
        self.layout_manager = None
        self.main_window = None
        self.restart_requested = False
        ini = QtCore.QSettings.Format.IniFormat
        QtCore.QSettings.setDefaultFormat(ini)
        QtCore.QSettings.setPath(ini, QtCore.QSettings.Scope.UserScope, self._temporary.name)
        self.setOrganizationName("Stand-in")
        self.setApplicationName("Slicer")
        self.setApplicationVersion(VERSION)

    def mrmlScene(self):
        return slicer.mrmlScene

    def applicationLogic(self):
        return self.parts.application_logic

    def layoutManager(self):
        return self.layout_manager

    def moduleManager(self) -> qSlicerModuleManager:
        return self._modules

    def coreIOManager(self) -> qSlicerCoreIOManager:
        return self._io

    ioManager = coreIOManager

    def mainWindow(self):
        return self.main_window

    def commandOptions(self) -> CommandOptions:
        return self._options

    def testingEnabled(self) -> bool:
        return self._testing

    def userSettings(self) -> QtCore.QSettings:
        return QtCore.QSettings()

    settings = revisionUserSettings = userSettings

    def translate(self, context: str, text: str) -> str:
        return QtCore.QCoreApplication.translate(context, text)

    def pauseRender(self) -> None:
        self._pauses += 1

    def resumeRender(self) -> None:
        self._pauses = max(0, self._pauses - 1)
        if not self._pauses and self.layout_manager is not None:
            for view in self.layout_manager.views():
                view.scheduleRender()

    def is_render_paused(self) -> bool:
        return self._pauses > 0

    def restart(self) -> None:
        self.restart_requested = True

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"https://example.invalid/{name}"

    def startupEnvironment(self) -> dict[str, str]:
        return dict(os.environ)

    applicationName = Property(str, lambda self: "Slicer")
    applicationVersion = Property(str, lambda self: VERSION)
    majorVersion = Property(int, lambda self: 5)
    minorVersion = Property(int, lambda self: 12)
    revision = Property(str, lambda self: "0")
    temporaryPath = Property(str, lambda self: self._temporary.name)
    slicerHome = Property(str, lambda self: self._temporary.name)
    os = Property(str, lambda self: "linux")
    arch = Property(str, lambda self: "amd64")

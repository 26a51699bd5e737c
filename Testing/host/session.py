"""`Host`: puts the stand-in together and drives it. The only file that knows all the others."""

from __future__ import annotations

import importlib
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import slicer
import slicer.util
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from . import ctk_widgets, node_combo_box, pythonqt, qt_module, scripted_module, segmentation_widgets
from .application import BuiltInModule, qSlicerApplication
from .dialogs import Dialogs
from .layout_manager import qSlicerLayoutManager
from .main_window import qSlicerMainWindow
from .packaging import Installer
from .problems import Problems
from .scene_setup import build_scene


class Host:
    """The running stand-in; use `host.install()` to get the one of this process.

    Attributes:
        app, main_window, scene: what `slicer.app`, `slicer.util.mainWindow()`, `slicer.mrmlScene` give.
        problems: exceptions in slots, VTK errors, Qt warnings; `problems.check()` raises them.
        dialogs: answers to modal dialogs.
        installer: the packages that a module asked to install.
    """

    def __init__(self, testing: bool = True):
        self.problems = Problems(strict=testing)
        self.dialogs = Dialogs(testing)
        self.installer = Installer()
        pythonqt.install(self.problems)
        self._add_modules()
        self.app = qSlicerApplication(sys.argv[:1], testing)
        self._use_common_style()
        slicer.app = self.app
        vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)  # `problems` prints what VTK has to say
        self.app.parts = build_scene(self.app.temporaryPath)
        self.scene = self.app.parts.scene
        for name, logic in self.app.parts.logics.items():
            self._add_built_in(name, logic)
        self.app.layout_manager = qSlicerLayoutManager(self.scene, self.app.parts.application_logic)
        self.main_window = qSlicerMainWindow(self.app.layout_manager.viewport())
        self.app.main_window = self.main_window
        self._modules: list = []
        self._closed = False
        self.problems.watch()

    # -- putting it together -------------------------------------------------------------------

    def _add_modules(self) -> None:
        sys.modules["ctk"] = ctk_widgets.build()
        sys.modules["qt"] = qt_module.build(self.dialogs)
        for name in ("modules", "moduleNames"):
            self._add_to_slicer(name, types.ModuleType(f"slicer.{name}"))
        self._add_to_slicer("ScriptedLoadableModule", scripted_module.build_base_module())
        self._add_to_slicer("packaging", self.installer.build_module())
        self._add_to_slicer("i18n", _translation_module())
        for source in (node_combo_box, segmentation_widgets):
            for name in dir(source):
                if name.startswith("qMRML"):
                    setattr(slicer, name, getattr(source, name))
        for name in ("MRMLCore", "MRMLLogic", "MRMLDisplayableManager"):
            sys.modules.setdefault(f"{name}Python", importlib.import_module(f"slicer_core.{name}"))
        slicer.selfTests = {}
        slicer.util.messageBox = self._message_box

    @staticmethod
    def _add_to_slicer(name: str, module: types.ModuleType) -> None:
        sys.modules[f"slicer.{name}"] = module
        setattr(slicer, name, module)

    def _message_box(self, text: str, parent=None, **options):
        button = QtWidgets.QMessageBox.StandardButton.Ok
        return self.dialogs.ask(
            text, lambda: QtWidgets.QMessageBox.information(self.main_window, "Slicer", text) or button
        )

    def _add_built_in(self, name: str, logic) -> None:
        module = BuiltInModule(name, logic)
        self.app.moduleManager().by_name[name] = module
        setattr(slicer.modules, name.lower(), module)
        setattr(slicer.moduleNames, name, name)

    def _use_common_style(self) -> None:
        """The same look everywhere, so that pictures can be compared."""
        self.app.setStyle("Fusion")
        font = QtGui.QFont(self.app.font())
        font.setPointSizeF(9.5)
        self.app.setFont(font)

    # -- driving it ----------------------------------------------------------------------------

    def load_module(self, path):
        """Load a scripted module's file; returns its C++ side, whose `widgetRepresentation().self()` is the panel."""
        module = scripted_module.load_module(Path(path))
        self._modules.append(module)
        return module

    def select_module(self, name: str):
        """Show a module's panel and return its Python widget."""
        self.main_window.moduleSelector().selectModule(name)
        return slicer.app.moduleManager().module(name).widgetRepresentation().self()

    def unload_modules(self) -> None:
        """Clean up every loaded module, as the application does when it ends."""
        self.main_window.forget_module()
        for module in self._modules:
            module.unload()
            self.app.moduleManager().by_name.pop(module.name, None)
        self._modules.clear()
        self.process_events()

    def process_events(self) -> None:
        """Let Qt do what is waiting, deletions included."""
        self.app.processEvents()
        self.app.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 10.0, what: str = "") -> None:
        """Run the event loop until the condition holds.

        Raises:
            TimeoutError: saying what did not happen.
        """
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"After {seconds:g} s still not: {what or condition}")
            loop_once(self.app)

    def run_loop_until(self, condition: Callable[[], bool], seconds: float = 10.0, what: str = "") -> None:
        """As `wait_until`, but in Qt's own event loop, as in the application; for measurements.

        Raises:
            TimeoutError: saying what did not happen.
        """
        loop, end = QtCore.QEventLoop(), time.monotonic() + seconds
        watch = QtCore.QTimer()
        watch.timeout.connect(lambda: loop.quit() if condition() or time.monotonic() > end else None)
        watch.start(20)
        loop.exec()
        watch.stop()
        if not condition():
            raise TimeoutError(f"After {seconds:g} s still not: {what or condition}")

    def render(self) -> None:
        """Render every view now."""
        for view in self.app.layout_manager.views():
            view.forceRender()

    def screenshot(self, path) -> Path:
        """Save a picture of the whole window, views rendered; returns the path."""
        self.main_window.show()
        self.process_events()
        self.render()
        self.process_events()
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self.main_window.grab().save(str(path)):
            raise OSError(f"Could not write the screenshot {path}")
        return path

    def close(self) -> None:
        """Unload the modules, close the scene's views and stop watching. Nothing can be used afterwards."""
        if self._closed:
            return
        self._closed = True
        self.unload_modules()
        self.problems.unwatch()
        self.main_window.hide()
        self.app.layout_manager.close_views()
        self.scene.Clear(1)
        self.process_events()


def loop_once(app: QtCore.QCoreApplication, milliseconds: int = 5) -> None:
    """One turn of the event loop, waiting for events at most this long."""
    app.processEvents(QtCore.QEventLoop.ProcessEventsFlag.AllEvents, milliseconds)
    time.sleep(0.001)  # a worker thread needs the interpreter, too
    app.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)


def _translation_module() -> types.ModuleType:
    """`slicer.i18n`: tr and translate, which here return the text as it is."""
    module = types.ModuleType("slicer.i18n")
    module.tr = lambda text: text
    module.translate = lambda context, text: text
    return module

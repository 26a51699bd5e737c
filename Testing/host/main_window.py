"""The main window: a dock with the chosen module's panel, and the views."""

from __future__ import annotations

import slicer
from PySide6 import QtCore, QtWidgets


class qSlicerModuleSelectorToolBar(QtWidgets.QToolBar):
    """The tool bar that names the chosen module."""

    def __init__(self, window: qSlicerMainWindow):
        super().__init__("Module", window)
        self.setMovable(False)
        self._window = window
        self._box = QtWidgets.QComboBox()
        self._box.setMinimumWidth(180)
        self.addWidget(QtWidgets.QLabel(" Modules: "))
        self.addWidget(self._box)

    def selectModule(self, name: str) -> None:
        self._window.show_module(name)
        if self._box.findText(name) < 0:
            self._box.addItem(slicer.app.moduleManager().module(name).icon, name)
        self._box.setCurrentText(name)


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """Module panel on the left, four views on the right.

    Args:
        views: the layout manager's viewport.
    """

    def __init__(self, views: QtWidgets.QWidget):
        super().__init__()
        self.setObjectName("qSlicerMainWindow")  # slicer.util.mainWindow() looks for it
        self.setWindowTitle("Slicer stand-in (test only)")
        self._selector = qSlicerModuleSelectorToolBar(self)
        self.addToolBar(self._selector)
        self._scroll = QtWidgets.QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        self._scroll.setMinimumWidth(420)
        self._scroll.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        dock = QtWidgets.QDockWidget("Module", self)
        dock.setObjectName("PanelDockWidget")
        dock.setTitleBarWidget(QtWidgets.QWidget(dock))
        dock.setWidget(self._scroll)
        self.addDockWidget(QtCore.Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        self.setCentralWidget(views)
        self._add_file_menu()
        self.statusBar()
        self.resize(1320, 900)
        self._panel = None

    def _add_file_menu(self) -> None:
        """Just enough to use the window by hand."""
        menu = self.menuBar().addMenu("&File")
        menu.addAction("&Load volume…", self._load_volume)
        menu.addAction("&Save scene as…", self._save_scene)
        menu.addAction("&Close scene", lambda: slicer.mrmlScene.Clear(0))
        menu.addAction("E&xit", self.close)

    def _load_volume(self) -> None:
        path, _ = QtWidgets.QFileDialog.getOpenFileName(self, "Load volume")
        if path:
            volume = slicer.util.loadVolume(path)
            slicer.util.setSliceViewerLayers(background=volume, fit=True)

    def _save_scene(self) -> None:
        path, _ = QtWidgets.QFileDialog.getSaveFileName(self, "Save scene", "scene.mrb", "Scenes (*.mrb)")
        if path:
            slicer.util.saveScene(path)

    def moduleSelector(self) -> qSlicerModuleSelectorToolBar:
        return self._selector

    def show_module(self, name: str) -> None:
        """Leave the present module and enter another."""
        if self._panel is not None:
            self._panel.exit()
            self._scroll.takeWidget()
        self._panel = slicer.app.moduleManager().module(name).widgetRepresentation()
        self._scroll.setWidget(self._panel)
        self._panel.show()
        self._panel.enter()

    def forget_module(self) -> None:
        """Leave the present module and show none."""
        if self._panel is not None:
            self._panel.exit()
            self._scroll.takeWidget()
            self._panel = None

"""Slicer's window with its doors closed: no menus, tool bars, other panels, shortcuts, context menus, drops or closing.

Knows Slicer's main window and views; nothing of patients. Every change is undone by `open_doors`, also by another object of this
class, since what was changed is marked on the widget itself.
"""

from __future__ import annotations

import qt
import slicer

SHUT = "MedFMShut"
TITLE = "MedFM"


def _number(flag) -> int:
    """A Qt flag as an int, which it is in PythonQt."""
    return int(getattr(flag, "value", flag))


PLAIN_KEYS = sum(map(_number, (qt.Qt.ShiftModifier, qt.Qt.KeypadModifier, qt.Qt.GroupSwitchModifier)))
"""Modifiers with which letters are typed; others are shortcuts."""


class Kiosk:
    """Closes and opens the doors.

    Args:
        panel: the one that stays in sight.
    """

    def __init__(self, panel):
        self._panel, self._filter = panel, None

    def close_doors(self, volume=None) -> None:
        """Leave the panel and the views alone in the window, and in the views only one volume.

        Args:
            volume: its node; None leaves the views with what they show.
        """
        window = slicer.util.mainWindow()
        if window is not None:
            self._close_window(window)
        for other in qt.QApplication.topLevelWidgets():
            if other.isVisible() and other.inherits("QDialog"):
                other.close()
        self._quiet_views(volume)
        if self._filter is None:
            self._filter = Filter()
            slicer.app.installEventFilter(self._filter)

    def open_doors(self) -> None:
        """Give everything back."""
        self.stop()
        window = slicer.util.mainWindow()
        if window is not None:
            for thing in (*window.findChildren("QWidget"), *window.findChildren("QAction")):
                _open(thing)
            if window.property(SHUT):
                window.setWindowTitle(window.property(SHUT))
                window.setProperty(SHUT, "")
        for controller in _controllers():
            _open(controller)
        _annotate_slices(True)

    def stop(self) -> None:
        """Look at no more events."""
        if self._filter is not None:
            slicer.app.removeEventFilter(self._filter)
            self._filter = None

    def _close_window(self, window) -> None:
        if not window.property(SHUT):
            window.setProperty(SHUT, window.windowTitle)
        window.setWindowTitle(TITLE)  # Slicer's own names the scene's file
        doors = [window.menuBar(), window.statusBar(), *window.findChildren("QToolBar")]
        doors += [dock for dock in window.findChildren("QDockWidget") if not dock.isAncestorOf(self._panel)]
        for door in doors:
            _shut(door, not door.isHidden(), door.hide)
        for action in window.findChildren("QAction"):
            _shut(action, action.isEnabled(), lambda action=action: action.setEnabled(False))

    def _quiet_views(self, volume) -> None:
        """One volume in the slice views, and no names: neither in the controllers above them nor in their corners."""
        if volume is not None:
            slicer.util.setSliceViewerLayers(background=volume, foreground=None, label=None)
        for controller in _controllers():
            _shut(controller, not controller.isHidden(), controller.hide)
        _annotate_slices(False)


class Filter(qt.QObject):
    """Swallows what would open a door: shortcuts, context menus, drops, closing the window."""

    def eventFilter(self, watched, event):
        """True: nobody else gets the event."""
        kind = event.type()
        if kind in (qt.QEvent.ContextMenu, qt.QEvent.Drop, qt.QEvent.DragEnter, qt.QEvent.Shortcut):
            return True
        if kind == qt.QEvent.Close and watched.inherits("QMainWindow"):
            event.ignore()
            return True
        if kind in (qt.QEvent.MouseButtonPress, qt.QEvent.MouseButtonRelease):
            return event.button() == qt.Qt.RightButton
        if kind in (qt.QEvent.KeyPress, qt.QEvent.KeyRelease):
            function = _number(qt.Qt.Key_F1) <= _number(event.key()) <= _number(qt.Qt.Key_F35)
            return function or bool(_number(event.modifiers()) & ~PLAIN_KEYS)
        return False


def _shut(thing, is_open: bool, close) -> None:
    """Close a door that is open, and mark it."""
    if is_open:
        thing.setProperty(SHUT, True)
        close()


def _open(thing) -> None:
    if thing.property(SHUT):
        thing.setProperty(SHUT, False)
        if thing.inherits("QAction"):
            thing.setEnabled(True)
        else:
            thing.show()


def _controllers() -> list:
    """The bars above the views."""
    layout = slicer.app.layoutManager()
    if layout is None:
        return []
    slices = [layout.sliceWidget(name).sliceController() for name in layout.sliceViewNames()]
    return [*slices, *(layout.threeDWidget(n).threeDController() for n in range(layout.threeDViewCount))]


def _annotate_slices(on: bool) -> None:
    """Slicer writes the patient's name and dates into the corners of slices; the module DataProbe does it."""
    probe = getattr(slicer.modules, "DataProbeInstance", None)
    annotations = getattr(getattr(probe, "infoWidget", None), "sliceAnnotations", None)
    if annotations is not None:
        annotations.sliceViewAnnotationsEnabled = on
        annotations.updateSliceViewFromGUI()

"""Restrict Slicer's window to one panel: no menus, tool bars, other panels, shortcuts, context menus, drops or closing.

Knows Slicer's main window and the fields that may be typed into; what the views show is limited by `kiosk_views`. Every change
is undone by `open_doors`, also by another instance of this class, since changes are recorded as properties of the widgets.
"""

from __future__ import annotations

import qt
import slicer

from .kiosk_views import SHUT, ViewLimits

OWN_LAYOUTS, DICOM_LAYOUT = 100, 41
"""First number of layouts defined by modules, and that of the DICOM browser, which lists all patients (vtkMRMLLayoutNode)."""

TITLE = "MedFM"
WIDTH, BEFORE = 560, "MedFMWidthBefore"
"""Smallest width of the panel in pixels, for two columns of large buttons; and the property with the width before."""


def _number(flag) -> int:
    """Return a Qt flag as an int, which it already is in PythonQt."""
    return int(getattr(flag, "value", flag))


PLAIN_KEYS = sum(map(_number, (qt.Qt.ShiftModifier, qt.Qt.KeypadModifier, qt.Qt.GroupSwitchModifier)))
"""Modifiers for typing text; others are used for shortcuts."""


PRESSES = (qt.Qt.Key_Space, qt.Qt.Key_Return, qt.Qt.Key_Enter)
"""Keys that press a button."""

SCROLLS = {
    _number(key): steps
    for key, steps in (
        (qt.Qt.Key_Up, -1), (qt.Qt.Key_Down, 1), (qt.Qt.Key_PageUp, -2), (qt.Qt.Key_PageDown, 2),
    )
}  # fmt: skip
"""Keys that scroll a text, and by how many half pages."""

BLOCKED = (
    qt.QEvent.ContextMenu, qt.QEvent.Drop, qt.QEvent.DragEnter, qt.QEvent.Shortcut, qt.QEvent.ToolTip, qt.QEvent.WhatsThis,
    qt.QEvent.StatusTip,
)  # fmt: skip


ACTIVE = (
    qt.QEvent.MouseButtonPress,
    qt.QEvent.MouseButtonRelease,
    qt.QEvent.KeyPress,
    qt.QEvent.Wheel,
    qt.QEvent.TouchBegin,
    qt.QEvent.InputMethod,
)
"""Events that show that somebody is there."""


class Kiosk:
    """Restricts the window and restores it.

    Args:
        panel: the panel that stays visible.
        fields: its widgets that may be typed into.
        active: called with the receiver and the event whenever somebody touches or types.
        controls: returns the widgets that the Tab key visits, in order.
    """

    def __init__(self, panel, fields=(), active=lambda watched, event: None, controls=lambda: ()):
        self._panel, self._fields, self._filter, self._views = panel, fields, None, ViewLimits()
        self._active, self._controls = active, controls

    def close_doors(self, volume=None) -> None:
        """Show only the panel and the views, and in the views only one volume.

        Args:
            volume: its node; None leaves the views empty.
        """
        window = slicer.util.mainWindow()
        if window is not None:
            self._close_window(window)
        for dock in self._docks():
            if not dock.property(BEFORE):
                dock.setProperty(BEFORE, dock.minimumWidth + 1)
                dock.minimumWidth = WIDTH
        for other in qt.QApplication.topLevelWidgets():
            if other.isVisible() and _is_window_of_its_own(other):
                other.close()
        self._quiet_views()
        self._views.close(volume)
        if self._filter is None:
            self._filter = KioskEventFilter(self._fields, self._active, self._controls)
            slicer.app.installEventFilter(self._filter)

    def open_doors(self) -> None:
        """Undo all restrictions."""
        self.stop()
        self._views.open()
        for dock in self._docks():
            if dock.property(BEFORE):
                dock.minimumWidth = int(dock.property(BEFORE)) - 1
                dock.setProperty(BEFORE, 0)
        window = slicer.util.mainWindow()
        if window is not None:
            for thing in (*window.findChildren("QWidget"), *window.findChildren("QAction")):
                _open(thing)
            if window.property(SHUT):
                window.setWindowTitle(window.property(SHUT))
                window.setProperty(SHUT, "")
        for controller in _controllers():
            _open(controller)
        if getattr(_annotations(), SHUT, False):
            _annotate_slices(True)

    def limit_views(self, volume) -> None:
        """Limit the views again, after something was added.

        Args:
            volume: see `close_doors`.
        """
        self._views.close(volume)

    def stop(self) -> None:
        """Stop filtering events and observing views."""
        self._views.stop()
        if self._filter is not None:
            slicer.app.removeEventFilter(self._filter)
            self._filter = None

    def _docks(self) -> list:
        """Return the dock that the panel is in, if there is one."""
        window = slicer.util.mainWindow()
        docks = window.findChildren("QDockWidget") if window is not None else []
        return [dock for dock in docks if dock.isAncestorOf(self._panel)]

    def _close_window(self, window) -> None:
        if not window.property(SHUT):
            window.setProperty(SHUT, window.windowTitle)
        window.setWindowTitle(TITLE)  # Slicer's own title has the name of the scene's file
        doors = [window.menuBar(), window.statusBar(), *window.findChildren("QToolBar")]
        doors += [dock for dock in window.findChildren("QDockWidget") if not dock.isAncestorOf(self._panel)]
        doors += _surroundings(self._panel)
        for door in doors:
            _shut(door, not door.isHidden(), door.hide)
        for action in window.findChildren("QAction"):
            _shut(action, action.isEnabled(), lambda action=action: action.setEnabled(False))

    def _quiet_views(self) -> None:
        """Leave layouts with tables; no names in the views' controllers and corners."""
        layout = slicer.app.layoutManager()
        own = layout is not None and (layout.layout >= OWN_LAYOUTS or layout.layout == DICOM_LAYOUT)
        if layout is not None and (layout.tableViewCount or layout.plotViewCount or own):
            layout.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)  # tables, and the list of all patients
        for controller in _controllers():
            _shut(controller, not controller.isHidden(), controller.hide)
        annotations = _annotations()
        if annotations is not None and annotations.sliceViewAnnotationsEnabled:
            setattr(annotations, SHUT, True)
            _annotate_slices(False)


class KioskEventFilter(qt.QObject):
    """Lets keys through to some fields only; blocks shortcuts, context menus, tool tips, drops, and closing the window.

    Tab leads through the controls and back, from wherever the focus is, so that it can be caught nowhere. Space and Enter
    press a button, and the arrows scroll a text.

    Args:
        fields: the widgets that may be typed into.
        active: called with the receiver and the event for each touch, key and turn of the wheel.
        controls: see `Kiosk`.
    """

    def __init__(self, fields, active=lambda watched, event: None, controls=lambda: ()):
        qt.QObject.__init__(self)
        self._fields, self._active, self._controls = tuple(fields), active, controls

    def eventFilter(self, watched, event):
        """Return True for a blocked event.

        Args:
            watched: receiver of the event.
            event: Qt event.
        """
        kind = event.type()
        if kind in ACTIVE:
            self._active(watched, event)
        if kind in BLOCKED:
            return True
        if kind == qt.QEvent.Close and (watched.inherits("QMainWindow") or watched.inherits("QDockWidget")):
            event.ignore()
            return True
        if kind in (qt.QEvent.MouseButtonPress, qt.QEvent.MouseButtonRelease, qt.QEvent.MouseButtonDblClick):
            return event.button() == qt.Qt.RightButton
        if kind == qt.QEvent.InputMethod:
            return not self._is_field(watched)
        if kind in (qt.QEvent.KeyPress, qt.QEvent.KeyRelease):
            if not watched.inherits("QWidgetWindow") and self._controlled(watched, event):
                return True
            function = _number(qt.Qt.Key_F1) <= _number(event.key()) <= _number(qt.Qt.Key_F35)
            return function or bool(_number(event.modifiers()) & ~PLAIN_KEYS) or not self._is_field(watched)
        return False

    def _controlled(self, watched, event) -> bool:
        """Do what a key does to the controls; return whether it is one of these keys.

        Args:
            watched: widget that gets the key.
            event: Qt key event.
        """
        key, pressed = _number(event.key()), event.type() == qt.QEvent.KeyPress
        if _number(event.modifiers()) & ~PLAIN_KEYS:
            return False
        if key in (_number(qt.Qt.Key_Tab), _number(qt.Qt.Key_Backtab)):
            back = key == _number(qt.Qt.Key_Backtab) or bool(_number(event.modifiers()) & _number(qt.Qt.ShiftModifier))
            if pressed:
                self._move(watched, -1 if back else 1)
            return True
        if not any(watched == control for control in self._controls()):
            return False
        if watched.inherits("QPushButton") and key in map(_number, PRESSES):
            if pressed and not event.isAutoRepeat():
                watched.click()
            return True
        if watched.inherits("QTextBrowser") and key in SCROLLS:
            if pressed:
                bar = watched.verticalScrollBar()
                bar.setValue(bar.value + SCROLLS[key] * bar.pageStep // 2)
            return True
        return False

    def _move(self, watched, step: int) -> None:
        """Give the focus to the next control, or to the first one."""
        controls = list(self._controls())
        if not controls:
            return
        place = next((n for n, c in enumerate(controls) if c == watched or c.isAncestorOf(watched)), None)
        place = (0 if step > 0 else -1) if place is None else (place + step) % len(controls)
        controls[place].setFocus(qt.Qt.TabFocusReason)

    def _is_field(self, watched) -> bool:
        """Return whether keys may go there; a window with widgets passes them on to one of them, where this is asked again."""
        return watched.inherits("QWidgetWindow") or any(watched == field for field in self._fields)


def _shut(thing, is_open: bool, close) -> None:
    """Close an open element, and record that on it."""
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
    """Return the control bars above the views."""
    layout = slicer.app.layoutManager()
    if layout is None:
        return []
    slices = [layout.sliceWidget(name).sliceController() for name in layout.sliceViewNames()]
    return [*slices, *(layout.threeDWidget(n).threeDController() for n in range(layout.threeDViewCount))]


def _is_window_of_its_own(other) -> bool:
    """Return whether it is a dialog or a window such as the error log; not a popup, nor a dock, which is hidden."""
    passing = (qt.Qt.Popup, qt.Qt.ToolTip, qt.Qt.SplashScreen)
    staying = other.inherits("QMainWindow") or other.inherits("QDockWidget")
    return not staying and _number(other.windowType()) not in map(_number, passing)


def _surroundings(panel) -> list:
    """Return the widgets around the panel in its dock.

    Help with links, developers' buttons, the data probe with names of volumes.
    """
    found, inner = [], panel
    while (outer := inner.parentWidget()) is not None and not inner.inherits("QDockWidget"):
        if not outer.inherits("QMainWindow") and not outer.inherits("QAbstractScrollArea"):  # scroll bars stay visible
            found += [w for w in outer.children() if w.isWidgetType() and w is not panel and not w.isAncestorOf(panel)]
        inner = outer
    return found


def _annotations():
    """Return the object of the module DataProbe that writes the patient's name and dates into slice corners, or None."""
    probe = getattr(slicer.modules, "DataProbeInstance", None)
    return getattr(getattr(probe, "infoWidget", None), "sliceAnnotations", None)


def _annotate_slices(on: bool) -> None:
    annotations = _annotations()
    if annotations is None:
        return
    annotations.sliceViewAnnotationsEnabled = on
    if on and hasattr(
        annotations, "createCornerAnnotations"
    ):  # updating alone adds no observers for views that it knows
        annotations.createCornerAnnotations()
    annotations.updateSliceViewFromGUI()

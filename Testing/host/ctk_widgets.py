"""Stand-ins for the CTK widgets that panels use, as the module `ctk`. Know Qt; nothing of MRML.

Only what has a counterpart in the real widget is public: a property that is missing here is an error in a
test, and so is one that is missing there.
"""

from __future__ import annotations

import types

from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Property, Signal

from .ui_loader import WIDGETS, register

MAXIMUM_HEIGHT = 16777215
"""QWIDGETSIZE_MAX."""


def stored(kind, name: str, default, changed=None) -> Property:
    """A Qt property that is kept and, unless `changed` says how, has no effect here.

    Args:
        kind: C++ type, as `Property` takes it.
        name: the property's name.
        default: its first value.
        changed: called with the widget after a change.
    """

    def read(self):
        return self.__dict__.get(f"_{name}", default)

    def write(self, value):
        self.__dict__[f"_{name}"] = value
        if changed is not None:
            changed(self)

    return Property(kind, read, write)


@register
class ctkCollapsibleButton(QtWidgets.QAbstractButton):
    """A header that hides or shows what is below it."""

    contentsCollapsed = Signal(bool)
    contentsFrameShape = stored(int, "contentsFrameShape", 6)
    contentsLineWidth = stored(int, "contentsLineWidth", 1)
    flat = stored(bool, "flat", False)
    collapsedHeight = stored(int, "collapsedHeight", 10)

    HEADER = 26

    def __init__(self, text="", parent=None):
        if isinstance(text, QtWidgets.QWidget):
            text, parent = "", text
        super().__init__(parent)
        self._collapsed = False
        self._hidden: list[QtWidgets.QWidget] = []
        self.setText(text or "")
        self.setCheckable(True)
        self.setChecked(True)
        self.setContentsMargins(0, self.HEADER, 0, 0)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Preferred, QtWidgets.QSizePolicy.Policy.Preferred)
        self.toggled.connect(lambda on: self.setCollapsed(not on))

    def _is_collapsed(self) -> bool:
        return self._collapsed

    def setCollapsed(self, collapsed) -> None:
        if bool(collapsed) == self._collapsed:
            return
        self._collapsed = bool(collapsed)
        self._show_contents()
        self.setChecked(not self._collapsed)
        self.setMaximumHeight(self.HEADER if self._collapsed else MAXIMUM_HEIGHT)
        self.contentsCollapsed.emit(self._collapsed)
        self.updateGeometry()
        self.update()

    collapsed = Property(bool, _is_collapsed, setCollapsed)

    def ui_loaded(self) -> None:
        """The children of a .ui file come after `collapsed` was set."""
        self._show_contents()

    def _show_contents(self) -> None:
        for child in self.children():
            if not isinstance(child, QtWidgets.QWidget):
                continue
            if self._collapsed and not child.isHidden():
                child.hide()
                self._hidden.append(child)
            elif not self._collapsed and child in self._hidden:
                child.show()
        if not self._collapsed:
            self._hidden.clear()

    def hitButton(self, position) -> bool:
        return position.y() <= self.HEADER

    def sizeHint(self) -> QtCore.QSize:
        return self.minimumSizeHint() if self._collapsed or self.layout() is None else self.layout().sizeHint()

    def minimumSizeHint(self) -> QtCore.QSize:
        if self._collapsed or self.layout() is None:
            return QtCore.QSize(80, self.HEADER)
        return self.layout().minimumSize()

    def paintEvent(self, event) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.rect = QtCore.QRect(0, 0, self.width(), self.HEADER - 2)
        option.state |= QtWidgets.QStyle.StateFlag.State_Raised
        painter.drawControl(QtWidgets.QStyle.ControlElement.CE_PushButtonBevel, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(8, 7, 10, 10)
        element = QtWidgets.QStyle.PrimitiveElement
        painter.drawPrimitive(
            element.PE_IndicatorArrowRight if self._collapsed else element.PE_IndicatorArrowDown, arrow
        )
        flags = QtCore.Qt.AlignmentFlag.AlignVCenter | QtCore.Qt.TextFlag.TextShowMnemonic
        painter.drawText(option.rect.adjusted(26, 0, 0, 0), flags, self.text())


@register
class ctkSliderWidget(QtWidgets.QWidget):
    """A slider and a spin box with one value."""

    STEPS = 1000
    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    pageStep = stored(float, "pageStep", 10.0)
    tracking = stored(bool, "tracking", True)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setRange(0, self.STEPS)
        self._box = QtWidgets.QDoubleSpinBox()
        self._box.setKeyboardTracking(False)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._box.valueChanged.connect(self._on_box)
        self._slider.sliderMoved.connect(self._on_slider)

    def _on_box(self, value: float) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        self._slider.setValue(round(self.STEPS * (value - low) / (high - low)) if high > low else 0)
        self.valueChanged.emit(value)

    def _on_slider(self, step: int) -> None:
        low, high = self._box.minimum(), self._box.maximum()
        self._box.setValue(low + (high - low) * step / self.STEPS)

    def setValue(self, value) -> None:
        self._box.setValue(float(value))

    def setMinimum(self, value) -> None:
        self._box.setMinimum(float(value))

    def setMaximum(self, value) -> None:
        self._box.setMaximum(float(value))

    def setRange(self, low, high) -> None:
        self._box.setRange(float(low), float(high))

    def setDecimals(self, count) -> None:
        self._box.setDecimals(int(count))

    value = Property(float, lambda self: self._box.value(), setValue)
    minimum = Property(float, lambda self: self._box.minimum(), setMinimum)
    maximum = Property(float, lambda self: self._box.maximum(), setMaximum)
    decimals = Property(int, lambda self: self._box.decimals(), setDecimals)
    singleStep = Property(float, lambda self: self._box.singleStep(), lambda self, v: self._box.setSingleStep(v))
    suffix = Property(str, lambda self: self._box.suffix(), lambda self, v: self._box.setSuffix(v))


@register
class ctkRangeWidget(QtWidgets.QWidget):
    """Two spin boxes, the lower and the upper end of a range."""

    valuesChanged = Signal(float, float)
    minimumValueChanged = Signal(float)
    maximumValueChanged = Signal(float)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._low, self._high = QtWidgets.QDoubleSpinBox(), QtWidgets.QDoubleSpinBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for box in (self._low, self._high):
            layout.addWidget(box)
        self._low.valueChanged.connect(self._on_low)
        self._high.valueChanged.connect(self._on_high)

    def _on_low(self, value: float) -> None:
        if value > self._high.value():
            self._high.setValue(value)
        self.minimumValueChanged.emit(value)
        self.valuesChanged.emit(value, self._high.value())

    def _on_high(self, value: float) -> None:
        if value < self._low.value():
            self._low.setValue(value)
        self.maximumValueChanged.emit(value)
        self.valuesChanged.emit(self._low.value(), value)

    def setRange(self, low, high) -> None:
        for box in (self._low, self._high):
            box.setRange(float(low), float(high))

    def setValues(self, low, high) -> None:
        self._low.setValue(float(low))
        self._high.setValue(float(high))

    def _set_both(self, setter: str, value) -> None:
        for box in (self._low, self._high):
            getattr(box, setter)(value)

    minimum = Property(float, lambda self: self._low.minimum(), lambda self, v: self._set_both("setMinimum", v))
    maximum = Property(float, lambda self: self._low.maximum(), lambda self, v: self._set_both("setMaximum", v))
    minimumValue = Property(float, lambda self: self._low.value(), lambda self, v: self._low.setValue(v))
    maximumValue = Property(float, lambda self: self._high.value(), lambda self, v: self._high.setValue(v))
    decimals = Property(int, lambda self: self._low.decimals(), lambda self, v: self._set_both("setDecimals", v))
    singleStep = Property(
        float, lambda self: self._low.singleStep(), lambda self, v: self._set_both("setSingleStep", v)
    )


@register
class ctkPathLineEdit(QtWidgets.QWidget):
    """A path with a button to choose it."""

    Dirs, Files, Readable, Writable, Executable = 0x1, 0x2, 0x10, 0x20, 0x40
    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)
    filters = stored(int, "filters", 0)
    nameFilters = stored("QStringList", "nameFilters", [])
    settingKey = stored(str, "settingKey", "")
    label = stored(str, "label", "")
    showHistoryButton = stored(bool, "showHistoryButton", True)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._edit = QtWidgets.QComboBox()
        self._edit.setEditable(True)
        self._edit.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
        self._button = QtWidgets.QToolButton()
        self._button.setText("…")
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit, 1)
        layout.addWidget(self._button)
        self._edit.editTextChanged.connect(self.currentPathChanged)

    def setCurrentPath(self, path) -> None:
        self._edit.setEditText(str(path))

    def addCurrentPathToHistory(self) -> None:
        self._edit.addItem(self._edit.currentText())

    currentPath = Property(str, lambda self: self._edit.currentText(), setCurrentPath)


@register
class ctkComboBox(QtWidgets.QComboBox):
    """A combo box with a text for no choice."""

    defaultText = Property(str, lambda self: self.placeholderText(), lambda self, text: self.setPlaceholderText(text))


@register
class ctkSearchBox(QtWidgets.QLineEdit):
    """A line edit with a magnifying glass and a button that clears it."""

    showSearchIcon = stored(bool, "showSearchIcon", False)
    alwaysShowClearIcon = stored(bool, "alwaysShowClearIcon", False)

    def __init__(self, parent=None):
        super().__init__(parent)
        self.setClearButtonEnabled(True)


@register
class ctkMenuButton(QtWidgets.QPushButton):
    """A button with a separate arrow for its menu."""


@register
class ctkMessageBox(QtWidgets.QMessageBox):
    """A message box with a "don't show again" option."""

    dontShowAgainSettingsKey = stored(str, "dontShowAgainSettingsKey", "")
    dontShowAgainVisible = stored(bool, "dontShowAgainVisible", False)


def build() -> types.ModuleType:
    """A new module `ctk` with every class above."""
    module = types.ModuleType("ctk", "CTK widgets as PythonQt offers them")
    for name, class_ in WIDGETS.items():
        if name.startswith("ctk"):
            setattr(module, name, class_)
    return module

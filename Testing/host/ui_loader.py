"""Loads .ui files strictly: an unknown class, property, signal or slot is an error. Knows the stand-in classes by name.

Qt's own loader replaces what it doesn't know by a plain QWidget and keeps unknown properties as dynamic
ones, so a misspelt name would go unnoticed until somebody opens the panel in the application.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import pythonqt

WIDGETS: dict[str, type] = {}
"""Class name in a .ui file → our class; the ctk and MRML modules add theirs."""


class UiError(RuntimeError):
    """The .ui file names something that does not exist."""


def register(class_: type) -> type:
    """Class decorator: make a stand-in available to .ui files under its own name."""
    WIDGETS[class_.__name__] = class_
    return class_


class UiLoader(QtUiTools.QUiLoader):
    """`qt.QUiLoader` for the code under test."""

    def createWidget(self, class_name: str, parent=None, name: str = ""):
        if class_name in WIDGETS:
            widget = WIDGETS[class_name](parent)
            widget.setObjectName(name)
            return widget
        return super().createWidget(class_name, parent, name)

    def load(self, device, parent=None) -> QtWidgets.QWidget:
        """The root widget of an open QFile, or of a path.

        Raises:
            UiError: naming every unknown class, property, signal and slot of the file.
        """
        path = Path(device.fileName() if hasattr(device, "fileName") else str(device))
        tree = ElementTree.parse(path).getroot()
        self._check_classes(path, tree)
        connections = _take_connections(tree)
        delayed = _take_enums_of_stand_ins(tree)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        root = super().load(buffer, parent)
        if root is None:
            raise UiError(f"{path.name}: {self.errorString()}")
        _apply_enums(root, delayed)
        problems = _unknown_properties(root, tree) + _make_connections(root, connections)
        if problems:
            raise UiError(f"{path.name}: " + "; ".join(problems))
        _tell_loaded(root)
        return root

    def _check_classes(self, path: Path, tree) -> None:
        known = set(WIDGETS) | set(self.availableWidgets()) | {"Line"}
        unknown = sorted({w.get("class") for w in tree.iter("widget")} - known)
        if unknown:
            raise UiError(f"{path.name}: unknown widget class {', '.join(unknown)}")
        declared = {c.findtext("class") for c in tree.iter("customwidget")}
        undeclared = sorted({w.get("class") for w in tree.iter("widget")} & set(WIDGETS) - declared)
        if undeclared:
            raise UiError(f"{path.name}: not declared under <customwidgets>: {', '.join(undeclared)}")


def _take_connections(tree) -> list[tuple[str, str, str, str]]:
    """(sender, signal, receiver, slot) of the file, removed from it: Qt's loader can't make those of our classes."""
    found = [
        tuple(c.findtext(part) for part in ("sender", "signal", "receiver", "slot")) for c in tree.iter("connection")
    ]
    for element in tree.findall("connections"):
        tree.remove(element)
    return found


def _make_connections(root, connections) -> list[str]:
    problems = []
    for sender, signal, receiver, slot in connections:
        source, target = _find(root, sender), _find(root, receiver)
        if source is None or target is None:
            problems.append(f"connection between '{sender}' and '{receiver}': no such object")
            continue
        found = pythonqt.find_signal(source, signal)
        function = getattr(target, slot.partition("(")[0], None)
        if found is None:
            problems.append(f"'{sender}' ({type(source).__name__}) has no signal {signal}")
        elif function is None:
            problems.append(f"'{receiver}' ({type(target).__name__}) has no slot {slot}")
        else:
            found[0].connect(function)
    return problems


def _find(root, name: str):
    return root if root.objectName() == name else root.findChild(QtCore.QObject, name)


def _take_enums_of_stand_ins(tree) -> list[tuple[str, str, str, str]]:
    """(widget, class, property, text) of <enum> and <set> values of our classes, which Qt's loader can't read."""
    delayed = []
    for element in tree.iter("widget"):
        class_name = element.get("class")
        for prop in list(element.findall("property")) if class_name in WIDGETS else ():
            text = prop.findtext("enum") or prop.findtext("set")
            if text and text.startswith(f"{class_name}::"):
                delayed.append((element.get("name"), class_name, prop.get("name"), text))
                element.remove(prop)
    return delayed


def _apply_enums(root, delayed) -> None:
    for name, class_name, prop, text in delayed:
        value = 0
        for part in text.split("|"):
            value |= int(getattr(WIDGETS[class_name], part.rpartition("::")[2]))
        setattr(_find(root, name), prop, value)


def _unknown_properties(root, tree) -> list[str]:
    problems = []
    for element in tree.iter("widget"):
        widget = _find(root, element.get("name"))
        if widget is None or element.get("class") == "Line":
            continue
        for prop in element.findall("property"):
            name = prop.get("name")
            if prop.get("stdset") != "0" and widget.metaObject().indexOfProperty(name) < 0:
                problems.append(f"'{element.get('name')}' ({element.get('class')}) has no property {name}")
    return problems


def _tell_loaded(root) -> None:
    """Stand-ins that must know when their children are complete have a method `ui_loaded`."""
    for widget in [root, *root.findChildren(QtWidgets.QWidget)]:
        if hasattr(widget, "ui_loaded"):
            widget.ui_loaded()

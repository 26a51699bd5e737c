"""Keep widgets and parameters equal, in both directions. Accesses widgets by their properties only."""

from __future__ import annotations

from contextlib import contextmanager


class WidgetKind:
    """Signal, reader and writer of one kind of widget."""

    def __init__(self, signal: str, read, write):
        self.signal, self.read, self.write = signal, read, write


def _choose_data(combo, value) -> None:
    combo.setCurrentIndex(max(0, combo.findData(value)))


def _set_text(edit, value) -> None:
    if edit.text != value:  # setting the same text would move the cursor
        edit.text = value


def _set_edit_text(combo, value) -> None:
    if combo.currentText != value:
        combo.setEditText(value)


NODE = WidgetKind("currentNodeChanged(vtkMRMLNode*)", lambda w: w.currentNode(), lambda w, v: w.setCurrentNode(v))
CHOICE = WidgetKind("currentIndexChanged(int)", lambda w: w.currentData or "", _choose_data)
NUMBER = WidgetKind("valueChanged(int)", lambda w: int(w.value), lambda w, v: w.setValue(v))
FLAG = WidgetKind("toggled(bool)", lambda w: bool(w.checked), lambda w, v: w.setChecked(v))
LINE = WidgetKind("textChanged(QString)", lambda w: w.text, _set_text)
EDITABLE = WidgetKind("editTextChanged(QString)", lambda w: w.currentText, _set_edit_text)


BOUND = {
    "volume": ("volumeSelector", NODE),
    "region": ("regionSelector", NODE),
    "marks": ("marksSelector", NODE),
    "target": ("targetSelector", NODE),
    "model": ("modelSelector", CHOICE),
    "adapter": ("adapterSelector", CHOICE),
    "precision": ("precisionSelector", CHOICE),
    "plane": ("planeSelector", CHOICE),
    "template": ("templateSelector", CHOICE),
    "indication": ("indicationEdit", LINE),
    "comparison": ("comparisonEdit", LINE),
    "with_healthy": ("withHealthyCheck", FLAG),
    "freeLabels": ("freeLabelsEdit", LINE),
    "question": ("questionBox", EDITABLE),
    "firstSlice": ("firstSlice", NUMBER),
    "lastSlice": ("lastSlice", NUMBER),
    "sliceStep": ("sliceStep", NUMBER),
    "maxTokens": ("maxTokens", NUMBER),
    "refine": ("refineCheck", FLAG),
    "reliability": ("reliabilitySelector", CHOICE),
}
"""Parameter → its widget's name and kind. The task and the checked structures are handled by their own classes."""


class Bindings:
    """Connections of parameters and widgets.

    Args:
        ui: the panel's widgets by name.
        changed: called with the parameter's name after the user changed a widget and the parameter was set.
        bound: parameter → (widget name, kind).
        takes: returns whether a widget's value may be written to the parameter; always by default.
    """

    def __init__(self, ui, changed, bound=BOUND, takes=lambda name: True):
        self._takes = takes
        self._bound = {name: (getattr(ui, widget), kind) for name, (widget, kind) in bound.items()}
        self._changed = changed
        self._busy = False
        self.parameters = None
        for name, (widget, kind) in self._bound.items():
            widget.connect(kind.signal, self._saver(name))

    @contextmanager
    def paused(self):
        """Ignore changes of widgets within the block, e.g. while a list is refilled."""
        busy, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = busy

    def show(self) -> None:
        """Write the parameters to the widgets."""
        if self.parameters is None or self._busy:
            return
        with self.paused():
            for name, (widget, kind) in self._bound.items():
                kind.write(widget, getattr(self.parameters, name))

    def save(self) -> None:
        """Write all widgets to the parameters, e.g. after a list was refilled."""
        if self.parameters is None:
            return
        with self.paused():
            for name, (widget, kind) in self._bound.items():
                if self._takes(name):
                    setattr(self.parameters, name, kind.read(widget))

    def _saver(self, name: str):
        def save():
            if self._busy or self.parameters is None or not self._takes(name):
                return
            with self.paused():
                widget, kind = self._bound[name]
                setattr(self.parameters, name, kind.read(widget))
            self._changed(name)

        return save

"""Select structures to segment: check, search, type names for a model without a list, or use markups."""

from __future__ import annotations

import qt


FREE_NAMES = "Structures, separated by commas: liver, left kidney"
FREE_TIP = "This model takes any name: type the structures, separated by commas."
MARKED_NAME = "Its name (optional): liver"
MARKED_TIP = "Name of the new segment; by default that of the markup."
UNMARKED = (
    "This model segments from prompts: place a point in the structure, or draw a box around it, and choose it above."
)


class StructureList:
    """The Segment tab.

    Args:
        ui: the panel's widgets by name.
        changed: called after the user checked or unchecked a structure.
    """

    def __init__(self, ui, changed):
        self._list, self._filter, self._all = ui.labelList, ui.labelFilter, ui.clearLabelsButton
        self._free, self._hint = ui.freeLabelsEdit, ui.labelHint
        self._marks, self._marks_label = ui.marksSelector, ui.marksLabel
        self._changed, self._filling, self._outlines = changed, False, False
        self._list.connect("itemChanged(QListWidgetItem*)", self._on_item_changed)
        self._filter.connect("textChanged(QString)", self._on_filter_changed)
        self._all.connect("clicked(bool)", self._on_all)
        self._free.connect("textChanged(QString)", self.show_hint)
        self._marks.connect("currentNodeChanged(vtkMRMLNode*)", self.show_hint)

    def show(self, known, ticked, outlines=False) -> None:
        """List a model's structures in its order; for a model without a list, show the line for free names.

        Args:
            known: the model's structures.
            ticked: those that are checked.
            outlines: whether the model segments from points and boxes; the markup is then selected here, and a name is
                optional.
        """
        self._outlines, self._filling = outlines, True
        self._marks.visible = self._marks_label.visible = outlines
        self._free.placeholderText = MARKED_NAME if outlines else FREE_NAMES
        self._free.toolTip = MARKED_TIP if outlines else FREE_TIP
        self._list.clear()
        for row, label in enumerate(known):
            self._list.addItem(label)
            item = self._list.item(row)  # created in C++, so that Python doesn't own and delete it
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
            item.setCheckState(qt.Qt.Checked if label in ticked else qt.Qt.Unchecked)
        self._filling = False
        for widget in (self._list, self._filter, self._all):
            widget.visible = bool(known)
        self._free.visible = not known
        self._on_filter_changed()
        self.show_hint()

    @property
    def ticked(self) -> tuple[str, ...]:
        """Checked names, in the order of the list."""
        return tuple(item.text() for item in self._items() if item.checkState() == qt.Qt.Checked)

    @property
    def typed(self) -> tuple[str, ...]:
        """Names on the line for free names."""
        return tuple(name.strip() for name in self._free.text.split(",") if name.strip())

    def show_hint(self) -> None:
        """Show what the Segment button will segment."""
        count = self._list.count
        if self._outlines:
            marks = self._marks.currentNode()
            name = ", ".join(self.typed) or "the marked structure"
            self._hint.text = f"To segment: {name}, by '{marks.GetName()}'." if marks is not None else UNMARKED
        elif count:
            every = f"all {count} structures; check boxes to select some"
            self._hint.text = f"To segment: {', '.join(self.ticked) or every}."
        else:
            typed = ", ".join(self.typed)
            self._hint.text = f"To segment: {typed}." if typed else "This model takes any name: type at least one."

    def _items(self) -> list:
        return [self._list.item(row) for row in range(self._list.count)]

    def _on_item_changed(self) -> None:
        if not self._filling:
            self.show_hint()
            self._changed()

    def _on_filter_changed(self) -> None:
        wanted = self._filter.text.lower()
        for item in self._items():
            item.setHidden(wanted not in item.text())

    def _on_all(self) -> None:
        for item in self._items():
            item.setCheckState(qt.Qt.Unchecked)

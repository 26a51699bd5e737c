"""Make the panel's tabs and option widgets from the descriptions of tasks (`TASK`). Knows no task by name.

A task whose page is in the .ui file gets widgets for its own options at the end of that page; any other task with a tab gets
a page of its own. Values are stored as JSON in the parameter `options`: {task: {option: value}}.
"""

from __future__ import annotations

import json

import qt
from MedFMLib.interfaces import registry


def tasks() -> list:
    """Return the tasks that have a tab, in the order of their tabs."""
    return sorted((task for task in registry.tasks().values() if task.tab), key=lambda task: (task.tab, task.name))


class TaskTabs:
    """The tabs of the panel.

    Args:
        ui: the panel's widgets by name.
        changed: called after the user changed an option.
    """

    def __init__(self, ui, changed):
        self._tabs, self._changed, self._busy = ui.taskTabs, changed, False
        self.tasks = tasks()
        self.parameters = None
        self._widgets = {}
        for task in self.tasks:
            page = getattr(ui, f"{task.name}Tab", None)
            if page is None:
                page = qt.QWidget()
                page.setLayout(qt.QVBoxLayout())
                summary = qt.QLabel(task.summary)
                summary.wordWrap = True
                page.layout().addWidget(summary)
                self._tabs.addTab(page, task.title)
            for option in task.options:
                self._add(task, option, page.layout())

    def index(self, name: str) -> int:
        """Return the number of a task's tab; the first one for a task without a tab."""
        return next((number for number, task in enumerate(self.tasks) if task.name == name), 0)

    def name(self, index: int) -> str:
        """Return the task of a tab."""
        return self.tasks[index].name

    def button(self, name: str) -> str:
        """Return the text of the button that starts a task."""
        return self.tasks[self.index(name)].button

    def options(self, name: str) -> dict:
        """Return the stored values of a task's options."""
        return self._stored().get(name, {})

    def show(self) -> None:
        """Write the stored values to the widgets."""
        self._busy = True
        for (task, option), (_, write) in self._widgets.items():
            write(self.options(task).get(option.name, option.default))
        self._busy = False

    def _stored(self) -> dict:
        try:
            content = json.loads(self.parameters.options) if self.parameters is not None else {}
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def _save(self) -> None:
        if self._busy or self.parameters is None:
            return
        stored: dict = {}
        for (task, option), (read, _) in self._widgets.items():
            stored.setdefault(task, {})[option.name] = read()
        self.parameters.options = json.dumps(stored)
        self._changed()

    def _add(self, task, option, layout) -> None:
        widget, signal, read, write = _widget(option)
        widget.objectName = f"{task.name}_{option.name}"
        widget.toolTip = option.help
        self._widgets[task.name, option] = read, write
        write(option.default)
        widget.connect(signal, self._save)
        if isinstance(option.default, bool):
            layout.addWidget(widget)
            return
        row, label = qt.QHBoxLayout(), qt.QLabel(f"{option.label}:")
        row.addWidget(label)
        row.addWidget(widget, 1)
        layout.addLayout(row)


def _widget(option):
    """Return (widget, signal, function that reads it, function that writes it)."""
    kind = type(option.default)
    if kind is bool:
        box = qt.QCheckBox(option.label)
        return box, "toggled(bool)", lambda: bool(box.checked), box.setChecked
    if kind is int:
        spin = qt.QSpinBox()
        spin.setRange(-(10**6), 10**6)
        return spin, "valueChanged(int)", lambda: int(spin.value), spin.setValue
    if kind is float:
        spin = qt.QDoubleSpinBox()
        spin.setRange(-1e6, 1e6)
        return spin, "valueChanged(double)", lambda: float(spin.value), spin.setValue
    if option.choices:
        combo = qt.QComboBox()
        for choice in option.choices:
            combo.addItem(choice, choice)
        return (
            combo,
            "currentIndexChanged(int)",
            lambda: str(combo.currentText),
            lambda value: combo.setCurrentIndex(max(0, combo.findData(value))),
        )
    line = qt.QLineEdit()
    return line, "textChanged(QString)", lambda: str(line.text), line.setText

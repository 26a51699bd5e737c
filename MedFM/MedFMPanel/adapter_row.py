"""Manage adapters in the models window: import the user's own, and merge one into a model. Knows no Slicer.

Both run in a subprocess, with the Python for computation, so that the panel needs no torch and stays responsive.
"""

from __future__ import annotations

import qt
from MedFMLib import environment
from MedFMLib.model_store import adapters_in_subprocess

from .error_display import shown

BUTTONS = (
    ("merge", "Merge into the model…", "Write the chosen model with this adapter merged in, as a separate model."),
    ("zip", "Import adapter zip…", "Install an adapter from a zip exported by MedFM."),
    ("folder", "Import adapter folder…", "Install a LoRA adapter from an exported folder, or from one saved by PEFT."),
)


class AdapterRow:
    """Widgets for adapters, with their actions.

    Args:
        layout: of the window; a row is added to it.
        window: a `ModelsWindow`, which runs background tasks and shows messages.
        offered: called with a model's id; returns the names of adapters that can be merged into it.
    """

    def __init__(self, layout, window, offered):
        self._window, self._offered = window, offered
        row = qt.QHBoxLayout()
        self.selector = qt.QComboBox()
        self.selector.toolTip = "Adapters of the chosen model: those it comes with, and your own."
        self.selector.setMinimumWidth(160)
        row.addWidget(qt.QLabel("Adapter"))
        row.addWidget(self.selector)
        self.buttons = {}
        for name, text, tip in BUTTONS:
            if name == "zip":
                row.addStretch(1)
            button = self.buttons[name] = qt.QPushButton(text)
            button.toolTip = tip
            button.setAutoDefault(False)
            button.connect("clicked(bool)", getattr(self, f"on_{name}"))
            row.addWidget(button)
        layout.addLayout(row)

    def show(self, model: str, usable: bool, busy: bool) -> None:
        """Enable the actions that are possible for a model.

        Args:
            model: its id, "" if none is selected.
            usable: whether it is installed and of an architecture that MedFM loads.
            busy: whether a background task is running.
        """
        names = self._offered(model) if usable else []
        if names != [self.selector.itemText(n) for n in range(self.selector.count)]:
            self.selector.clear()
            self.selector.addItems(names)
        self.selector.enabled = bool(names) and not busy
        self.buttons["merge"].enabled = bool(names) and not busy
        self.buttons["zip"].enabled = self.buttons["folder"].enabled = not busy

    def showError(self, text):
        self._window.showError(text)

    @shown
    def on_zip(self):
        path = qt.QFileDialog.getOpenFileName(self._window.dialog, "Import an adapter", "", "Exported adapter (*.zip)")
        self._import(path)

    @shown
    def on_folder(self):
        self._import(qt.QFileDialog.getExistingDirectory(self._window.dialog, "Folder with an adapter"))

    def _import(self, path) -> None:
        if path:
            self._window.start(
                lambda p: adapters_in_subprocess.import_adapter(path, p, environment.interpreter()), self._imported
            )

    def _imported(self, name, _) -> None:
        self._window.came(
            name, f"The adapter {name} is installed; select it together with a model that it was trained for."
        )

    @shown
    def on_merge(self):
        model, adapter = self._window.chosen, self.selector.currentText
        target = qt.QFileDialog.getExistingDirectory(self._window.dialog, "Folder to put the merged model into")
        if target:
            self._window.start(
                lambda p: adapters_in_subprocess.merge_adapter(model, adapter, target, p, environment.interpreter()),
                self._merged,
            )

    def _merged(self, path, _) -> None:
        self._window.say(f"Wrote {path}. “Import folder…” adds it to this list.")

"""Build the widgets of the fine-tuning window, and read the settings from them. Knows Qt; starts nothing."""

from __future__ import annotations

import qt
from MedFMLib.errors import InputError
from MedFMLib.training.finetune.settings import TrainingSettings

WIDTH, HEIGHT = 760, 760
BUTTONS = (
    ("folder", "Choose…", "An existing data set."),
    ("build", "Build from a folder…", "Make a data set from a site's files: counted, split by patient, checked."),
    ("collect", "Collect this case", "Add the chosen volume with its corrected segments and answers to the folder."),
    ("estimate", "Estimate", "Memory and time on this computer, with a dry run of two passes; nothing is written."),
    ("train", "Train", "Train, evaluate on held-out patients, and add the adapter to the list."),
    ("pause", "Pause", "After this step; everything is saved first."),
    ("stop", "Stop and keep", "After this step; the adapter trained so far is evaluated and kept."),
    ("resume", "Resume", "Continue the training of this name, also after a crash."),
    ("card", "Open its card", "Before and after, safety, calibration: as an HTML page."),
    ("use", "Use it", "Choose it in the panel, without loading the model again."),
)


class FineTuneForm:
    """The window and its widgets.

    Args:
        parent: Slicer's main window.
    """

    def __init__(self, parent):
        self.dialog = qt.QDialog(parent)
        self.dialog.setWindowTitle("Fine-tune")
        self.dialog.resize(WIDTH, HEIGHT)
        self.buttons = {}
        for name, text, tip in BUTTONS:
            button = self.buttons[name] = qt.QPushButton(text)
            button.toolTip = tip
            button.setAutoDefault(False)
        layout = qt.QVBoxLayout(self.dialog)
        for title, rows in (
            ("1. Data", self._data_rows()), ("2. Plan", self._plan_rows()), ("3. Train", self._train_rows()),
            ("4. Card", [self._row("card", "use")]),
        ):  # fmt: skip
            group = qt.QGroupBox(title)
            inner = qt.QVBoxLayout(group)
            for row in rows:
                inner.addLayout(row)
            layout.addWidget(group)
        self.status, self.warning, self.plot = qt.QLabel(), qt.QLabel(), qt.QLabel()
        for label in (self.status, self.warning):
            label.wordWrap = True
        self.warning.setTextFormat(qt.Qt.RichText)
        self.bar = qt.QProgressBar()
        for widget in (self.status, self.warning, self.bar, self.plot):
            layout.addWidget(widget)
        layout.addStretch(1)

    def _row(self, *parts):
        row = qt.QHBoxLayout()
        for part in parts:
            row.addWidget(
                self.buttons[part] if part in self.buttons else qt.QLabel(part) if isinstance(part, str) else part
            )
        return row

    def _data_rows(self):
        self.data, self.patient, self.cases = qt.QLineEdit(), qt.QLineEdit(), qt.QLineEdit()
        self.data.placeholderText = "Folder of a data set"
        self.patient.placeholderText = "Patient, by a number of your own"
        self.cases.placeholderText = "Folder of collected cases"
        self.skip = qt.QCheckBox("Skip unusable items")
        return [self._row(self.data, "folder", "build", self.skip), self._row(self.patient, self.cases, "collect")]

    def _plan_rows(self):
        self.rank, self.batch, self.accumulation = (self._spin(*given) for given in ((8, 256), (4, 256), (4, 1024)))
        self.steps = self._spin(0, 10**6, 0)
        self.rate, self.clip, self.epochs = qt.QLineEdit("2e-4"), qt.QLineEdit("1"), qt.QLineEdit("2")
        self.targets = qt.QComboBox()
        self.targets.addItem("language", "text")
        self.targets.addItem("language and vision", "all")
        self.targets.toolTip = "Vision too, for pictures unlike the base's training data."
        self.steps.toolTip = "Largest number of steps; 0 for as many as the epochs need."
        self.clip.toolTip = "Largest norm of the gradient; the plot shows how much of it is clipped."
        return [
            self._row(
                "Rank", self.rank, "Batch", self.batch, "Accumulation", self.accumulation, "Trains", self.targets
            ),
            self._row("Rate", self.rate, "Clip", self.clip, "Epochs", self.epochs, "Steps", self.steps, "estimate"),
        ]

    def _train_rows(self):
        self.name = qt.QLineEdit()
        self.name.placeholderText = "Name of the adapter"
        return [self._row(self.name, "train", "pause", "stop", "resume")]

    @staticmethod
    def _spin(value, most, least=1):
        spin = qt.QSpinBox()
        spin.setRange(least, most)
        spin.value = value
        return spin

    def settings(self, model: str) -> TrainingSettings:
        """Return the settings in the widgets, for a model.

        Raises:
            InputError: if a value is invalid.
        """
        numbers = {}
        for name in ("rate", "clip", "epochs"):
            text = getattr(self, name).text
            try:
                numbers[name] = float(text)
            except ValueError:
                raise InputError(f"'{text}' is not a number; correct the {name}.") from None
        return TrainingSettings(model=model, rank=self.rank.value, alpha=4 * self.rank.value, batch=self.batch.value,
                        accumulation=self.accumulation.value, steps=self.steps.value,
                        targets=self.targets.itemData(self.targets.currentIndex), **numbers)  # fmt: skip

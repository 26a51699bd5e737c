"""Implement the window to edit, sign and export a drafted report. Knows its widgets and report finalization.

Files and pages are written in a subprocess, on a `BackgroundTask`; the scene gets the changed report after that has
ended.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import qt
import slicer
from MedFMLib import environment

from MedFMLib.patient.visit import KIND as VISIT
from MedFMLib.reports.finalize import FinalizeRequest
from MedFMLib.reports.finalize_in_subprocess import finalize_in_subprocess
from MedFMLib.reports.revising import FIXED, SUFFIX, editable_report, read_editable_report
from MedFMLib.scene.nodes import find
from MedFMLib.scene.reports import dicom_series, first_instance, stored_report, replace_report

from .background_task import BackgroundTask
from .error_display import shown

WIDTH, HEIGHT, TIMER_MS = 720, 640, 100
FORMS = (
    ("page", "HTML page", "One file that opens in any browser, offline."),
    ("pdf", "PDF", "Pages to print and to file."),
    ("text", "Text", "Plain text only."),
    ("patient", "Patient's page", "Plain words, pictures with names, questions for the doctor; checked against the report."),
    ("dicom", "DICOM", "SEG, SR (TID 1500), key images, encapsulated PDF and FHIR of the volume's study."),
)  # fmt: skip
NAME = "MedFM-report"
"""Prefix of the files: never the name of a patient or a volume."""


class ReportWindow:
    """A non-modal window for a report.

    Args:
        parent: Slicer's main window.
        changed: called with a sentence after the scene's report changed or files were written.
    """

    def __init__(self, parent, changed):
        self._on_changed, self._task, self._then = changed, None, None
        self._scene = self._volume = self._report = None
        self._words: dict[str, str] = {}
        self._study: tuple[Path, str] | None = None
        self._instance = ""
        self.dialog = qt.QDialog(parent)
        self.dialog.setWindowTitle("Report: edit, sign, export")
        self.dialog.resize(WIDTH, HEIGHT)
        self._build(qt.QVBoxLayout(self.dialog))
        self._timer = qt.QTimer()
        self._timer.setInterval(TIMER_MS)
        self._timer.connect("timeout()", self.on_timer)

    def _build(self, layout) -> None:
        self.section = qt.QComboBox()
        self.section.toolTip = "The section to edit."
        self.text = qt.QPlainTextEdit()
        self.text.toolTip = "One paragraph per line; unchanged sentences keep their link to the measurement."
        self.hint = qt.QLabel()
        self.hint.wordWrap = True
        row = qt.QHBoxLayout()
        self.name = qt.QLineEdit()
        self.name.placeholderText = "Name of the reader of the images"
        self.sign = _button("Save and sign", "Save the changes and sign the report with this name.", self.on_sign)
        self.save = _button("Save as a draft", "Save the changes; the report stays unsigned.", self.on_save)
        for widget in (self.name, self.sign, self.save):
            row.addWidget(widget)
        exports = qt.QHBoxLayout()
        self.forms = {}
        for name, text, tip in FORMS:
            box = self.forms[name] = qt.QCheckBox(text)
            box.toolTip = tip
            box.setChecked(name in ("page", "pdf"))
            exports.addWidget(box)
        self.export = _button("Export…", "Write the saved report to a folder, in the chosen formats.", self.on_export)
        exports.addStretch(1)
        exports.addWidget(self.export)
        self.status = qt.QLabel()
        self.status.wordWrap = True
        for widget in (self.section, self.text, self.hint):
            layout.addWidget(widget)
        layout.addLayout(row)
        layout.addLayout(exports)
        layout.addWidget(self.status)
        self.section.connect("currentIndexChanged(int)", self.on_section)
        self.text.connect("textChanged()", self.on_text)

    # -- showing -----------------------------------------------------------------------------------

    def open(self, scene, volume) -> None:
        """Show the newest report of a volume.

        Args:
            scene: the MRML scene.
            volume: its node.

        Raises:
            InputError: if there is none.
        """
        self._scene, self._volume, self._kept = scene, volume, stored_report(scene, volume)
        content = self._kept
        self._start(lambda progress: editable_report(content).report, self._fill, "Opening the report…")
        self.dialog.show()
        self.dialog.raise_()

    def _fill(self, report) -> None:
        self._report, volume = report, self._volume
        self._instance = first_instance(volume)
        self._study = dicom_series(volume, getattr(slicer, "dicomDatabase", None))
        self._words = {s.title: "\n".join(s.paragraphs) for s in self._report.sections if s.title not in FIXED}
        self._shown = ""
        self.section.clear()
        for title in self._words:
            self.section.addItem(title, title)
        self.on_section()
        self.forms["dicom"].enabled = self._study is not None
        self.forms["dicom"].setChecked(self._study is not None)
        state = f"{self._report.state}."
        self.say(
            state
            if self._study
            else f"{state} The volume was not loaded from DICOM, so DICOM objects can't be written."
        )

    def say(self, text: str) -> None:
        """Show a sentence in the line at the bottom."""
        self.status.text = text

    def showError(self, text: str) -> None:
        self.say(f"⚠ {text}")

    @property
    def changes(self) -> dict[str, str]:
        """Section → its text, for sections that differ from the report."""
        return {
            title: text
            for title, text in self._words.items()
            if text != "\n".join(self._report.section(title).paragraphs)
        }

    def on_section(self, *_) -> None:
        """Show another section."""
        self._shown = ""
        self.text.setPlainText(self._words.get(self.section.currentText, ""))
        self._shown = self.section.currentText
        self._show_hint()

    def on_text(self) -> None:
        """Update after the user typed."""
        if self._shown:
            self._words[self._shown] = self.text.toPlainText()
            self._show_hint()

    def _show_hint(self) -> None:
        names = ", ".join(self.changes)
        self.hint.text = f"Changed, not saved: {names}." if names else f"{', '.join(FIXED)} can't be edited."

    def _show_busy(self) -> None:
        busy = self._task is not None
        for widget in (self.sign, self.save, self.export, self.section, self.text, self.name):
            widget.enabled = not busy

    # -- actions -----------------------------------------------------------------------------------

    @shown
    def on_save(self) -> None:
        self._issue(by="")

    @shown
    def on_sign(self) -> None:
        if not self.name.text.strip():
            return self.showError("A signature needs a name; enter yours.")
        self._issue(by=self.name.text)

    def _issue(self, by: str) -> None:
        changes, content = self.changes, self._kept

        def work(progress):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{NAME}{SUFFIX}"
                path.write_bytes(content)
                task = FinalizeRequest(path, Path(folder), NAME, changes, by, ())
                file = finalize_in_subprocess(task, progress, environment.interpreter())[0]
                return file.read_bytes(), read_editable_report(file).report

        self._start(work, self._saved, "Saving…")

    def _saved(self, result) -> None:
        self._kept, report = result
        replace_report(self._scene, self._volume, report, self._kept)
        self._fill(report)
        self._on_changed(
            f"The report was signed: {report.signed}." if report.is_signed else "The report was changed; it is a draft."
        )

    @shown
    def on_export(self) -> None:
        if self.changes:
            return self.showError(f"Save first: {', '.join(self.changes)} was changed.")
        forms = tuple(name for name, box in self.forms.items() if box.checked and box.enabled)
        folder = qt.QFileDialog.getExistingDirectory(self.dialog, "Folder for the report")
        if not folder:
            return
        content = self._kept
        study, series = self._study or (None, "")
        instance = self._instance
        node = find(self._scene, self._volume, VISIT)
        visit = node.GetText() if node is not None else ""

        def work(progress):
            with tempfile.TemporaryDirectory() as source:
                path = Path(source) / f"{NAME}{SUFFIX}"
                path.write_bytes(content)
                task = FinalizeRequest(
                    path, Path(folder), NAME, {}, "", forms, study, series, instance=instance, visit=visit
                )
                return finalize_in_subprocess(task, progress, environment.interpreter())

        self._start(work, self._exported, "Writing…")

    def _exported(self, files) -> None:
        self.say(f"Wrote {len(files)} files to {files[0].parent}.")
        self._on_changed(f"{len(files)} files of the report were written to {files[0].parent}.")

    def _start(self, work, then, words: str) -> None:
        self._task, self._then = BackgroundTask(work), then
        self.say(words)
        self._show_busy()
        self._timer.start()

    @shown
    def on_timer(self) -> None:
        """Check whether the background task has ended."""
        if self._task is None or not self._task.ended:
            return
        task, self._task = self._task, None
        self._timer.stop()
        self._show_busy()
        if task.error:
            self.showError(task.error)
        else:
            self._then(task.result)

    def close(self) -> None:
        """Stop everything and close."""
        self._timer.stop()
        if self._task is not None:
            self._task.cancel()
        self.dialog.close()


def _button(text: str, tip: str, slot):
    button = qt.QPushButton(text)
    button.toolTip = tip
    button.setAutoDefault(False)
    button.connect("clicked(bool)", slot)
    return button

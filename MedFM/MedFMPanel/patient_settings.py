"""The clinic's choices for patient mode, as rows of the panel's section “Patient mode”. Knows widgets and the settings file."""

from __future__ import annotations

from dataclasses import replace

import qt
from MedFMLib.patient import glossary, languages, read_settings, write_settings
from MedFMLib.patient.settings import FREE_TEXT_WARNING, LONGEST_TIMEOUT, SHORTEST_TIMEOUT

from .error_display import shown

CHOOSES = "Let the model choose among the approved answers"
FREE = "Show the model's own sentences to patients"


class PatientSettingsForm:
    """The rows.

    Args:
        ui: the panel's widgets by name.
        status: the status line.
    """

    def __init__(self, ui, status):
        self._status, settings = status, read_settings()
        self.showError = lambda text: status.say(text, problem=True)
        form = ui.patientButton.layout()
        self.language = qt.QComboBox()
        for code in languages():
            self.language.addItem(glossary(code).name_of_language, code)
        self.language.setCurrentIndex(max(0, self.language.findData(settings.language)))
        self.timeout = qt.QSpinBox()
        self.timeout.setRange(SHORTEST_TIMEOUT, LONGEST_TIMEOUT)
        self.timeout.setSuffix(" s")
        self.timeout.setValue(settings.timeout)
        self.chooses, self.free = qt.QCheckBox(CHOOSES), qt.QCheckBox(FREE)
        self.chooses.setChecked(settings.model_chooses)
        self.free.setChecked(settings.free_text)
        self.warning = qt.QLabel(FREE_TEXT_WARNING)
        self.warning.wordWrap = True
        self.warning.visible = settings.free_text
        form.addRow("Clinic's language:", self.language)
        form.addRow("Start page after:", self.timeout)
        for row in (self.chooses, self.free, self.warning):
            form.addRow(row)
        self.language.connect("currentIndexChanged(int)", self.save)
        self.timeout.connect("valueChanged(int)", self.save)
        self.chooses.connect("toggled(bool)", self.save)
        self.free.connect("toggled(bool)", self.save)

    @shown
    def save(self) -> None:
        """Store the choices; they apply from the next time that the computer is handed over."""
        self.warning.visible = bool(self.free.checked)
        choices = {"language": self.language.currentData, "timeout": int(self.timeout.value)}
        choices |= {"model_chooses": bool(self.chooses.checked), "free_text": bool(self.free.checked)}
        write_settings(replace(read_settings(), **choices))

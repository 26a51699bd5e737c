"""The clinic's choices for patient mode, as rows of the panel's section “Patient mode”. Knows widgets and the settings file."""

from __future__ import annotations

from dataclasses import replace

import qt
from MedFMLib.errors import InputError
from MedFMLib.patient import glossary, languages, read_settings, write_settings
from MedFMLib.patient.calling import call_staff, check_address
from MedFMLib.patient.settings import FREE_TEXT_WARNING, LONGEST_TIMEOUT, SHORTEST_TIMEOUT

from .background_task import BackgroundTask
from .error_display import shown

LOOK_MS = 100
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
        self.place, self.url = qt.QLineEdit(), qt.QLineEdit()
        self.place.text, self.url.text = settings.place, settings.call_url
        self.place.placeholderText, self.url.placeholderText = "Waiting room 2", "http://192.168.1.20:8080/calls"
        self.url.toolTip = (
            "A call of the staff is sent there as JSON: event, place and time, nothing about the patient."
        )
        self.sound, self.reads = (
            qt.QCheckBox("A call of the staff sounds here"),
            qt.QCheckBox("Answers can be read aloud"),
        )
        self.sound.setChecked(settings.call_sound)
        self.reads.setChecked(settings.read_aloud)
        self.test = qt.QPushButton("Send a test call")
        form.addRow("This computer's place:", self.place)
        form.addRow("Send calls to:", self.url)
        for row in (self.test, self.sound, self.reads):
            form.addRow(row)
        self._sent, self._timer = None, qt.QTimer()
        self._timer.setInterval(LOOK_MS)
        self._timer.connect("timeout()", self._look)
        self.place.connect("editingFinished()", self.save)
        self.url.connect("editingFinished()", self.save)
        self.test.connect("clicked(bool)", self.send_test)
        self.sound.connect("toggled(bool)", self.save)
        self.reads.connect("toggled(bool)", self.save)
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
        choices |= {"place": self.place.text.strip(), "call_sound": bool(self.sound.checked)}
        choices |= {"read_aloud": bool(self.reads.checked), "call_url": check_address(self.url.text, look_up=False)}
        write_settings(replace(read_settings(), **choices))

    @shown
    def send_test(self) -> None:
        """Send a call as a patient's tap would, on another thread, and say whether the server took it."""
        self.save()
        url = check_address(self.url.text, look_up=False)
        if not url:
            raise InputError("There is no address to send calls to; enter one, such as http://192.168.1.20:8080/calls.")

        def send(progress) -> bool:
            check_address(url)
            return call_staff(read_settings())

        self._sent, self.test.enabled = BackgroundTask(send), False
        self._timer.start()

    def _look(self) -> None:
        if self._sent is None or not self._sent.ended:
            return
        task, self._sent, self.test.enabled = self._sent, None, True
        self._timer.stop()
        if task.error:
            self._status.say(task.error, problem=True)
        elif task.result:
            self._status.say("The server took the test call.")
        else:
            self._status.say(f"The server at {self.url.text} did not take the call; is it running?", problem=True)

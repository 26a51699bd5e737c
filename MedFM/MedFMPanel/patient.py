"""Show patient mode in the panel: what is hidden while it is on, and how to leave it.

Knows widgets and the lock; judges no text.

The state is in the lock's file, not here: a reload, a closed or loaded scene, another module or a restart restore
the same state. Hidden widgets have a property, so that leaving the mode later, even after a reload, shows exactly
these.
"""

from __future__ import annotations

import slicer
from MedFMLib.errors import InputError, MedFMError
from MedFMLib.guard import PatientLock

from .kiosk import Kiosk
from .error_display import shown

HIDDEN = "MedFMHiddenForPatient"
KEPT = (
    "noticeLabel", "conversationView", "questionBox", "newConversationButton", "applyButton", "progressBar", "statusLabel",
    "patientBar",
)  # fmt: skip
"""Widgets that a patient sees, with their parents; all others are hidden."""

QUESTIONS = (
    "What am I looking at?",
    "Which parts of my body are visible?",
    "What does a healthy one look like?",
    "How was this picture made?",
    "Where is my liver?",
    "What should I ask my doctor?",
)
"""Examples in place of the clinicians' questions."""

WELCOME = "Ask what you see in your pictures. What they mean for you, your radiologist will tell you."


def come_up_locked() -> None:
    """Restore patient mode after Slicer has started, without any volume, so that a restart does not leave it."""
    if PatientLock().on and slicer.util.mainWindow() is not None:
        slicer.util.selectModule("MedFM")


class PatientMode:
    """Patient mode in the panel.

    Args:
        widget: the module's widget: its `uiWidget`, `ui`, `status`, `session`, `parameters`, and its methods that show
            models and parameters.
        lock: whether the mode is on.
    """

    def __init__(self, widget, lock: PatientLock | None = None):
        self._widget, self._panel, self._ui, self._status = widget, widget.uiWidget, widget.ui, widget.status
        self.lock = lock or PatientLock()
        ui = self._ui
        self._kiosk = Kiosk(self._panel, (ui.questionBox, ui.questionBox.lineEdit(), ui.pinEdit))
        self.showError = widget.showError
        ui.patientBar.visible = False
        ui.pinEdit.connect("returnPressed()", ui.leavePatientButton.click)
        ui.choosePinButton.connect("clicked(bool)", self.choose_pin)
        ui.enterPatientButton.connect("clicked(bool)", self.enter)
        ui.leavePatientButton.connect("clicked(bool)", self.leave)

    @property
    def on(self) -> bool:
        """Whether patient mode is on."""
        return self.lock.on

    @shown
    def choose_pin(self) -> None:
        """Store a new PIN."""
        self.lock.choose_pin(self._ui.newPinEdit.text, self._ui.oldPinEdit.text)
        self._clear_pins()
        self.show()
        self._status.say("The PIN was set.")

    @shown
    def enter(self) -> None:
        """Turn patient mode on; other volumes are removed from the screen."""
        volume = self._widget.parameters.volume
        if volume is None:
            raise InputError("Choose the patient's volume first.")
        self.lock.enter()
        self._widget.session.cancel()
        self._clear_pins()
        self._ui.logView.clear()
        self._begin_anew()
        self.show()
        self._status.say(WELCOME, public=True)

    @shown
    def leave(self) -> None:
        """Turn patient mode off with the entered PIN."""
        pin = self._ui.pinEdit.text
        self._clear_pins()
        try:
            self.lock.leave(pin)
        except MedFMError as error:
            known = isinstance(error, InputError)  # other errors may contain folder names
            return self._status.say(str(error), problem=True, public=known)
        self.show()
        self._begin_anew()
        self._status.say("Patient mode ended.")

    def show(self) -> None:
        """Update the window to the mode; may be called repeatedly."""
        self._status.quiet = self.on
        if self.on:
            self._offer()
            self.keep()
            self._ui.patientBar.visible = True
            self._kiosk.close_doors(self._widget.parameters.volume)
        else:
            for widget in self._panel.findChildren("QWidget"):
                _show_again(widget)
            self._ui.patientBar.visible = False
            self._kiosk.open_doors()
        tabs = self._ui.taskTabs
        for n in range(tabs.count):
            tabs.setTabEnabled(n, not self.on or tabs.widget(n).objectName == "askTab")
        tabs.tabBar().setVisible(not self.on)
        self._ui.oldPinEdit.visible = self._ui.oldPinLabel.visible = self.lock.has_pin and not self.on
        self._ui.enterPatientButton.enabled = self.lock.has_pin

    def takes(self, name: str) -> bool:
        """Return whether a widget may change a parameter.

        Not the volume, since a new one may belong to another patient.
        """
        return not (name == "volume" and self.on)

    def come_back(self) -> None:
        """Show this module again, if it is loaded and the mode is on."""
        if self.on and slicer.app.moduleManager().module("MedFM") is not None:
            slicer.util.selectModule("MedFM")

    def keep(self) -> None:
        """Hide again what other code has shown meanwhile."""
        if self.on:
            for widget in self._others(self._panel):
                _hide(widget)
            if self._ui.patientBar.visible:  # entered completely
                self._kiosk.limit_views(self._widget.parameters.volume)

    def close(self) -> None:
        """Release the widgets; the state is kept."""
        self._kiosk.stop()

    def _begin_anew(self) -> None:
        """Clear the conversation and switch to the Ask tab."""
        widget = self._widget
        widget.results.conversation.clear()
        widget.parameters.task, widget.parameters.question, widget.parameters.region = "ask", "", None
        widget.showModels()
        widget.showParameters()

    def _offer(self) -> None:
        """Show questions for patients in place of those in the model's card."""
        box, typed = self._ui.questionBox, self._ui.questionBox.currentText
        box.clear()
        for question in QUESTIONS:
            box.addItem(question, question)
        box.setEditText(typed)

    def _clear_pins(self) -> None:
        for edit in (self._ui.pinEdit, self._ui.newPinEdit, self._ui.oldPinEdit):
            edit.text = ""

    def _others(self, widget) -> list:
        """Return the widgets below one that are neither kept nor contain a kept one."""
        found = []
        for child in widget.children():
            if not child.isWidgetType() or child.objectName in KEPT:
                continue
            holds = any(inner.objectName in KEPT for inner in child.findChildren("QWidget"))
            if not holds:
                found.append(child)
            else:
                found += self._others(child)
        return found


def _hide(widget) -> None:
    if not widget.isHidden() and not widget.parentWidget().inherits(
        "QStackedWidget"
    ):  # which shows one of its pages by itself
        widget.setProperty(HIDDEN, True)
        widget.hide()


def _show_again(widget) -> None:
    if widget.property(HIDDEN):
        widget.setProperty(HIDDEN, False)
        widget.show()

"""Patient mode in the panel: what is hidden while it is on, and the way out. Knows widgets and the lock; judges nothing.

Whether the mode is on stands in the lock's file, not here: a reload, a closed or loaded scene, another module or a restart bring
the same state back. Hidden widgets carry a property, so that whoever leaves the mode, an hour or a reload later, shows just them.
"""

from __future__ import annotations

from MedFMLib.errors import MedFMError
from MedFMLib.guard import PatientLock

from .kiosk import Kiosk

HIDDEN = "MedFMHiddenForPatient"
KEPT = (
    "noticeLabel", "conversationView", "questionBox", "newConversationButton", "applyButton", "progressBar", "statusLabel",
    "patientBar",
)  # fmt: skip
"""Widgets that a patient sees; what they lie in stays, everything else goes."""

QUESTIONS = (
    "What am I looking at?",
    "Which parts of my body are visible?",
    "How was this picture made?",
    "Where is my liver?",
    "What should I ask my doctor?",
)
"""What is offered in place of the clinicians' questions."""

WELCOME = "Ask what you see in your pictures. What they mean for you, your radiologist will tell you."


class PatientMode:
    """The mode as the panel shows it.

    Args:
        panel: the panel's widget. ui: its widgets by name. status: its status line. changed: called after the mode came or went.
        lock: whether it is on.
    """

    def __init__(self, panel, ui, status, changed, lock: PatientLock | None = None):
        self._panel, self._ui, self._status, self._changed = panel, ui, status, changed
        self.lock = lock or PatientLock()
        self._kiosk = Kiosk(panel)
        ui.patientBar.visible = False
        ui.pinEdit.connect("returnPressed()", ui.leavePatientButton.click)

    @property
    def on(self) -> bool:
        """Is a patient at the screen?"""
        return self.lock.on

    def choose_pin(self) -> None:
        """Keep a new PIN."""
        self.lock.choose_pin(self._ui.newPinEdit.text, self._ui.oldPinEdit.text)
        self._forget_pins()
        self.show()
        self._status.say("The PIN was chosen.")

    def enter(self, volume) -> None:
        """Hand over: nothing of other volumes stays on the screen.

        Args:
            volume: the patient's volume node; must not be None.
        """
        self.lock.enter()
        self._forget_pins()
        self._ui.logView.clear()
        self._changed()
        self.show(volume)
        self._status.say(WELCOME, public=True)

    def leave(self) -> None:
        """End the mode with the PIN that was typed."""
        pin = self._ui.pinEdit.text
        self._forget_pins()
        try:
            self.lock.leave(pin)
        except MedFMError as error:
            return self._status.say(str(error), problem=True, public=True)
        self.show()
        self._changed()
        self._status.say("Patient mode ended.")

    def show(self, volume=None) -> None:
        """Make the window as the mode wants it; may be called as often as one likes."""
        self._status.quiet = self.on
        if self.on:
            self._offer()
            for widget in self._others(self._panel):
                _hide(widget)
            self._ui.patientBar.visible = True
            self._kiosk.close_doors(volume)
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

    def close(self) -> None:
        """The panel goes; the state stays."""
        self._kiosk.stop()

    def _offer(self) -> None:
        """Questions for patients in place of those that the model's card lists."""
        box, typed = self._ui.questionBox, self._ui.questionBox.currentText
        box.clear()
        for question in QUESTIONS:
            box.addItem(question, question)
        box.setEditText(typed)

    def _forget_pins(self) -> None:
        for edit in (self._ui.pinEdit, self._ui.newPinEdit, self._ui.oldPinEdit):
            edit.text = ""

    def _others(self, widget) -> list:
        """Widgets below one that are no part of what is kept, nor hold such a part."""
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
    if not widget.isHidden():
        widget.setProperty(HIDDEN, True)
        widget.hide()


def _show_again(widget) -> None:
    if widget.property(HIDDEN):
        widget.setProperty(HIDDEN, False)
        widget.show()

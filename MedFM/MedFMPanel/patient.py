"""Show patient mode in the panel: what is hidden while it is on, and how to leave it.

Knows widgets and the lock; judges no text.

The state is in the lock's file, not here: a reload, a closed or loaded scene, another module or a restart restore
the same state. Hidden widgets have a property, so that leaving the mode later, even after a reload, shows exactly
these.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace

import qt
import slicer
from MedFMLib.core.findings import Answer, Part
from MedFMLib.errors import InputError, MedFMError
from MedFMLib.guard import PatientLock
from MedFMLib.patient import read_settings
from MedFMLib.patient.glossary import glossary
from MedFMLib.patient.parts import STAFF
from MedFMLib.patient.replies import Facts, reply
from MedFMLib.patient.touching import OUTSIDE, STRUCTURE
from MedFMLib.patient.visit import KIND as VISIT
from MedFMLib.patient.visit import Visit
from MedFMLib.scene.nodes import KIND, VOLUME_ROLE, find

from .error_display import shown
from .kiosk import TITLE, Kiosk
from .patient_help import Reader, StaffCall
from .patient_names import NamesInPictures
from .patient_screen import INTENTS, LARGE, PatientScreen
from .patient_settings import PatientSettingsForm
from .patient_touch import TouchedPicture, turn_page

HIDDEN = "MedFMHiddenForPatient"
ALWAYS = ("noticeLabel", "statusLabel", "patientScreen", "patientBar")
KEPT = (*ALWAYS, "conversationView", "questionBox", "applyButton", "progressBar")
"""Widgets that a patient sees on the start page, and after a language was chosen, with their parents; all others are hidden."""

TEXTS = {"noticeLabel": "notice", "staffLabel": "pin", "leavePatientButton": "button.end", "applyButton": "button.ask"}
"""Widgets of the panel → the part that they show in patient mode."""

LARGER = ("conversationView", "questionBox", "applyButton", "statusLabel")
ORIGINAL = "MedFMTextBeforePatient"
TICK_MS, PATIENCE = 500, 4
"""Interval of looking at the time, and how much longer than the time-out somebody may wait for an answer."""
ANSWER, ASK, UNLIMITED = 175, 70, 16777215
"""Largest heights in pixels of the answer and of what lies below it, so that the buttons fit on a tablet; and Qt's largest."""
MODEL_INTENTS = ("looking_at", "healthy")
ABOUT_ONE = ("where_is", "explain", "measurement")
"""Intents that are about one structure, which a tap chooses."""


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
        fields = (ui.questionBox, ui.questionBox.lineEdit(), ui.pinEdit)
        self._kiosk = Kiosk(self._panel, fields, self._active, self.controls)
        self.showError = widget.showError
        self.call, self.reader = StaffCall(self.say), Reader()
        self.screen = PatientScreen(self._panel, ui.patientBar, self.act, read_settings(), self.reader.can_read())
        self.picture = TouchedPicture(self.touched)
        self.names = NamesInPictures(self._named)
        self.form = PatientSettingsForm(ui, self._status)
        self.chosen: list[Part] = []
        self._by_keys = False
        self._intent, self._subject, self._note, self._turns, self._last = "", "", (), 0, time.monotonic()
        self._timer = qt.QTimer()
        self._timer.setInterval(TICK_MS)
        self._timer.connect("timeout()", self.tick)
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
        self._clear_pins()
        self._ui.logView.clear()
        self.screen.settings = read_settings()
        self.forget()
        self.show()

    @shown
    def leave(self) -> None:
        """Turn patient mode off with the entered PIN."""
        pin = self._ui.pinEdit.text
        self._clear_pins()
        try:
            self.lock.leave(pin)
        except InputError as error:
            wait = re.search(r"(\d+) s", str(error))
            part = Part("pin_wait", {"number": int(wait[1])}) if wait else Part("pin_wrong")
            return self._status.show_part(part, problem=True)
        except MedFMError as error:  # may contain the name of a folder, so that another text is shown
            return self._status.say(str(error), problem=True)
        self._keep_visit()
        self.picture.end()
        self.show()
        self._begin_anew()
        self._status.say("Patient mode ended.")

    def show(self) -> None:
        """Update the window to the mode; may be called repeatedly."""
        self._status.quiet = self.on
        self._status.render = lambda parts: self.screen.text(*([parts] if isinstance(parts, Part) else parts))
        self._widget.results.html_for_patient = self._written if self.on else None
        for widget in self._panel.findChildren("QWidget"):
            _show_again(widget)
        self.screen.frame.visible = self._ui.patientBar.visible = self.on
        self._dress()
        if self.on:
            if not self.screen.chosen_language:
                self.screen.start()
            self._offer()
            self.keep()
            self._kiosk.close_doors(self._widget.parameters.volume)
            self._timer.start()
            self.names.begin()
        else:
            self._timer.stop()
            self.names.end()
            self.call.end()
            self.reader.stop()
            self._kiosk.open_doors()
        self.screen.show_call(self.call.since)
        tabs = self._ui.taskTabs
        for n in range(tabs.count):
            tabs.setTabEnabled(n, not self.on or tabs.widget(n).objectName == "askTab")
        tabs.tabBar().setVisible(not self.on)
        self._ui.oldPinEdit.visible = self._ui.oldPinLabel.visible = self.lock.has_pin and not self.on
        self._ui.enterPatientButton.enabled = self.lock.has_pin

    # -- what a patient does ------------------------------------------------------------------------------

    def act(self, action: str, value: str) -> None:
        """Do what a button says.

        Args:
            action: see `PatientScreen`.
            value: its language, intent, label or number.
        """
        if not self.on:
            return
        match action:
            case "call":
                self.call.begin(self.screen.settings)
                return self.screen.show_call(self.call.since)
            case "seen":
                self.call.end()
                return self.screen.show_call("")
            case "read":
                return self.reader.toggle(self.screen.spoken, self.screen.language)
        self.reader.stop()
        if self._widget.session.running:
            return None
        match action:
            case "language":
                self.screen.choose(value)
                self.show()
                self.say()
            case "intent":
                self._intent_chosen(value)
            case "subject":
                if self._intent not in ABOUT_ONE or not glossary().knows(value):
                    return None
                self._reply(self._intent, value)
                self.picture.highlight(value)
                self.screen.show_intents()
            case "keep":
                self._keep_question(value)
            case "list":
                self.say(*([Part("chosen"), *self.chosen] if self.chosen else [Part("no_chosen")]), STAFF)
            case "up" | "down":
                turn_page(1 if action == "up" else -1)
            case "back":
                self.screen.show_intents()
            case "again":
                self.forget()
                self.show()
        return None

    def controls(self) -> list:
        """Return the widgets that the Tab key visits, in order: the answer, the buttons, the question, and the PIN."""
        ui = self._ui
        around = (ui.questionBox, ui.applyButton, ui.pinEdit, ui.leavePatientButton)
        shown = [ui.conversationView, *self.screen.buttons, *around]
        return [widget for widget in shown if widget.isVisible() and widget.isEnabled()]

    def _named(self) -> tuple:
        """Return what the names in the slices are made of, see `NamesInPictures`."""
        shown = self.picture.index if self.on and self.screen.chosen_language else None
        return shown, self._widget.parameters.volume, self.screen.language, self.picture.touched

    def touched(self, found, node) -> None:
        """Say what is under the finger, and highlight it.

        Args:
            found: a `Touched`, or None if the segments are not known yet.
            node: volume node that the view shows.
        """
        if not self.on or not self.screen.chosen_language or self._widget.session.running:
            return
        if node is not self._widget.parameters.volume:
            return self.say(Part("touch_healthy"), STAFF)
        if found is None:
            self.say(Part("touch_first"), STAFF)
        elif found.kind == STRUCTURE and glossary().knows(found.label):
            self._subject = found.label
            self.picture.highlight(found.label)
            self.say(Part("touch", {"structure": found.label}), Part("about", {"explanation": found.label}), STAFF)
        else:
            self.picture.highlight("")
            self.say(Part("touch_outside" if found.kind == OUTSIDE else "touch_nothing"), STAFF)

    def _written(self, turns) -> str:
        """Return the answer's page, and tell it to a screen reader, which a person with a keyboard may use."""
        page, view = self.screen.html(turns, self._note), self._ui.conversationView
        view.accessibleName = self.screen.spoken
        if self._by_keys and view.isVisible():
            view.setFocus(qt.Qt.TabFocusReason)
        return page

    def say(self, *parts: Part) -> None:
        """Show parts in place of the last answer; none shows the welcome."""
        self._note = self.screen.approved(parts) if parts else (Part("welcome"), STAFF)
        self._widget.results.show_conversation()

    def apply(self, request):
        """Add the language, and the intent of a pressed button, to a patient's request."""
        if not self.on:
            return request
        intent, self._intent, self._note = self._intent, "", ()
        typed = {self.screen.text(Part(f"button.{name}")): name for name in INTENTS}
        intent = intent or typed.get(request.question.strip(), "")
        question = self.screen.text(Part(f"button.{intent}")) if intent else request.question
        return replace(request, language=self.screen.language, intent=intent, question=question)

    def tick(self) -> None:
        """Forget everything and show the start page after some time without a touch or key."""
        longest = self.screen.settings.timeout * (PATIENCE if self._widget.session.running else 1)
        if self.on and self.screen.chosen_language and time.monotonic() - self._last > longest:
            self.forget()
            self.show()

    def forget(self) -> None:
        """Forget the conversation, the questions and the language."""
        self._widget.abandonJob("")
        self.chosen, self._intent, self._subject, self._turns = [], "", "", 0
        self.screen.start()
        self.picture.highlight("")
        self._note = ()
        self._begin_anew()
        self._status.show_part()

    def _intent_chosen(self, intent: str) -> None:
        self._intent = intent
        if intent in MODEL_INTENTS or (intent in ABOUT_ONE and not self.picture.labels):
            self._intent, self._note = (intent if intent in MODEL_INTENTS else "looking_at"), ()
            return self._widget.extensions.begin() if self._widget.parameters.volume is not None else None
        if intent in ABOUT_ONE and not (self._subject and intent != "where_is"):
            self.screen.show_subjects(self.picture.labels)
            return None
        self._reply(intent, self._subject)
        return self.screen.show_questions() if intent == "ask_doctor" else None

    def _reply(self, intent: str, subject: str) -> None:
        """Answer at once, without a job, as a turn of the conversation."""
        conversation = self._widget.results.conversation
        parts = reply(intent, subject, self._facts(), self.screen.language, self.screen.settings)
        conversation.ask(self.screen.text(Part(f"button.{intent}")))
        conversation.take([Answer(conversation.turns[-1].question, self.screen.text(*parts), parts=parts)])
        self._turns, self._note, self._intent = len(conversation.turns), (), ""
        self._widget.results.show_conversation()

    def _facts(self) -> Facts:
        index, volumes = self.picture.index, {}
        for segment in index.segmentation.segments if index is not None else ():
            size = int(segment.boxed.inside.sum()) * index.image.geometry.voxel_volume / 1000
            volumes[segment.label] = size if index.image.geometry.metric else None
        return Facts(self._widget.modality, volumes)

    def _keep_question(self, number: str) -> None:
        """Put a question on the list for the doctor: one of ours, or the last that was asked."""
        turns = self._widget.results.conversation.turns
        part = Part(f"ask.{number}") if number else Part("own", {"own": turns[-1].question}) if turns else None
        if part is not None and part not in self.chosen:
            self.chosen.append(part)
        self.say(Part("kept"), STAFF)
        if not number:
            self.screen.show_intents()

    def _keep_visit(self) -> None:
        """Keep what was asked and collected with the volume, for the page to take home."""
        turns = self._widget.results.conversation.turns
        asked = tuple(
            Answer(t.question, "", parts=self.screen.approved(t.answer.parts)) for t in turns if t.answer is not None
        )
        volume = self._widget.parameters.volume
        if volume is None or not (asked or self.chosen):
            return
        node = find(slicer.mrmlScene, volume, VISIT) or slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode", TITLE)
        node.SetAttribute(KIND, VISIT)
        node.SetNodeReferenceID(VOLUME_ROLE, volume.GetID())
        node.SetHideFromEditors(True)
        node.SetText(Visit(self.screen.language, asked, tuple(self.chosen)).as_json())

    def _active(self, watched, event) -> None:
        """Take what a patient does anywhere: it puts the time-out off, and may be a touch of the picture."""
        self._last, kind = time.monotonic(), event.type()
        if kind in (qt.QEvent.KeyPress, qt.QEvent.MouseButtonPress):
            self._by_keys = kind == qt.QEvent.KeyPress
        if event.type() in (qt.QEvent.MouseButtonPress, qt.QEvent.MouseButtonRelease):
            self.picture.mouse(watched, event)

    def _dress(self) -> None:
        """Give the panel's own widgets the patient's texts and large type, and back."""
        for name, part in TEXTS.items():
            widget = getattr(self._ui, name)
            if not widget.property(ORIGINAL):
                widget.setProperty(ORIGINAL, widget.text)
            text = self.screen.text(Part(part)) if self.on else widget.property(ORIGINAL)
            if widget.text != text and not (name == "applyButton" and not self.on):  # which the panel sets itself
                widget.text = text
        self._ui.conversationView.maximumHeight = ANSWER if self.on else UNLIMITED
        self._ui.taskTabs.maximumHeight = ANSWER + ASK if self.on else UNLIMITED
        for name in LARGER:
            getattr(self._ui, name).setStyleSheet(LARGE if self.on else "")

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
            running, turns = self._widget.session.running, self._widget.results.conversation.turns
            self._ui.applyButton.text = self.screen.text(Part("button.stop" if running else "button.ask"))
            self.screen.enable(not running)
            if running:
                self._note = ()
            elif len(turns) != self._turns and turns and not turns[-1].open:
                self._turns, self._last = len(turns), time.monotonic()  # time to read begins now
                answer = turns[-1].answer
                offered = answer.suggestions if answer is not None else ()
                self.screen.show_intents(offered, keep=bool(offered))
            if self._ui.patientBar.visible:  # entered completely
                self._kiosk.limit_views(self._widget.parameters.volume)
                self.picture.begin(self._widget.parameters.volume)

    def close(self) -> None:
        """Release the widgets; the state is kept."""
        self._timer.stop()
        self.names.end()
        self.call.end()
        self.reader.stop()
        self.picture.end()
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
        for intent in INTENTS:
            question = self.screen.text(Part(f"button.{intent}"))
            box.addItem(question, question)
        box.setEditText(typed)
        prompt = self.screen.text(Part("button.type"))
        box.lineEdit().placeholderText = box.accessibleName = box.lineEdit().accessibleName = prompt
        self._ui.pinEdit.accessibleName = self._ui.staffLabel.text

    def _clear_pins(self) -> None:
        for edit in (self._ui.pinEdit, self._ui.newPinEdit, self._ui.oldPinEdit):
            edit.text = ""

    def _others(self, widget) -> list:
        """Return the widgets below one that are neither kept nor contain a kept one."""
        found, kept = [], KEPT if self.screen.chosen_language else ALWAYS
        for child in widget.children():
            if not child.isWidgetType() or child.objectName in kept:
                continue
            holds = any(inner.objectName in kept for inner in child.findChildren("QWidget"))
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

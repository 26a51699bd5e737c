"""The patient's own widgets: a start page with languages, and large buttons for everything that can be asked.

Knows widgets and approved parts; no scene, no jobs. Every text comes from `MedFMLib.patient.parts`.
"""

from __future__ import annotations

import textwrap
from html import escape

import qt
from MedFMLib.core.findings import Part
from MedFMLib.patient import PatientSettings, glossary, languages, render
from MedFMLib.patient.parts import STAFF, TROUBLE, is_valid
from MedFMLib.patient.replies import PERMITTED
from MedFMLib.storage import resources

SMALLEST = 48
"""Height of a button in pixels; WCAG 2.2 asks for 24 (AA) or 44 (AAA)."""

ICON = 22
"""Size of a pictogram in pixels."""

COLUMNS, LETTERS = 3, 45
"""Buttons in a row, and letters in a line of all of them, so that everything fits on a tablet."""
INTENTS = tuple(intent for intent in PERMITTED if intent != "small_talk")
"""Intents with a button of their own, so that nothing has to be typed."""

STYLE = """
QFrame#patientScreen QPushButton { font-size: 16px; min-height: 44px; padding: 2px 4px; color: #ffffff; background: #0f4c5c;
  border: 2px solid #0f4c5c; border-radius: 8px; }
QFrame#patientScreen QPushButton:pressed { background: #08323d; }
QFrame#patientScreen QPushButton:focus { border: 3px solid #d99a00; }
QFrame#patientScreen QPushButton:disabled { color: #4a4a4a; background: #d5dbe0; border-color: #d5dbe0; }
QFrame#patientScreen QPushButton#callButton { background: #9b1c1c; border-color: #9b1c1c; }
QFrame#patientScreen QPushButton#callButton:focus { border: 3px solid #d99a00; }
QFrame#patientScreen QLabel#wantedLabel { font-size: 22px; font-weight: bold; color: #ffffff; background: #9b1c1c; }
QFrame#patientScreen QLabel { font-size: 19px; color: #10202b; background: #ffffff; padding: 6px; border-radius: 6px; }
"""
"""White on #0f4c5c has a contrast of 9.5:1, on #9b1c1c 8.3:1, #10202b on white 16.6:1 and #4a4a4a on #d5dbe0 6.3:1
(WCAG AA: 4.5:1)."""

LARGE = "font-size: 19px; color: #10202b; background: #ffffff;"
"""Style of the panel's own widgets that a patient reads or types into."""


class PatientScreen:
    """The start page and the buttons.

    Args:
        panel: the panel's widget, whose layout gets the screen.
        before: its widget that the screen is placed before.
        act: called with what was pressed: ("language", code), ("intent", intent), ("subject", label), ("keep", number), or
            ("again" | "keep" | "list" | "up" | "down" | "back" | "call" | "seen" | "read", "").
        settings: the clinic's choices.
        reads: whether the computer can read aloud.
    """

    def __init__(self, panel, before, act, settings: PatientSettings, reads: bool = False):
        self._act, self._made, self._reads, self._parts = act, [], reads, (Part("welcome"), STAFF)
        self.settings, self.language, self.chosen_language = settings, settings.spoken(""), False
        self.frame = qt.QFrame(panel)
        self.frame.objectName = "patientScreen"
        self.frame.setStyleSheet(STYLE)
        layout = panel.layout()
        layout.insertWidget(layout.indexOf(before), self.frame)
        self.frame.setSizePolicy(qt.QSizePolicy.Preferred, qt.QSizePolicy.Expanding)
        self._column = qt.QVBoxLayout(self.frame)
        self._wanted = qt.QLabel(self.frame)
        self._wanted.objectName = "wantedLabel"
        self._wanted.wordWrap = True
        self._wanted.setTextFormat(qt.Qt.PlainText)
        self._seen = self._fixed("seen", "seenButton")
        self._wanted_row = qt.QHBoxLayout()
        self._wanted_row.addWidget(self._wanted, 1)
        self._wanted_row.addWidget(self._seen)
        self._column.addLayout(self._wanted_row)
        self._label = qt.QLabel(self.frame)
        self._label.objectName = "patientScreenLabel"
        self._label.wordWrap = True
        self._label.setTextFormat(qt.Qt.PlainText)
        self._column.addWidget(self._label)
        self._grid = qt.QGridLayout()
        self._column.addLayout(self._grid)
        self._row = qt.QHBoxLayout()
        self._call, self._read = self._fixed("call", "callButton"), self._fixed("read", "readButton")
        self._row.addWidget(self._call)
        self._row.addWidget(self._read)
        self._column.addLayout(self._row)
        self._column.addStretch(1)
        self.show_call("")
        self.frame.hide()

    @property
    def right_to_left(self) -> bool:
        """Whether the language is written from right to left."""
        return glossary(self.language).right_to_left

    def text(self, *parts: Part) -> str:
        """Return parts in the patient's language."""
        return render(parts, self.language, self.settings)

    def start(self) -> None:
        """Show the start page: the languages, each in its own words."""
        self.language, self.chosen_language = self.settings.spoken(""), False
        first = self.languages()
        self._say("\n".join(render(Part("start"), code) for code in first[:4]))
        self._fill([(("language", code), glossary(code).name_of_language) for code in first], columns=3)

    def languages(self) -> tuple[str, ...]:
        """Return all languages, the clinic's first."""
        clinic = self.settings.spoken("")
        return (clinic, *(code for code in languages() if code != clinic))

    def choose(self, language: str) -> None:
        """Use a language."""
        self.language, self.chosen_language = self.settings.spoken(language), True
        self.show_intents()

    def show_intents(self, suggested=(), keep: bool = False) -> None:
        """Show the buttons of everything that can be asked.

        Args:
            suggested: intents that a refusal offers; they come alone, before a way back to all.
            keep: whether the last question can be put on the list for the doctor.
        """
        intents = [intent for intent in suggested if intent in PERMITTED] or INTENTS
        actions = [(("intent", intent), self._button(intent)) for intent in intents]
        actions += [(("keep", ""), self._button("keep"))] if keep else []
        if suggested:
            actions += [(("back", ""), self._button("back"))]
        else:
            actions += [((name, ""), self._button(name)) for name in ("up", "down", "list")]
        actions += [(("again", ""), self._button("again"))]
        self._say(self.text(Part("instead")) if suggested else "")
        self._fill(actions)

    def show_subjects(self, labels) -> None:
        """Show a button for each structure in the picture.

        Args:
            labels: labels of the segments.
        """
        words = glossary(self.language)
        actions = [(("subject", label), words.plain(label)) for label in labels if words.knows(label)]
        self._say("")
        self._fill([*actions, (("back", ""), self._button("back"))], columns=3)

    def show_questions(self) -> None:
        """Show the questions for the doctor, each of which one tap puts on the list."""
        count = len(glossary(self.language).ask)
        actions = [(("keep", str(n)), self.text(Part(f"ask.{n}"))) for n in range(1, count + 1)]
        self._say(self.text(Part("button.keep")))
        self._fill([*actions, (("back", ""), self._button("back"))], columns=1)

    def show_call(self, since: str) -> None:
        """Show that the staff were called, in the clinic's language, with a button that ends it.

        Args:
            since: time of the call, "HH:MM"; "" for none.
        """
        clinic = self.settings.spoken("")
        self._wanted.text = render(Part("wanted", {"clock": since}), clinic, self.settings) if since else ""
        self._name(self._seen, render(Part("button.seen"), clinic, self.settings))
        self._wanted.visible = self._seen.visible = bool(since)

    @property
    def buttons(self) -> list:
        """All buttons that can be pressed, in order."""
        return [b for b in (self._seen, *self._made, self._call, self._read) if b.isVisible() and b.isEnabled()]

    @property
    def spoken(self) -> str:
        """What is read aloud: the parts of the last answer, or on the start page the welcome of the clinic's language."""
        return self.text(*(self._parts if self.chosen_language else (Part("start"), STAFF)))

    def enable(self, on: bool) -> None:
        """Enable the buttons, except while a job runs."""
        for button in self._made:
            button.enabled = on

    def html(self, turns, note=()) -> str:
        """Return the last question and answer for the text browser, from approved parts alone.

        Args:
            turns: of the conversation.
            note: parts that are shown instead, such as the name of what was touched.
        """
        question, parts = "", note or (Part("welcome"), STAFF)
        if turns and not note:
            turn = turns[-1]
            question = self.text(Part("own", {"own": turn.question}))
            if turn.answer is not None:
                parts = self.approved(turn.answer.parts)
            elif turn.problem:
                parts = (TROUBLE, STAFF)
            else:
                parts = (Part("working"), STAFF)
        self._parts = tuple(parts)
        side = "right" if self.right_to_left else "left"
        direction = "rtl" if self.right_to_left else "ltr"
        head = f'<p dir="{direction}" align="{side}" style="color: #40505c">{escape(question)}</p>' if question else ""
        lines = escape(self.text(*parts)).replace("\n", "<br><br>")
        return f'{head}<p dir="{direction}" align="{side}"><b>{lines}</b></p>'

    def approved(self, parts) -> tuple[Part, ...]:
        """Return the parts of an answer, each invalid one replaced, with the line for the staff."""
        valid = [part if is_valid(part, self.language, self.settings) else TROUBLE for part in parts] or [TROUBLE]
        return tuple(valid) if STAFF in valid else (*valid, STAFF)

    # -- implementation -----------------------------------------------------------------------------------

    def _button(self, name: str) -> str:
        return self.text(Part(f"button.{name}"))

    def _say(self, text: str) -> None:
        self._label.text = text
        self._label.visible = bool(text)

    def _fill(self, actions, columns: int = COLUMNS) -> None:
        """Replace the buttons.

        Args:
            actions: (what `act` is called with, text of the button), in order.
            columns: number of buttons in a row.
        """
        focused = any(button.hasFocus() for button in self._made)
        for button in self._made:
            self._grid.removeWidget(button)
            button.hide()
            button.deleteLater()
        self._made = []
        self.frame.setLayoutDirection(qt.Qt.RightToLeft if self.right_to_left else qt.Qt.LeftToRight)
        for n, (action, text) in enumerate(actions):
            button = self._new_button(action, text, LETTERS // columns)
            self._grid.addWidget(button, n // columns, n % columns)
            button.show()
            self._made.append(button)
        for name, button in (("call", self._call), ("read", self._read)):
            self._name(button, self._button(name))
        self._read.visible = self._reads and self.settings.read_aloud
        if focused and self._made:
            self._made[0].setFocus(qt.Qt.TabFocusReason)

    def _fixed(self, name: str, object_name: str):
        """Return a button that is always there."""
        button = self._new_button((name, ""), self._button(name), LETTERS)
        button.objectName = object_name
        return button

    def _new_button(self, action, text: str, letters: int):
        """Return a large button with a pictogram, if there is one.

        Args:
            action: what `act` is called with.
            text: its name.
            letters: largest number of letters in a line.
        """
        button = qt.QPushButton(self.frame)
        button.minimumHeight = SMALLEST
        button.setFocusPolicy(qt.Qt.StrongFocus)
        self._name(button, text, letters)
        picture = resources.path("patient", "pictograms", f"{action[1] if action[0] == 'intent' else action[0]}.svg")
        if picture.is_file():
            button.setIcon(qt.QIcon(str(picture)))
            button.setIconSize(qt.QSize(ICON, ICON))
        button.connect("clicked(bool)", self._presser(action))
        return button

    @staticmethod
    def _name(button, text: str, letters: int = LETTERS) -> None:
        button.text = "\n".join(textwrap.wrap(text, letters, break_on_hyphens=False, break_long_words=False))
        button.accessibleName = text

    def _presser(self, action):
        return lambda: qt.QTimer.singleShot(0, lambda: self._act(*action))  # a slot must not delete its own button

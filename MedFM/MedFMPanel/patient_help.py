"""A call of the staff, and reading aloud, in patient mode. Knows timers and threads; no widgets and no texts."""

from __future__ import annotations

import time

import qt
from MedFMLib.core.findings import Part
from MedFMLib.patient.calling import call_staff
from MedFMLib.patient.parts import STAFF
from MedFMLib.patient.sound import Voice, play, signal

from .background_task import BackgroundTask

LOOK_MS, AGAIN = 250, 8.0
"""Interval of looking at the tasks, and seconds from one sound to the next."""


class StaffCall:
    """A call that lasts until somebody answers it: on the screen, as a sound, and on the clinic's network.

    Args:
        say: called with the parts to show once it is known who was reached.
    """

    def __init__(self, say):
        self._say, self._settings, self.since = say, None, ""
        self._sent, self._sound, self._sounded = None, None, 0.0
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_MS)
        self._timer.connect("timeout()", self._look)

    def begin(self, settings) -> None:
        """Call; again while a call lasts sends it once more.

        Args:
            settings: the clinic's choices.
        """
        self._settings = settings
        self.since = self.since or time.strftime("%H:%M")
        self._sounded = 0.0
        self._sent = BackgroundTask(lambda progress: call_staff(settings))
        self._timer.start()
        self._look()

    def end(self) -> None:
        """End the call: somebody is here."""
        self._timer.stop()
        self.since, self._sent = "", None

    def _look(self) -> None:
        if self._sent is not None and self._sent.ended:
            reached, self._sent = bool(self._sent.result), None
            self._say(Part("called" if reached else "called_here"), STAFF)
        if self._sound is not None and self._sound.ended:
            if not self._sound.result:  # no player, so that the window system sounds
                qt.QApplication.beep()
            self._sound = None
        if self._settings.call_sound and self._sound is None and time.monotonic() - self._sounded > AGAIN:
            self._sounded = time.monotonic()
            self._sound = BackgroundTask(lambda progress: play(signal()))


class Reader:
    """Reads what is on the screen aloud, on another thread, since starting a voice takes time."""

    def __init__(self):
        self._voice, self._task = Voice(), None

    def can_read(self) -> bool:
        """Return whether this computer can read aloud."""
        return self._voice.can_speak()

    def toggle(self, text: str, language: str) -> None:
        """Read a text, or stop reading.

        Args:
            text: what is read.
            language: of the text.
        """
        if self._voice.speaking:
            return self.stop()
        voice = self._voice
        self._task = BackgroundTask(lambda progress: voice.say(text, language))
        return None

    def stop(self) -> None:
        """Be silent."""
        voice = self._voice
        if self._task is not None:
            self._task = BackgroundTask(lambda progress: voice.stop())

"""A `Progress` that records what was reported."""

from MedFMLib.interfaces.jobs import Fraction, Note, ProgressBase, Stage


class Recorder(ProgressBase):
    def __init__(self, cancelled=bool):
        self.stages, self.fractions, self.notes, self._cancelled = [], [], [], cancelled

    def report(self, event):
        match event:
            case Stage(name):
                self.stages.append(name)
            case Fraction(value):
                self.fractions.append(value)
            case Note(text):
                self.notes.append(text)

    def cancelled(self):
        return self._cancelled()

    def _stop_if_cancelled(self):
        """Leave it to the code under test to ask."""

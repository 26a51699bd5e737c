"""A `Progress` that remembers what it was told."""


class Recorder:
    def __init__(self, cancelled=bool):
        self.stages, self.fractions, self.notes, self.cancelled = [], [], [], cancelled

    def stage(self, name):
        self.stages.append(name)

    def fraction(self, value):
        self.fractions.append(value)

    def note(self, text):
        self.notes.append(text)

    def partial(self, text):
        pass

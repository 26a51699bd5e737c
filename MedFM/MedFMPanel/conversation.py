"""Store the questions and answers of one conversation, and render them as HTML. Knows no Qt and no scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from MedFMLib.core.findings import Answer, SliceReference

LINK = "slice:"
"""Scheme of a link to a position: `slice:R,A,S` in mm."""

EMPTY = "Ask about the whole volume, or about an ROI or point list chosen under Advanced."


@dataclass
class Turn:
    """A question with the text so far, and its answer or error."""

    question: str
    partial: str = ""
    answer: Answer | None = None
    who: str = "MedFM"
    problem: str = ""

    @property
    def open(self) -> bool:
        """Whether it still waits for its answer."""
        return self.answer is None and not self.problem


class Conversation:
    """The turns so far."""

    def __init__(self):
        self.turns: list[Turn] = []

    def ask(self, question: str) -> None:
        """Add a question that was sent."""
        self.turns.append(Turn(question))

    def write(self, text: str) -> None:
        """Add streamed text of the answer."""
        if self.turns:
            self.turns[-1].partial += text

    def take(self, answers: Sequence[Answer], who: str = "MedFM") -> bool:
        """Store the answer to the last question.

        Args:
            answers: of the response; the first is used.
            who: title of the model.

        Returns:
            False if no question was open (a report has answers without a question in the panel).
        """
        if not (answers and self.turns and self.turns[-1].open):
            return False
        self.turns[-1].answer, self.turns[-1].who = answers[0], who
        return True

    def fail(self, problem: str) -> None:
        """Store an error in place of the answer."""
        if self.turns and self.turns[-1].open:
            self.turns[-1].problem = problem

    def clear(self) -> None:
        """Remove all turns."""
        self.turns.clear()

    @property
    def history(self) -> tuple[tuple[str, str], ...]:
        """(question, answer) of every answered turn, for the model."""
        return tuple((turn.question, turn.answer.text) for turn in self.turns if turn.answer is not None)

    def html(self) -> str:
        """Return the whole conversation for a text browser."""
        if not self.turns:
            return f'<p style="color: gray">{EMPTY}</p>'
        return "".join(_turn_html(turn) for turn in self.turns)


def _turn_html(turn: Turn) -> str:
    parts = [f"<p><b>You</b><br>{escape(turn.question)}</p><p><b>{escape(turn.who)}</b><br>"]
    if turn.answer is not None:
        parts.append(escape(turn.answer.text or "(no words)").replace("\n", "<br>"))
        if turn.answer.reliability is not None:
            notes = "<br>".join(escape(note) for note in turn.answer.reliability.notes)
            parts.append(f'<br><span style="color: gray">{notes}</span>')
        if turn.answer.evidence:
            parts.append(f'<br><span style="color: gray">seen on {_links(turn.answer.evidence)}</span>')
    elif turn.problem:
        parts.append(f"<i>{escape(turn.problem)}</i>")
    else:
        parts.append(escape(turn.partial) + " …")
    return "".join(parts) + "</p>"


def _links(references: tuple[SliceReference, ...]) -> str:
    """Return "axial slices 20, 40" or "picture 1", each number a link to its slice."""
    by_plane: dict[str, list[str]] = {}
    for reference in references:
        position = ",".join(f"{value:.2f}" for value in reference.center)
        what, number = str(reference).rsplit(" ", 1)
        by_plane.setdefault(what, []).append(f'<a href="{LINK}{position}">{number}</a>')
    return "; ".join(f"{what}{'s' if len(links) > 1 else ''} {', '.join(links)}" for what, links in by_plane.items())


def link_position(address: str) -> tuple[float, float, float] | None:
    """Return the RAS position in mm of a link, or None for any other link."""
    if not address.startswith(LINK):
        return None
    numbers = address.removeprefix(LINK).split(",")
    return tuple(float(number) for number in numbers) if len(numbers) == 3 else None

"""What looking into an answer takes, said before it starts. Knows counts; measures nothing."""

from __future__ import annotations

from ..core.request import ReliabilityChoice

BLIND = 4
"""Answers' time that the blind control takes: two answers, and reading the answer three times (measured: 3.5)."""


def times(choice: ReliabilityChoice) -> int:
    """How many times as long as an answer it takes, at most."""
    return choice.samples + (BLIND if choice.blind else 0)


def words(choice: ReliabilityChoice, seconds: float = 0.0) -> str:
    """The cost as a person is told; "" if there is none.

    Args:
        seconds: that the answer itself took; 0 if not known yet.
    """
    count = times(choice)
    if not count:
        return ""
    first = f"at most {count} × the time of an answer"
    return f"{first}, here {count * seconds:.0f} s" if seconds >= 0.5 else first

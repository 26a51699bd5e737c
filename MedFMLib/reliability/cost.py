"""State the computing time of the reliability checks before they start. Knows counts; measures nothing."""

from __future__ import annotations

from ..core.request import ReliabilityChoice

BLIND = 4
"""Time of the blind control in answer times: two answers, and reading the answer three times (measured: 3.5)."""


def times(choice: ReliabilityChoice) -> int:
    """Return the time of the checks in units of an answer's time, at most."""
    return choice.samples + (BLIND if choice.blind else 0)


def words(choice: ReliabilityChoice, seconds: float = 0.0) -> str:
    """Return the cost as text for the user; "" if there is none.

    Args:
        choice: the wanted checks.
        seconds: computing time of the answer itself; 0 if not known yet.
    """
    count = times(choice)
    if not count:
        return ""
    first = f"at most {count} × the time of an answer"
    return f"{first}, here {count * seconds:.0f} s" if seconds >= 0.5 else first

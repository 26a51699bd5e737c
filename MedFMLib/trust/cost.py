"""What looking into an answer takes, said before it starts. Knows counts; measures nothing."""

from __future__ import annotations

from ..request import TrustChoice

CONTROLS = 2
"""Ways of showing no image."""


def times(choice: TrustChoice) -> int:
    """How many further answers are asked for."""
    return choice.samples + (CONTROLS if choice.blind else 0)


def words(choice: TrustChoice, seconds: float = 0.0) -> str:
    """The cost as a person is told; "" if there is none.

    Args:
        seconds: that the answer itself took; 0 if not known yet.
    """
    count = times(choice)
    if not count:
        return ""
    first = f"at most {count} × the time of an answer"
    return f"{first}, here {count * seconds:.0f} s" if seconds >= 0.5 else first

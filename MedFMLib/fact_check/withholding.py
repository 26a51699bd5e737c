"""Stream an answer up to its first number or side, and the rest after it was checked. Depends on text only."""

from __future__ import annotations

from collections.abc import Callable

from .answering import CLAIM


class WithholdingStream:
    """A filter for streamed text that forwards only what the check can't change.

    Args:
        tell: receives the text that is shown.
    """

    def __init__(self, tell: Callable[[str], None]):
        self._tell, self._waiting, self._shown, self._open = tell, "", "", True

    def __call__(self, piece: str) -> None:
        """Receive the next piece of the answer."""
        if not self._open:
            return
        self._waiting += piece
        end = max(self._waiting.rfind(" "), self._waiting.rfind("\n")) + 1  # a word may arrive in pieces
        if CLAIM.search(self._waiting):
            self._open = False
        elif end:
            self._tell(self._waiting[:end])
            self._shown, self._waiting = self._shown + self._waiting[:end], self._waiting[end:]

    def finish(self, answer: str) -> None:
        """Send the rest of the checked answer; all of it on a new line if the part that was shown had to be changed."""
        shown = self._shown.strip()
        if answer.startswith(shown):
            rest = answer[len(shown) :]
            rest = rest.lstrip() if self._shown[-1:].isspace() else rest
        else:
            rest = f"\n{answer}"
        if rest:
            self._tell(rest)

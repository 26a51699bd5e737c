"""Streams an answer up to its first number or side, and the rest once it was checked. Knows text only."""

from __future__ import annotations

from collections.abc import Callable

from .answering import CLAIM


class WithholdingStream:
    """Gets an answer's pieces as they are written, and passes on what no check can change.

    Args:
        tell: gets the pieces that are shown.
    """

    def __init__(self, tell: Callable[[str], None]):
        self._tell, self._waiting, self._shown, self._open = tell, "", "", True

    def __call__(self, piece: str) -> None:
        """More of the answer."""
        if not self._open:
            return
        self._waiting += piece
        end = max(self._waiting.rfind(" "), self._waiting.rfind("\n")) + 1  # a word may come in pieces
        if CLAIM.search(self._waiting):
            self._open = False
        elif end:
            self._tell(self._waiting[:end])
            self._shown, self._waiting = self._shown + self._waiting[:end], self._waiting[end:]

    def finish(self, answer: str) -> None:
        """The checked answer: what is not shown yet follows; on a new line if what was shown changed after all."""
        shown = self._shown.strip()
        if answer.startswith(shown):
            rest = answer[len(shown) :]
            rest = rest.lstrip() if self._shown[-1:].isspace() else rest
        else:
            rest = f"\n{answer}"
        if rest:
            self._tell(rest)

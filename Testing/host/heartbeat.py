"""How long the GUI thread was kept from its event loop: what a person feels as a frozen window. Knows Qt only."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from PySide6 import QtCore

BEAT_MS = 2


@dataclass
class Heartbeat:
    """Counts while used in a `with` block and the event loop runs.

    Attributes:
        gaps_ms: time between beats; without anything else to do about `BEAT_MS`.
    """

    gaps_ms: list[float] = field(default_factory=list)

    def __enter__(self) -> Heartbeat:
        self._last = time.perf_counter()
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT_MS)
        return self

    def __exit__(self, *_) -> None:
        self._beat()
        self._timer.stop()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps_ms.append(1000 * (now - self._last))
        self._last = now

    @property
    def longest_ms(self) -> float:
        """The longest time without a beat."""
        return max(self.gaps_ms)

    def __str__(self) -> str:
        worst = ", ".join(f"{gap:.0f}" for gap in sorted(self.gaps_ms, reverse=True)[:5])
        return f"longest GUI-thread block {self.longest_ms:.1f} ms ({len(self.gaps_ms)} beats; the longest: {worst} ms)"

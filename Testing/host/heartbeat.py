"""Measure how long the GUI thread was kept from its event loop: what a user feels as a frozen window. Knows Qt only.

A test run holds some 200,000 Python objects of its own, and a full collection of them takes 60 ms on whichever thread happens to
start it; they are excluded (`gc.freeze`), so that what is collected is the panel's.

A busy machine lets every thread wait for a processor. That is not a block by the panel, so the time that the thread was ready to
run but had no processor (the scheduler's run delay, /proc/thread-self/schedstat on Linux) is taken off.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, field
from pathlib import Path

from PySide6 import QtCore

BEAT_MS = 2
SCHEDULE = Path("/proc/thread-self/schedstat")


@dataclass
class Heartbeat:
    """Counts while used in a `with` block and the event loop runs.

    Attributes:
        gaps_ms: time between beats without waiting for a processor; with nothing else to do about `BEAT_MS`.
        waited_ms: time that the thread waited for a processor, in all.
    """

    gaps_ms: list[float] = field(default_factory=list)
    waited_ms: float = 0.0

    def __enter__(self) -> Heartbeat:
        gc.collect()
        gc.freeze()
        self._last, self._delay = time.perf_counter(), run_delay_ms()
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._beat)
        self._timer.start(BEAT_MS)
        return self

    def __exit__(self, *_) -> None:
        self._beat()
        self._timer.stop()
        gc.unfreeze()

    def _beat(self) -> None:
        now, delay = time.perf_counter(), run_delay_ms()
        waited = delay - self._delay
        self.gaps_ms.append(max(0.0, 1000 * (now - self._last) - waited))
        self.waited_ms += waited
        self._last, self._delay = now, delay

    @property
    def longest_ms(self) -> float:
        """The longest time without a beat."""
        return max(self.gaps_ms)

    def __str__(self) -> str:
        worst = ", ".join(f"{gap:.0f}" for gap in sorted(self.gaps_ms, reverse=True)[:5])
        return (
            f"longest GUI-thread block {self.longest_ms:.1f} ms ({len(self.gaps_ms)} beats; the longest: {worst} ms; "
            f"{self.waited_ms:.0f} ms without a processor)"
        )


def run_delay_ms() -> float:
    """Return how long this thread was ready to run without a processor so far; 0 where the system does not tell."""
    try:
        return int(SCHEDULE.read_text().split()[1]) / 1e6
    except (OSError, IndexError, ValueError):
        return 0.0

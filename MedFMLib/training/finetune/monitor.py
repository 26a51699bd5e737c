"""The clip monitor: what clipping left of each step's gradient, and whether anything is learned. Knows numbers; no torch.

The founding failure: clipping at 1, batches of one picture and no accumulation. Single pictures give gradients of norm 10 and
more, each is cut to length 1 whatever it says, and nothing shows in the loss that goes slightly down. So the norm *before*
clipping is kept for every step, and a sentence with the fix comes as soon as clipping decides the steps.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

WINDOW = 20
"""Steps that a warning looks back over."""
LEAST = 8
"""Steps before the first warning about clipping."""
EATEN_SHARE, EATEN_LEFT = 0.5, 0.5
"""Clipping decides the steps if it cuts this share of them, and leaves less than this of the median gradient."""
PATIENT = 60
"""Steps before it is said that nothing learns."""
LEARNED = 0.02
"""Share by which the loss must have fallen by then."""
SUGGESTED = 90
"""Percentile of the observed norms that is suggested to clip at."""


@dataclass(frozen=True)
class TrainingStep:
    """One step of training.

    Args:
        step: its number, from 1. loss: mean over its answers. rate: learning rate.
        norm: of the gradient before clipping. clip: where it is clipped, 0 for nowhere. left: share of the gradient that is left.
        update: norm of what was added to the weights. weight: norm of the weights after it. seconds: it took.
    """

    step: int
    loss: float
    rate: float
    norm: float
    clip: float
    left: float
    update: float
    weight: float
    seconds: float

    @property
    def clipped(self) -> bool:
        """Was the gradient cut?"""
        return self.left < 1


def percentile(values: Sequence[float], share: float) -> float:
    """Return the percentile of the finite values, linear between neighbours; NaN without any.

    Args:
        values: of any number.
        share: which percentile, 0…100.
    """
    finite = [value for value in values if math.isfinite(value)]
    return float(np.percentile(finite, share)) if finite else math.nan


@dataclass
class ClipMonitor:
    """Steps so far, and what a person must know of them.

    Args:
        batch, accumulation: as it trains, for the advice.
    """

    batch: int
    accumulation: int
    steps: list[TrainingStep] = field(default_factory=list)
    warned: dict[str, str] = field(default_factory=dict)

    def add(self, step: TrainingStep) -> list[str]:
        """Take one in; → warnings that are new."""
        self.steps = (
            [s for s in self.steps if s.step < step.step]
            if self.steps and self.steps[-1].step >= step.step
            else self.steps
        )
        self.steps.append(step)
        new = {kind: text for kind, text in self._look().items() if kind not in self.warned}
        self.warned |= new
        return list(new.values())

    @property
    def clipped_share(self) -> float:
        """Of all steps."""
        return sum(s.clipped for s in self.steps) / max(1, len(self.steps))

    @property
    def suggested_clip(self) -> float:
        """Where only the largest tenth of gradients would be cut; 0 before there are any."""
        value = percentile([s.norm for s in self.steps], SUGGESTED)
        return 0.0 if math.isnan(value) else float(f"{value:.2g}")

    def _look(self) -> dict[str, str]:
        said, last = {}, self.steps[-1]
        if not math.isfinite(last.loss) or not math.isfinite(last.norm):
            said["nan"] = (f"The loss or its gradient is not a number at step {last.step}: training was ended. Lower the rate "
                           f"({last.rate:.1e} now), or compute in fp32.")  # fmt: skip
            return said
        if last.norm == 0:
            said["zero"] = (f"The gradient is exactly 0 at step {last.step}: nothing reaches the adapter. Check that answers are "
                            "not empty; if they are not, train in bf16 or fp32.")  # fmt: skip
        window = self.steps[-WINDOW:]
        cut = sum(s.clipped for s in window) / len(window)
        left = percentile([s.left for s in window], 50)
        if len(self.steps) >= LEAST and cut >= EATEN_SHARE and left < EATEN_LEFT:
            fixes = ["raise the clip to " + f"{self.suggested_clip:g} (the {SUGGESTED}th percentile so far)"]
            if self.batch * self.accumulation < 8:
                fixes.insert(
                    0,
                    f"accumulate over 4 or more batches (each step sees {self.batch * self.accumulation} pictures now)",
                )
            said["clip"] = (
                f"Clipping at {last.clip:g} cut {cut:.0%} of the last {len(window)} steps and left {left:.0%} of the median "
                f"gradient (norm {percentile([s.norm for s in window], 50):.3g} before it), so that all steps are of one length "
                f"and single pictures decide where they go: {', or '.join(fixes)}."
            )
        if len(self.steps) >= PATIENT:
            first = sum(s.loss for s in self.steps[:WINDOW]) / WINDOW
            now = sum(s.loss for s in window) / len(window)
            if now > (1 - LEARNED) * first:
                said["nothing"] = (
                    f"Nothing learns: the loss was {first:.3g} in the first {WINDOW} steps and is {now:.3g} in the last; raise "
                    f"the rate ({last.rate:.1e} now), train more layers (targets all), or look at the answers in the data."
                )
        return said

    def summary(self) -> dict:
        """For the adapter's card."""
        norms = [s.norm for s in self.steps]
        return {
            "steps": len(self.steps), "clip": self.steps[-1].clip if self.steps else 0, "clipped_share": self.clipped_share,
            "median_norm": percentile(norms, 50), "suggested_clip": self.suggested_clip,
            "median_left": percentile([s.left for s in self.steps], 50), "warnings": list(self.warned.values()),
        }  # fmt: skip


COLUMNS = tuple(f.name for f in fields(TrainingStep))


def append(path: Path, step: TrainingStep) -> None:
    """One line of a CSV file, with a heading if it is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(
            {name: f"{value:.8g}" if isinstance(value, float) else value for name, value in asdict(step).items()}
        )


def read(path: Path, until: int | None = None) -> list[TrainingStep]:
    """Steps of a CSV file up to number `until`; a last line that was cut off is left out."""
    if not path.is_file():
        return []
    steps: dict[int, TrainingStep] = {}
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            try:
                step = TrainingStep(int(row["step"]), **{name: float(row[name]) for name in COLUMNS if name != "step"})
            except (TypeError, ValueError, KeyError):
                continue
            if until is None or step.step <= until:
                steps[step.step] = step
    return [steps[number] for number in sorted(steps)]


def rewrite(path: Path, steps: Sequence[TrainingStep]) -> None:
    """The file with these steps alone, after going back to a checkpoint."""
    path.unlink(missing_ok=True)
    for step in steps:
        append(path, step)


def append_layers(path: Path, step: int, names, norms: Sequence[float]) -> None:
    """A line for each trained weight: step, name, norm."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(("step", "layer", "norm"))
        writer.writerows((step, name, f"{norm:.6g}") for name, norm in zip(names, norms, strict=True))

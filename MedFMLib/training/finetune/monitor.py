"""Monitor how gradient clipping changes each step, and whether the loss falls. Knows numbers; no torch.

The problem that motivated it: clipping at 1, batches of one picture and no accumulation. Single pictures have gradients
of norm 10 and more, each is scaled to length 1 whatever its content, and the loss, which falls slightly, shows nothing
of it. So the norm *before* clipping is recorded for every step, and a warning with the remedy is issued as soon as
clipping dominates the steps.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np

WINDOW = 20
"""Number of steps that a warning covers."""
LEAST = 8
"""Steps before the first warning about clipping."""
CLIPPED_SHARE, CLIPPED_LEFT = 0.5, 0.5
"""Clipping dominates if it clips this fraction of the steps, and leaves less than this fraction of the median gradient."""
PATIENT = 60
"""Steps before a warning that the loss does not fall."""
LEARNED = 0.02
"""Fraction by which the loss must have fallen by then."""
SUGGESTED = 90
"""Percentile of the observed norms that is suggested as the clip."""


@dataclass(frozen=True)
class TrainingStep:
    """One step of training.

    Args:
        step: its number, from 1.
        loss: mean over its answers' tokens.
        rate: learning rate.
        norm: norm of the gradient before clipping.
        clip: clipping norm, 0 for no clipping.
        left: fraction of the gradient's norm left after clipping, 0…1.
        update: norm of the change of the weights.
        weight: norm of the weights after it.
        seconds: time that it took.
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
        """Whether the gradient was clipped."""
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
    """The steps so far, and warnings about them.

    Args:
        batch: pictures per pass, for the advice.
        accumulation: passes per step, for the advice.
        steps: the steps so far.
        warned: kind → warning that was issued.
    """

    batch: int
    accumulation: int
    steps: list[TrainingStep] = field(default_factory=list)
    warned: dict[str, str] = field(default_factory=dict)

    def add(self, step: TrainingStep) -> list[str]:
        """Add a step and return the new warnings."""
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
        """Fraction of all steps that were clipped."""
        return sum(s.clipped for s in self.steps) / max(1, len(self.steps))

    @property
    def suggested_clip(self) -> float:
        """Clip that would affect only the largest tenth of gradients; 0 before there are any."""
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
        if len(self.steps) >= LEAST and cut >= CLIPPED_SHARE and left < CLIPPED_LEFT:
            fixes = ["raise the clip to " + f"{self.suggested_clip:g} (the {SUGGESTED}th percentile so far)"]
            if self.batch * self.accumulation < 8:
                fixes.insert(
                    0,
                    f"accumulate over 4 or more batches (each step sees {self.batch * self.accumulation} pictures now)",
                )
            said["clip"] = (
                f"Clipping at {last.clip:g} cut {cut:.0%} of the last {len(window)} steps and left {left:.0%} of the median "
                f"gradient (norm {percentile([s.norm for s in window], 50):.3g} before it), so that all steps have one length "
                f"and single pictures decide their direction: {', or '.join(fixes)}."
            )
        if len(self.steps) >= PATIENT:
            first = sum(s.loss for s in self.steps[:WINDOW]) / WINDOW
            now = sum(s.loss for s in window) / len(window)
            if now > (1 - LEARNED) * first:
                said["nothing"] = (
                    f"The loss does not fall: it was {first:.3g} in the first {WINDOW} steps and is {now:.3g} in the last; raise "
                    f"the rate ({last.rate:.1e} now), train more layers (targets all), or look at the answers in the data."
                )
        return said

    def summary(self) -> dict:
        """Return a summary for the adapter's card."""
        norms = [s.norm for s in self.steps]
        return {
            "steps": len(self.steps), "clip": self.steps[-1].clip if self.steps else 0, "clipped_share": self.clipped_share,
            "median_norm": percentile(norms, 50), "suggested_clip": self.suggested_clip,
            "median_left": percentile([s.left for s in self.steps], 50), "warnings": list(self.warned.values()),
        }  # fmt: skip


COLUMNS = tuple(f.name for f in fields(TrainingStep))


def append(path: Path, step: TrainingStep) -> None:
    """Append one step to a CSV file, with a header if it is new.

    Args:
        path: the file.
        step: the step.
    """
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(
            {name: f"{value:.8g}" if isinstance(value, float) else value for name, value in asdict(step).items()}
        )


def read(path: Path, until: int | None = None) -> list[TrainingStep]:
    """Return the steps of a CSV file; an incomplete last line is skipped.

    Args:
        path: the file.
        until: number of the last step to read; all if None.
    """
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
    """Replace a CSV file by these steps, after going back to a checkpoint.

    Args:
        path: the file.
        steps: the steps to keep.
    """
    path.unlink(missing_ok=True)
    for step in steps:
        append(path, step)


def append_layers(path: Path, step: int, names, norms: Sequence[float]) -> None:
    """Append a line for each trained weight: step, name, norm.

    Args:
        path: the file.
        step: number of the step.
        names: of the weights.
        norms: of the weights, in the same order.
    """
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(("step", "layer", "norm"))
        writer.writerows((step, name, f"{norm:.6g}") for name, norm in zip(names, norms, strict=True))

"""From agreement to the chance of being right: fitted on questions with known answers, kept as JSON. Knows numbers; no model.

The fit is isotonic regression (pool adjacent violators): the more samples agree, the higher the chance, in whatever steps
the data have; each step is drawn a little towards the mean, as if four more answers of mean quality had been seen, since few
answers prove little. The threshold is the least confidence at which, on the same data, answers that are shown are right often
enough; if none are, it is the confidence of the surest ones. Expected calibration error: Guo et al., ICML 2017, ten bins.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..storage import paths, resources
from ..storage.user_settings import write

PRIOR = 4
"""Answers of mean quality that every step of the curve counts besides its own."""

TARGET = 0.9
"""Share of shown answers that should be right."""

LEAST_SHOWN = 0.1
"""Share of the questions that must be left to speak of a share."""


@dataclass(frozen=True)
class Calibration:
    """What a model's agreement is worth.

    Args:
        model: id. samples: how many were drawn. temperature: how freely.
        curve: (agreement, chance of being right) steps, both rising.
        threshold: below this chance an answer is withheld.
        questions: how many it was fitted on. right: share of them that was right.
        error_before, error_after: expected calibration error of agreement, and of the chances, where data that were not fitted
            say; −1 where none do.
        data, command, date: where it comes from.
    """

    model: str
    samples: int
    temperature: float
    curve: tuple[tuple[float, float], ...]
    threshold: float
    questions: int
    right: float
    error_before: float = -1.0
    error_after: float = -1.0
    data: str = ""
    command: str = ""
    date: str = ""

    def confidence(self, agreement: float) -> float:
        """Chance that an answer with this agreement is right."""
        places, chances = zip(*self.curve, strict=True)
        return float(np.interp(agreement, places, chances))

    def save(self, path: Path) -> Path:
        """Write it, whole or not at all.

        Raises:
            OutputError: if it can't be written.
        """
        write(path, asdict(self), "The calibration")
        return path

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read and check one.

        Raises:
            InputError: if it is not whole.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if set(content) != {f.name for f in fields(cls)}:
                raise ValueError("its fields are others")
            curve = tuple((float(a), float(b)) for a, b in content.pop("curve"))
            numbers = np.array(curve)
            if not len(numbers) or (np.diff(numbers, axis=0) < 0).any() or numbers.min() < 0 or numbers.max() > 1:
                raise ValueError("its curve does not rise within 0 to 1")
            return cls(curve=curve, **content)
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise InputError(
                f"The calibration {path.name} can't be read ({error}); make it again with `medfm reliability calibrate`."
            ) from error


def fit(agreements: Sequence[float], right: Sequence[float]) -> tuple[tuple[tuple[float, float], ...], float]:
    """(curve, threshold) from agreements and whether each answer was right (0…1; a list may be partly right).

    Raises:
        InputError: with fewer than 20 answers.
    """
    x, y = np.asarray(agreements, float), np.asarray(right, float)
    if len(x) < 20:
        raise InputError(f"A calibration needs at least 20 answers, not {len(x)}; give more questions.")
    steps: list[list[float]] = []  # [sum of right, count, last place]
    for place in np.unique(x):
        here = y[x == place]
        steps.append([float(here.sum()), float(len(here)), float(place)])
        while len(steps) > 1 and steps[-2][0] * steps[-1][1] >= steps[-1][0] * steps[-2][1]:
            total, count, last = steps.pop()
            steps[-1] = [steps[-1][0] + total, steps[-1][1] + count, last]
    mean, places = float(y.mean()), np.unique(x)
    ends = [step[2] for step in steps]
    chances = [(step[0] + PRIOR * mean) / (step[1] + PRIOR) for step in steps]
    chances = np.maximum.accumulate(chances)
    curve = tuple((float(p), float(chances[int(np.searchsorted(ends, p))])) for p in places)
    return curve, threshold(np.interp(x, *zip(*curve, strict=True)), y)


def threshold(chances: Sequence[float], right: Sequence[float], target: float = TARGET) -> float:
    """The least chance from which on shown answers are right often enough."""
    chances, right = np.asarray(chances, float), np.asarray(right, float)
    best = float(chances.max())
    for cut in sorted(set(chances.tolist())):
        shown = chances >= cut
        if shown.mean() >= LEAST_SHOWN and right[shown].mean() >= target:
            return float(cut)
    return best


def expected_error(chances: Sequence[float], right: Sequence[float], bins: int = 10) -> float:
    """Expected calibration error, 0…1: how far stated chances lie from what came true, over equal bins."""
    chances, right = np.asarray(chances, float), np.asarray(right, float)
    number = np.minimum((chances * bins).astype(int), bins - 1)
    gaps = [
        abs(chances[number == b].mean() - right[number == b].mean()) * (number == b).mean() for b in np.unique(number)
    ]
    return float(sum(gaps))


def known(model: str) -> Calibration | None:
    """The calibration of a model: a person's own, else the one that ships; None if there is neither.

    Raises:
        InputError: if the file is damaged.
    """
    for path in (own_file(model), resources.path("reliability", own_file(model).name)):
        if path.is_file():
            return Calibration.load(path)
    return None


def own_file(model: str) -> Path:
    """Where a person's own calibration of a model lies."""
    name = "".join(c if c.isalnum() or c in "-._" else "_" for c in model).strip(".")
    return paths.settings() / "reliability" / f"{name}.json"

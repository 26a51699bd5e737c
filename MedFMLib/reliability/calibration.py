"""Map agreement to the probability of being right: fitted on questions with known answers, saved as JSON.

Knows no model.

The fit is isotonic regression (pool adjacent violators): the probability rises with the agreement, in the steps that
the data have. Each step is shrunk towards the mean, as if four more answers of mean quality had been seen, since few
answers are weak evidence. The threshold is the smallest confidence at which, on the same data, shown answers are right
often enough; if there is none, it is the highest confidence. Expected calibration error: Guo et al., ICML 2017, ten
bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..storage import paths, resources
from ..storage.json_records import check_record
from ..storage.json_text import read_json
from ..storage.user_settings import write

PRIOR = 4
"""Number of pseudo-answers of mean quality that are added to every step of the curve."""

TARGET = 0.9
"""Fraction of the shown answers that should be right."""

LEAST_SHOWN = 0.1
"""Fraction of the questions that must remain above the threshold."""


@dataclass(frozen=True)
class Calibration:
    """Calibration of one model's agreement.

    Args:
        model: id of the model.
        samples: number of sampled answers per question.
        temperature: sampling temperature.
        curve: (agreement, probability of being right) steps, both rising.
        threshold: answers with a lower probability are withheld.
        questions: number of questions that it was fitted on.
        right: fraction of them that was answered correctly.
        error_before: expected calibration error of the agreement on data that were not fitted; −1 if there are none.
        error_after: expected calibration error of the probabilities on data that were not fitted; −1 if there are none.
        data: description of the data.
        command: command that made the calibration.
        date: date of the calibration.
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
        """Return the probability that an answer with this agreement (0…1) is right."""
        places, chances = zip(*self.curve, strict=True)
        return float(np.interp(agreement, places, chances))

    def save(self, path: Path) -> Path:
        """Write the calibration atomically and return the path.

        Raises:
            OutputError: if it can't be written.
        """
        write(path, asdict(self), "The calibration")
        return path

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read and check a calibration.

        Raises:
            InputError: if it is damaged or incomplete.
        """
        try:
            content = check_record(cls, read_json(path.read_bytes()), complete=True)
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
    """Return (curve, threshold) of a calibration.

    Args:
        agreements: agreement of each answer, 0…1.
        right: whether each answer was right, 0…1; a list may be partly right.

    Raises:
        InputError: with fewer than 20 answers.
    """
    from scipy.optimize import isotonic_regression

    x, y = np.asarray(agreements, float), np.asarray(right, float)
    if len(x) < 20:
        raise InputError(f"A calibration needs at least 20 answers, not {len(x)}; give more questions.")
    places, group, counts = np.unique(x, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=y) / counts
    fitted = isotonic_regression(means, weights=counts).x
    step = np.concatenate([[0], np.cumsum(np.diff(fitted) > 1e-12)])  # places of one step have the same fitted value
    right_in, count_in = np.bincount(step, weights=means * counts), np.bincount(step, weights=counts)
    chances = np.maximum.accumulate((right_in + PRIOR * y.mean()) / (count_in + PRIOR))[step]
    curve = tuple((float(p), float(c)) for p, c in zip(places, chances, strict=True))
    return curve, threshold(np.interp(x, *zip(*curve, strict=True)), y)


def threshold(chances: Sequence[float], right: Sequence[float], target: float = TARGET) -> float:
    """Return the smallest probability at and above which enough of the shown answers are right.

    Args:
        chances: probability of each answer, 0…1.
        right: whether each answer was right, 0…1.
        target: fraction of the shown answers that should be right.
    """
    chances, right = np.asarray(chances, float), np.asarray(right, float)
    best = float(chances.max())
    for cut in sorted(set(chances.tolist())):
        shown = chances >= cut
        if shown.mean() >= LEAST_SHOWN and right[shown].mean() >= target:
            return float(cut)
    return best


def expected_error(chances: Sequence[float], right: Sequence[float], bins: int = 10) -> float:
    """Return the expected calibration error, 0…1: mean difference of stated probability and correctness over bins.

    Args:
        chances: stated probability of each answer, 0…1.
        right: whether each answer was right, 0…1.
        bins: number of bins of equal width.
    """
    chances, right = np.asarray(chances, float), np.asarray(right, float)
    number = np.minimum((chances * bins).astype(int), bins - 1)
    gaps = [
        abs(chances[number == b].mean() - right[number == b].mean()) * (number == b).mean() for b in np.unique(number)
    ]
    return float(sum(gaps))


def known(model: str) -> Calibration | None:
    """Return the calibration of a model: the user's own, else the one that ships; None if there is neither.

    Raises:
        InputError: if the file is damaged.
    """
    for path in (own_file(model), resources.path("reliability", own_file(model).name)):
        if path.is_file():
            return Calibration.load(path)
    return None


def own_file(model: str) -> Path:
    """Return the path of the user's own calibration of a model."""
    name = "".join(c if c.isalnum() or c in "-._" else "_" for c in model).strip(".")
    return paths.settings() / "reliability" / f"{name}.json"

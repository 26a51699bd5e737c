"""Compute baselines for a model: the mean shape of each organ, and the most common answer to each kind of question.

Uses training labels only; no pictures, no model. The mean shape is given the relative height of the slice in the torso
(one of
`BINS` parts), which the model is not: a strong baseline for organs of one known patient.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from . import labels
from .exchanges import scene_of, word_exchange
from .questions import WORDINGS
from .samples import pictures, training_painter
from .sources import Subject, torso_subjects
from .synthesis import cut, nearest

BINS = 12
SIDE = 64


class MeanShapes:
    """Frequency of each part in 64×64 cells of axial slices, per torso and height bin, in the training data.

    Args:
        data: the data folder.
        per_bin: number of slices per bin.
    """

    def __init__(self, data: Path, per_bin: int = 6):
        self._sums: dict[tuple[str, int], np.ndarray] = {}
        for subject in torso_subjects(data):
            self._add(subject, per_bin)

    def _add(self, subject: Subject, per_bin: int) -> None:
        box = np.array([(0, n) for n in subject.parts.shape])
        for b in range(BINS):
            counts = self._sums.setdefault((subject.name, b), np.zeros((len(labels.PARTS), SIDE, SIDE), np.float32))
            for step in range(per_bin):
                where = cut(subject, box, "axial", (b + (step + 0.5) / per_bin) / BINS, SIDE)
                parts = nearest(subject.parts, where.points)
                for number in np.unique(parts):
                    if number < len(labels.PARTS):
                        counts[number] += parts == number

    def mask(self, name: str, position: float, structure: str) -> np.ndarray:
        """Return (64, 64) bool over the picture's square: where most training slices at this height have the structure.

        Args:
            name: of the subject.
            position: 0…1 from the bottom through the torso.
            structure: name of the structure.
        """
        counts = self._sums[name, min(BINS - 1, int(np.clip(position, 0, 0.999) * BINS))]
        total = counts.sum(0).max()
        share = counts[list(labels.STRUCTURES[structure])].sum(0) / max(total, 1e-6)
        return share >= 0.35  # the threshold of best expected Dice lies below one half


def majority_answers(data: Path, count: int = 500, seed: int = 4_000_000) -> dict[str, str]:
    """Return a mapping from kind of question to most common answer in training.

    Args:
        data: the data folder.
        count: number of pictures.
        seed: of the pictures.
    """
    painter = training_painter(data, 64)
    answers: dict[str, Counter] = defaultdict(Counter)
    source = pictures(painter, seed)
    for _ in range(count):
        picture, rng = next(source)
        scene = scene_of(picture)
        for _ in range(6):
            exchange = word_exchange(scene, rng)
            answers[exchange.kind][exchange.answer] += 1
    return {kind: answers[kind].most_common(1)[0][0] for kind in WORDINGS if answers[kind]}

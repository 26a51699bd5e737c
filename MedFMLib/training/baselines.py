"""What a model must beat: the mean shape of each structure, and the most common answer to each kind of question.

Knows training labels only; no pictures, no model. The mean shape is told the plane and how far through the brain or torso
the slice lies (one of `BINS` parts), which the model is not: a strong baseline for organs of one known patient.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from . import labels
from .exchanges import scene_of, word_exchange
from .questions import WORDINGS
from .samples import pictures
from .sources import Subject, head_maps, torso_subjects
from .synthesis import Painter, bounds, cut, nearest

BINS = 12
SIDE = 64
PLANES = ("axial", "coronal", "sagittal")


class MeanShapes:
    """Per frame, plane and bin, how often each of 64×64 cells holds each part in training.

    Args:
        data: the data folder. Frames are "brain" (head cropped to the brain), "head", "torso" (CT), "slab" (MR torso).
    """

    def __init__(self, data: Path, per_bin: int = 2):
        self._sums: dict[tuple[str, str, int], np.ndarray] = {}
        for subject in head_maps(data):
            self._add(subject, bounds(labels.structure_mask(subject.parts, "brain")), "brain", per_bin)
            self._add(subject, bounds(subject.values > 0), "head", 1)
        for subject in torso_subjects(data):
            frame = {"ct_torso": "torso", "mr_torso": "slab", "ct_chest": "chest"}[subject.name]
            self._add(subject, np.array([(0, n) for n in subject.parts.shape]), frame, 6)

    def _add(self, subject: Subject, box: np.ndarray, frame: str, per_bin: int) -> None:
        for plane in PLANES:
            for b in range(BINS):
                counts = self._sums.setdefault((frame, plane, b), np.zeros((len(labels.PARTS), SIDE, SIDE), np.float32))
                for step in range(per_bin):
                    where = cut(subject, box, plane, (b + (step + 0.5) / per_bin) / BINS, SIDE)
                    parts = nearest(subject.parts, where.points)
                    for number in np.unique(parts):
                        if number < len(labels.PARTS):
                            counts[number] += (parts == number) * (1.0 / per_bin)

    def mask(self, frame: str, plane: str, position: float, structure: str) -> np.ndarray:
        """(64, 64) bool over the picture's square: where the structure is in most of training at this position.

        Args:
            position: 0…1 from left, back or bottom through the frame.
        """
        counts = self._sums[frame, plane, min(BINS - 1, int(np.clip(position, 0, 0.999) * BINS))]
        total = counts.sum(0).max()
        share = counts[list(labels.STRUCTURES[structure])].sum(0) / max(total, 1e-6)
        return share >= 0.35  # the threshold of best expected Dice lies below one half


def majority_answers(data: Path, count: int = 900, seed: int = 4_000_000) -> dict[str, str]:
    """Kind of question → its most common answer in training."""
    painter = Painter(head_maps(data) + torso_subjects(data), 64)
    answers: dict[str, Counter] = defaultdict(Counter)
    source = pictures(painter, seed)
    for _ in range(count):
        picture, rng = next(source)
        scene = scene_of(picture)
        for _ in range(4):
            exchange = word_exchange(scene, rng)
            answers[exchange.kind][exchange.answer] += 1
    return {kind: answers[kind].most_common(1)[0][0] for kind in WORDINGS if answers[kind]}

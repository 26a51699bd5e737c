"""Compute a baseline for answers: the most common answer to each kind of question. Uses training labels only; no model."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from .exchanges import scene_of, word_exchange
from .questions import WORDINGS
from .samples import pictures, training_painter


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

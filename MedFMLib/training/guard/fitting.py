"""Train the guard's models: the encoder with its heads, and the linear model on n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...guard import clauses
from ...guard.intent_model import HEADS
from ...guard.intents import LANGUAGES, PERMITTED, WITHHELD
from . import augmenting, encoding, linear
from .lines import Item
from .pretrained import Pretrained

URGENT_SHARE = 0.3
"""Largest share of emergencies in the weight of a language."""

LEAST_MASS = 0.03
"""Share of the weight below which a language gets more of it."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training.

    Args:
        augment: share of changed copies, relative to the texts.
        seed: of all chance.
        encoder: see `encoding.Settings`.
    """

    augment: float = 0.3
    seed: int = 0
    encoder: encoding.Settings = field(default_factory=encoding.Settings)


def train(items: Sequence[Item], source: Pretrained, settings: Settings | None = None) -> dict[str, np.ndarray]:
    """Return the tensors of all models.

    Args:
        items: to train on.
        source: the pretrained transformer.
        settings: the usual ones by default.
    """
    settings = settings or Settings()
    written = [clauses.words(clauses.soften(item.text)) for item in items]
    kept = encoding.vocabulary(written, source, settings.encoder.pieces)
    items = augmenting.augmented(items, settings.augment, settings.seed)
    pairs = [(clauses.words(clauses.soften(item.text)), item) for item in items]
    pairs = [(text, item) for text, item in pairs if text]
    texts, items = [text for text, _ in pairs], [item for _, item in pairs]
    targets, weights = targets_of(items)
    sizes = [len(classes) for classes in HEADS.values()]
    tensors = linear.train(texts, targets[:, 0], weights, sizes[0])
    return tensors | encoding.train(texts, targets, weights, sizes, source, kept, settings.encoder)


def targets_of(items: Sequence[Item]) -> tuple[np.ndarray, np.ndarray]:
    """Return the class of each head, −1 if unknown, and the weights, in which no class is drowned by the others."""
    labels = np.array(
        [
            [
                HEADS["intent"].index(item.intent),
                HEADS["kind"].index(item.kind) if item.kind else -1,
                HEADS["status"].index(item.status) if item.status else -1,
                HEADS["language"].index(item.language),
            ]
            for item in items
        ]
    )
    weights = np.array([item.weight for item in items], np.float32)
    mass = np.bincount(labels[:, 0], weights, len(HEADS["intent"]))
    weights *= (mass.mean() / np.maximum(mass, 1))[labels[:, 0]] ** 0.5
    urgent = labels[:, 0] >= len(PERMITTED) + len(WITHHELD)
    for language in range(len(LANGUAGES)):  # else a language with many lines on emergencies would be a sign of one
        mine = labels[:, 3] == language
        one, other = weights[mine & urgent].sum(), weights[mine & ~urgent].sum()
        if one > URGENT_SHARE * (one + other) > 0:
            weights[mine & urgent] *= URGENT_SHARE / (1 - URGENT_SHARE) * other / one
        if one + other > 0:  # a language with few lines must be learned, too
            weights[mine] *= max(1.0, (LEAST_MASS * weights.sum() / weights[mine].sum()) ** 0.5)
    return labels, weights / weights.mean()

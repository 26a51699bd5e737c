"""Train the linear model on hashed n-grams, which judges intents fast and without an encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...guard import clauses
from ...guard.encoder import packed
from ...guard.features import ngrams
from ...guard.intent_model import softmax, weighted

BUCKETS = 2**16
"""Of the hashed n-grams."""

RARE = 3
"""Smallest number of texts with an n-gram that is learned."""

ROUNDS, DECAY, RATE = 40, 2e-6, 0.3
"""Steps of Adam, each over all texts; L2 penalty; and the first step's rate."""


def train(texts: Sequence[Sequence[str]], intents: np.ndarray, weights: np.ndarray, classes: int) -> dict:
    """Return the tensors of the model, trained by Adam on all texts at once.

    Args:
        texts: softened words of each text.
        intents: (texts,) class of each.
        weights: (texts,) of the loss.
        classes: number of intents.
    """
    from scipy import sparse

    folded = [clauses.folded(text) for text in texts]
    count = np.bincount(np.concatenate([ngrams(text, BUCKETS)[0] for text in folded]), minlength=BUCKETS)
    idf = np.minimum(np.round(16 * (np.log((1 + len(texts)) / (1 + count)) + 1)), 255).astype(np.uint8)
    idf[count < RARE] = 0  # what is rare teaches nothing, and would only make the vectors of new texts smaller
    rows = [weighted(text, idf.astype(np.float32) / 16) for text in folded]
    starts = np.cumsum([0, *(len(ids) for ids, _ in rows)])
    matrix = sparse.csr_matrix(
        (np.concatenate([v for _, v in rows]), np.concatenate([i for i, _ in rows]), starts), (len(texts), BUCKETS)
    )
    back, wanted = matrix.T.tocsr(), np.eye(classes, dtype=np.float32)[intents]
    weight, bias = np.zeros((BUCKETS, classes), np.float32), np.zeros(classes, np.float32)
    first, second = np.zeros_like(weight), np.zeros_like(weight)
    for step in range(1, ROUNDS + 1):
        error = (softmax(matrix @ weight + bias) - wanted) * weights[:, None] / len(texts)
        gradient = back @ error + DECAY * weight
        first = 0.9 * first + 0.1 * gradient
        second = 0.99 * second + 0.01 * gradient**2
        rate = RATE * (1 - step / (ROUNDS + 1))
        weight -= rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-7)
        bias -= rate * 2 * error.sum(0)
    codes, scale = packed(weight.T)
    return {"linear.idf": idf, "linear.codes": codes, "linear.scale": scale, "linear.bias": bias.astype(np.float32)}

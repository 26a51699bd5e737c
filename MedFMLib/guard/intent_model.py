"""Compute how likely each intent, emergency and language is. Needs numpy only; decides nothing.

The logits of two models are averaged: a linear one on hashed n-grams of letters and words, and a small convolution over static
vectors of word pieces (distilled from multilingual-e5-small, MIT). MedFMLib/training/guard trains them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..errors import ModelError
from ..storage import resources
from . import clauses
from .features import MOST_PIECES, Pieces, bucket, ngrams, slips
from .intents import INTENTS, KINDS, LANGUAGES, STATUSES

HEADS = {"intent": INTENTS, "kind": KINDS, "status": STATUSES, "language": LANGUAGES}
"""Output of the models → its classes."""

WIDTHS = (1, 2, 3, 4)
"""Of the convolution's windows, in pieces."""

SHARE = 0.3
"""Weight of the convolution's logits; those of the linear model have the rest."""

SHORTEST_SLIP, LONGEST_SLIP = 5, 20
"""Numbers of letters of words that are corrected; shorter words have too many neighbours."""

NEEDED = {
    *(f"linear.{part}" for part in ("idf", "weight", "scale", "bias")),
    *(f"pieces.{part}" for part in ("text", "score", "vector", "scale")),
    *(f"convolution.{width}.{part}" for width in WIDTHS for part in ("weight", "bias")),
    "output.weight", "output.bias",
}  # fmt: skip
"""Tensors of a complete file."""

TYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8, "I32": np.int32}


@dataclass(frozen=True)
class Likely:
    """Probabilities of each head's classes, rows as the texts.

    Args:
        intent: (texts, intents).
        kind: (texts, kinds).
        status: (texts, statuses).
        language: (texts, languages).
    """

    intent: np.ndarray
    kind: np.ndarray
    status: np.ndarray
    language: np.ndarray


class IntentModel:
    """The trained models.

    Args:
        tensors: name → array, as `read` returns.
        temperature: divides the logits of both models.
    """

    def __init__(self, tensors: dict[str, np.ndarray], temperature: float = 1.0):
        self._t, self._temperature = tensors, temperature
        self._buckets = len(tensors["linear.idf"])
        self._idf = tensors["linear.idf"].astype(np.float32) / 16
        self._bias = tensors["linear.bias"].astype(np.float32)
        self._scale = tensors["linear.scale"].astype(np.float32)
        scores = tensors["pieces.score"].astype(np.float32)
        names = bytes(tensors["pieces.text"]).decode("utf-8").split("\n")
        self.pieces = Pieces({name: (row, float(scores[row])) for row, name in enumerate(names)})
        self._known = {name[1:]: float(scores[row]) for row, name in enumerate(names) if name.startswith("▁")}
        self._spelt = lru_cache(maxsize=5_000)(self._corrected)
        self._vector_scale = tensors["pieces.scale"].astype(np.float32)
        self._ends = np.cumsum([len(classes) for classes in HEADS.values()])[:-1]

    def spelt(self, text: Sequence[str]) -> list[str]:
        """Return the words of a text with single slips corrected, in words that are unknown otherwise.

        Args:
            text: the normalized words.
        """
        return [
            self._spelt(word) if SHORTEST_SLIP <= len(word) <= LONGEST_SLIP and word.isascii() else word
            for word in text
        ]

    def _corrected(self, word: str) -> str:
        if word in self._known or self._idf[bucket(word, self._buckets)] or not word.isalpha():
            return word
        near = [other for other in slips(word) if other in self._known and self._idf[bucket(other, self._buckets)]]
        return max(near, key=self._known.__getitem__, default=word)

    def likely(self, texts: Sequence[Sequence[str]]) -> Likely:
        """Return the probabilities for texts, each given as its normalized words."""
        linear = np.stack([self._linear(text) for text in texts])
        convolved = np.stack([self._convolved(text) for text in texts])
        weight = np.array([self._weight(text) for text in texts], np.float32)[:, None]
        logits = ((1 - weight) * linear + weight * convolved) / self._temperature
        return Likely(*(softmax(part) for part in np.split(logits, self._ends, 1)))

    def _linear(self, text: Sequence[str]) -> np.ndarray:
        ids, values = weighted(text, self._idf)
        rows = self._t["linear.weight"][ids].astype(np.float32)
        return (values @ rows) * self._scale + self._bias

    def vectors(self, text: Sequence[str]) -> np.ndarray:
        """Return the vectors of a text's pieces, (pieces, size), at least as many as the widest window."""
        ids = self.pieces.ids(text)[:MOST_PIECES]
        found = self._t["pieces.vector"][ids].astype(np.float32) * self._vector_scale[ids, None]
        return np.pad(found, ((0, max(0, WIDTHS[-1] - len(ids))), (0, 0)))

    def _convolved(self, text: Sequence[str]) -> np.ndarray:
        found, t = self.vectors(text), self._t
        hidden = [found.sum(0) / np.sqrt(len(found))]
        for width in WIDTHS:
            windows = np.concatenate([found[n : len(found) - width + n + 1] for n in range(width)], 1)
            made = windows @ t[f"convolution.{width}.weight"].astype(np.float32) + t[f"convolution.{width}.bias"]
            hidden.append(np.maximum(made, 0).max(0))
        return np.concatenate(hidden) @ t["output.weight"].astype(np.float32) + t["output.bias"]

    def _weight(self, text: Sequence[str]) -> float:
        """Return the weight of the convolution: none for scripts that its vocabulary lacks."""
        return SHARE if clauses.script("".join(text)) == "latin" and self.pieces.ids(text) else 0.0


def weighted(text: Sequence[str], idf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the buckets of a text's n-grams and their weights; words and letters have length one each.

    Args:
        text: the normalized words.
        idf: inverse document frequency of each bucket.
    """
    ids, family = ngrams(text, len(idf))
    values = idf[ids]
    for one in (0, 1):
        mine = family == one
        values[mine] /= np.linalg.norm(values[mine]) + 1e-6
    return ids, values


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities along the last axis."""
    made = np.exp(logits - logits.max(-1, keepdims=True))
    return made / made.sum(-1, keepdims=True)


def read(file: Path) -> dict[str, np.ndarray]:
    """Read a safetensors file without further packages.

    Raises:
        ModelError: if it is missing or damaged.
    """
    try:
        content = file.read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        tensors = {}
        for name, entry in header.items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                data = np.frombuffer(content[8 + size + start : 8 + size + end], TYPES[entry["dtype"]])
                tensors[name] = data.reshape(entry["shape"])
        if missing := NEEDED - set(tensors):
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        return tensors
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"The guard's model {file} can't be read ({error}), so patient mode can't be used; install MedFM again."
        ) from error


@lru_cache(maxsize=1)
def shipped() -> IntentModel:
    """Return the shipped models; read at the first call."""
    return IntentModel(read(resources.path("guard", "intents.safetensors")))

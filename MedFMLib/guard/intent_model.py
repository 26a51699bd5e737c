"""Compute how likely each intent of a text is, with numpy alone: an encoder, and a linear model on hashed n-grams.

The encoder judges what it has time for: a question of usual length as a whole and in each clause. Of a long text, the linear
model chooses the clauses that look most urgent. Reads a safetensors file; trains nothing.
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
from .encoder import LONGEST, Encoder, unpacked
from .features import bucket, ngrams, slips
from .intents import EMERGENCIES, INTENTS, KINDS, LANGUAGES, STATUSES

HEADS = {"intent": INTENTS, "kind": KINDS, "status": STATUSES, "language": LANGUAGES}
"""Output of the encoder → its classes; the linear model has the first."""

SHARE = 0.5
"""Weight of the linear model's logits; those of the encoder have the rest."""

MOST_PIECES = 200
"""Largest number of pieces that the encoder judges at once, in all texts together."""

SHORTEST_SLIP, LONGEST_SLIP = 5, 20
"""Numbers of letters of words that are corrected; shorter words have too many neighbours."""

NEEDED = {
    *(f"linear.{part}" for part in ("idf", "codes", "scale", "bias")),
    *(f"pieces.{part}" for part in ("text", "score", "codes", "scale")),
    "encoder.place", "encoder.0.query.codes", "output.weight", "output.bias",
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
    """

    def __init__(self, tensors: dict[str, np.ndarray]):
        self.encoder = Encoder(tensors)
        self._weight = unpacked(tensors["linear.codes"], tensors["linear.scale"]).T.astype(np.float16, order="C")
        self._buckets = len(tensors["linear.idf"])
        self._idf = tensors["linear.idf"].astype(np.float32) / 16
        self._bias = tensors["linear.bias"].astype(np.float32)
        self._output = tensors["output.weight"].astype(np.float32), tensors["output.bias"].astype(np.float32)
        self._spelt = lru_cache(maxsize=5_000)(self._corrected)
        self._ends = np.cumsum([len(classes) for classes in HEADS.values()])[:-1]

    def fits(self, text: Sequence[str]) -> bool:
        """Return whether the encoder judges all of a text at once.

        Args:
            text: its words.
        """
        return len(text) < LONGEST and len(self.encoder.ids(text)) < LONGEST

    def spelt(self, text: Sequence[str]) -> list[str]:
        """Return the words of a text with single slips corrected, in words that are unknown otherwise.

        Args:
            text: its words in lower case.
        """
        return [
            self._spelt(word) if SHORTEST_SLIP <= len(word) <= LONGEST_SLIP and word.isascii() else word
            for word in text
        ]

    def _corrected(self, word: str) -> str:
        known = self.encoder.known
        if word in known or self._idf[bucket(word, self._buckets)] or not word.isalpha():
            return word
        near = [other for other in slips(word) if other in known and self._idf[bucket(other, self._buckets)]]
        return max(near, key=known.__getitem__, default=word)

    def likely(self, texts: Sequence[Sequence[str]]) -> Likely:
        """Return the probabilities for texts.

        Args:
            texts: the words of each, as `clauses.words` makes them of a softened text; the first is the most important.
        """
        linear = np.stack([self._linear(clauses.folded(text)) for text in texts])
        made = self._without_encoder(linear)
        chosen, ids = self._chosen(texts, linear)
        logits = self.encoder.encode(ids) @ self._output[0] + self._output[1]
        logits[:, : len(INTENTS)] += SHARE * (linear[chosen] - logits[:, : len(INTENTS)])
        for head, part in zip(made, np.split(logits, self._ends, 1), strict=True):
            head[chosen] = softmax(part)
        return Likely(*made)

    def _chosen(self, texts: Sequence[Sequence[str]], linear: np.ndarray) -> tuple[list[int], list[list[int]]]:
        """Return the texts that the encoder judges, and the rows of their pieces: the first, then the most urgent."""
        urgent = softmax(linear)[:, -len(EMERGENCIES) :].sum(1)
        order = [0, *(1 + np.argsort(-urgent[1:], kind="stable"))]
        chosen, ids, left = [], [], MOST_PIECES
        for place in order:
            found = self.encoder.ids(texts[place])
            if not chosen or len(found) <= left:
                chosen.append(int(place))
                ids.append(found)
                left -= len(found)
            if left < 4:
                break
        return chosen, ids

    @staticmethod
    def _without_encoder(linear: np.ndarray) -> list[np.ndarray]:
        """Return the probabilities of all heads where the linear model judges alone: an emergency counts as present."""
        intent = softmax(linear)
        urgent = intent[:, -len(EMERGENCIES) :]
        none = 1 - urgent.sum(1, keepdims=True)
        kind = np.concatenate([none, urgent], 1)
        status = np.zeros((len(linear), len(STATUSES)), np.float32)
        status[:, [STATUSES.index("none")]] = none
        status[:, [STATUSES.index("present")]] = 1 - none
        language = np.zeros((len(linear), len(LANGUAGES)), np.float32)
        language[:, LANGUAGES.index("other")] = 1
        return [intent, kind, status, language]

    def _linear(self, text: Sequence[str]) -> np.ndarray:
        ids, values = weighted(text, self._idf)
        return values @ self._weight[ids].astype(np.float32) + self._bias


def weighted(text: Sequence[str], idf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the buckets of a text's n-grams and their weights; words and letters have length one each.

    Args:
        text: the folded words.
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
    file = resources.path("guard", "intents.safetensors")
    try:
        return IntentModel(read(file))
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ModelError(
            f"The guard's model {file} is damaged ({error}), so patient mode can't be used; install MedFM again."
        ) from error

"""Encode texts with the first layers of a multilingual transformer, by numpy alone. Knows no intents.

The layers are those of multilingual-e5-small (L. Wang et al. 2024, MIT), a BERT with post-layer normalization and a vocabulary
of SentencePiece pieces. Weights have four bits: blocks of 32 along the input share a scale (ggml's Q4_0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .features import Pieces

BLOCK = 32
"""Weights that share a scale."""

HEADS = 12
"""Attention heads of a layer."""

EPSILON = 1e-12
START, END = 0, 1
"""Rows of the first and of the last piece of every text."""

LONGEST = 64
"""Largest number of pieces of a text, both ends included."""

MATRICES = ("query", "key", "value", "out", "up", "down")
"""Of a layer; "up" and "down" are those of the feed-forward part."""

NORMS = ("attended", "made")
"""Layer normalizations after attention and after the feed-forward part."""


def steps_of(codes: np.ndarray) -> np.ndarray:
    """Return weights of four bits as whole steps of their scale, −8…7.

    Args:
        codes: (rows, columns / 2) uint8; of each block, the first half of the weights in the low four bits.

    Returns:
        (rows, blocks, 32) int8.
    """
    halves = codes.reshape(len(codes), -1, BLOCK // 2)
    return np.concatenate([halves & 15, halves >> 4], axis=2).astype(np.int8) - np.int8(8)


def unpacked(codes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return weights of four bits as float32.

    Args:
        codes: (rows, columns / 2) uint8; of each block, the first half of the weights in the low four bits.
        scale: (rows, columns / 32) float16.

    Returns:
        (rows, columns): (code − 8) · scale.
    """
    return _weights(steps_of(codes), scale.astype(np.float32)[:, :, None])


def _weights(steps: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return (steps * scale).reshape(len(steps), -1)


def packed(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights of four bits, with the scale of each block that loses least.

    Args:
        values: (rows, columns) float.

    Returns:
        Codes and scales as `unpacked` takes them.
    """
    blocks = values.reshape(len(values), -1, BLOCK).astype(np.float32)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(2)[:, :, None], 2)[:, :, 0]
    best = np.full(largest.shape, np.inf, np.float32)
    scale, codes = np.zeros(largest.shape, np.float16), np.zeros(blocks.shape, np.uint8)
    for steps in np.linspace(-9.5, -5.5, 17):
        tried = (largest / steps).astype(np.float16)
        safe = np.where(tried == 0, np.float16(1), tried).astype(np.float32)[:, :, None]
        code = np.clip(np.round(blocks / safe) + 8, 0, 15)
        lost = (((code - 8) * tried.astype(np.float32)[:, :, None] - blocks) ** 2).sum(2)
        better = lost < best
        best, scale = np.where(better, lost, best), np.where(better, tried, scale)
        codes = np.where(better[:, :, None], code.astype(np.uint8), codes)
    half = BLOCK // 2
    return (codes[:, :, :half] | codes[:, :, half:] << 4).reshape(len(values), -1), scale


class Encoder:
    """The layers, ready to encode.

    Args:
        tensors: name → array; `encoder.*` and `pieces.*` of the guard's file.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        names = bytes(tensors["pieces.text"]).decode("utf-8").split("\n")
        scores = tensors["pieces.score"].astype(np.float32)
        self.pieces = Pieces({name: (row, float(scores[row])) for row, name in enumerate(names) if row > END})
        self.known = {name[1:]: float(scores[row]) for row, name in enumerate(names) if name.startswith("▁")}
        self._codes, self._scale = tensors["pieces.codes"], tensors["pieces.scale"]
        self._place = tensors["encoder.place"].astype(np.float32)
        self._first = _norm_of(tensors, "encoder.first")
        self._layers = []
        while f"encoder.{len(self._layers)}.query.codes" in tensors:
            self._layers.append(_layer(tensors, f"encoder.{len(self._layers)}"))

    def ids(self, text: Sequence[str]) -> list[int]:
        """Return the rows of a text's pieces.

        Args:
            text: its words, in lower case with their accents; Chinese characters one by one.
        """
        found = self.pieces.ids(joined(text))[: LONGEST - 2]
        return [START, *found, END]

    def encode(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        """Return (texts, 2 · size): the mean and the largest value of each feature over the pieces.

        Args:
            texts: rows of the pieces of each, as `ids` returns.
        """
        rows = np.concatenate([np.asarray(text, int) for text in texts])
        ends = np.cumsum([len(text) for text in texts])
        spans = [slice(end - len(text), end) for end, text in zip(ends, texts, strict=True)]
        x = unpacked(self._codes[rows], self._scale[rows])
        x += self._place[np.concatenate([np.arange(len(text)) for text in texts])]
        x = normed(x, *self._first)
        for layer in self._layers:
            x = _through(layer, x, spans)
        return np.stack([np.concatenate([x[span].mean(0), x[span].max(0)]) for span in spans])


def joined(text: Sequence[str]) -> list[str]:
    """Return the words of a text with runs of Chinese characters put together, as the vocabulary has them."""
    made: list[str] = []
    han = False
    for word in text:
        is_han = "\u3400" <= word[:1] <= "\u9fff"
        if is_han and han:
            made[-1] += word
        else:
            made.append(word)
        han = is_han
    return made


def normed(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return the layer normalization over the last axis.

    Args:
        x: (pieces, size).
        weight: (size,).
        bias: (size,).
    """
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight + bias


def gelu(x: np.ndarray) -> np.ndarray:
    """Return the Gaussian error linear unit in its tanh form (D. Hendrycks, K. Gimpel 2016)."""
    return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def _norm_of(tensors: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    return tensors[f"{name}.weight"].astype(np.float32), tensors[f"{name}.bias"].astype(np.float32)


def _layer(tensors: Mapping[str, np.ndarray], name: str) -> dict:
    """Return the matrices of a layer as steps of a byte, a quarter of what they are multiplied as, with scales and biases."""
    found: dict = {part: _norm_of(tensors, f"{name}.{part}") for part in NORMS}
    for part in MATRICES:
        scale = tensors[f"{name}.{part}.scale"].astype(np.float32)[:, :, None]
        found[part] = (
            (steps_of(tensors[f"{name}.{part}.codes"]), scale),
            tensors[f"{name}.{part}.bias"].astype(np.float32),
        )
    return found


def _through(layer: dict, x: np.ndarray, spans: Sequence[slice]) -> np.ndarray:
    """Return what a layer makes of the pieces of several texts, each of which attends to its own only."""

    def times(part: str, values: np.ndarray) -> np.ndarray:
        weight, bias = layer[part]
        return values @ _weights(*weight).T + bias

    query, key, value = (times(part, x).reshape(len(x), HEADS, -1) for part in ("query", "key", "value"))
    mixed = np.empty_like(query)
    for span in spans:
        q, k, v = (part[span].transpose(1, 0, 2) for part in (query, key, value))
        share = q @ k.transpose(0, 2, 1) / np.sqrt(np.float32(q.shape[-1]))
        share = np.exp(share - share.max(-1, keepdims=True))
        mixed[span] = (share / share.sum(-1, keepdims=True) @ v).transpose(1, 0, 2)
    x = normed(x + times("out", mixed.reshape(x.shape)), *layer["attended"])
    return normed(x + times("down", gelu(times("up", x))), *layer["made"])

"""Compute what the intent model sees of a text: hashed n-grams, and pieces of a vocabulary. Knows no weights."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz"
LONGEST_PIECE = 16
MOST_PIECES = 64
"""Largest number of pieces that the convolution sees at once."""


@lru_cache(maxsize=20_000)
def _of_word(word: str) -> tuple[int, ...]:
    """Return the hashes of a word and of its n-grams of two to five letters."""
    padded = f"<{word}>"
    grams = {padded[n : n + size] for size in (2, 3, 4, 5) for n in range(len(padded) - size + 1)}
    return tuple(sorted(zlib.crc32(gram.encode()) for gram in grams if gram != padded))


def ngrams(text_words: Sequence[str], buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the buckets of a text's n-grams, and to which family each belongs (0 words, 1 letters).

    Args:
        text_words: the normalized words.
        buckets: number of buckets, a power of two.
    """
    grams = [f" {word}" for word in text_words]
    grams += [f" {one} {two}" for one, two in pairwise(text_words)]
    grams += [f" {' '.join(text_words[n : n + 3])}" for n in range(len(text_words) - 2)]
    grams += [f" {one} _ {two}" for one, two in zip(text_words, text_words[2:], strict=False)]
    grams += [f"^{text_words[0]}", f"{text_words[-1]}$"] if text_words else []
    ids = {zlib.crc32(gram.encode()) & (buckets - 1) for gram in grams}
    letters = {code & (buckets - 1) for word in set(text_words) for code in _of_word(word)} - ids
    found = np.array([*sorted(ids), *sorted(letters)], np.int64)
    return found, np.repeat([0, 1], [len(ids), len(letters)])


def bucket(word: str, buckets: int) -> int:
    """Return the bucket of a single word.

    Args:
        word: the normalized word.
        buckets: number of buckets, a power of two.
    """
    return zlib.crc32(f" {word}".encode()) & (buckets - 1)


def slips(word: str) -> set[str]:
    """Return the words that differ by one slip after the first letter: omitted, added, changed or swapped letters."""
    made = set()
    for n in range(1, len(word) + 1):
        head, tail = word[:n], word[n:]
        made.update(head + letter + tail for letter in LETTERS)
        if tail:
            made.add(head + tail[1:])
            made.update(head + letter + tail[1:] for letter in LETTERS)
            made.add(head + tail[1:2] + tail[:1] + tail[2:])
    return made - {word}


class Pieces:
    """Divides words into the pieces of a unigram vocabulary (SentencePiece's, T. Kudo 2018).

    Args:
        pieces: piece → (row, log-probability); a word starts with "▁".
    """

    def __init__(self, pieces: Mapping[str, tuple[int, float]]):
        self._pieces = pieces
        self._word = lru_cache(maxsize=20_000)(self._best)

    def ids(self, text_words: Sequence[str]) -> list[int]:
        """Return the rows of the most probable pieces of each word; what is unknown is left out."""
        return [row for word in text_words for row in self._word(word)]

    def _best(self, word: str) -> tuple[int, ...]:
        text = f"▁{word[:40]}"
        best: list[tuple[float, int, int]] = [(0.0, 0, -1)] + [(-1e9, 0, -1)] * len(text)
        for end in range(1, len(text) + 1):
            for start in range(max(0, end - LONGEST_PIECE), end):
                known = self._pieces.get(text[start:end])
                row, score = known if known is not None else (-1, -20.0 if end - start == 1 else -1e9)
                if best[start][0] + score > best[end][0]:
                    best[end] = (best[start][0] + score, start, row)
        rows, end = [], len(text)
        while end > 0:
            _, start, row = best[end]
            if row >= 0:
                rows.append(row)
            end = start
        return tuple(reversed(rows))

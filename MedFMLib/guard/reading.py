"""Normalize a text: case, accents, look-alike letters, spaced-out and misspelt words. Contains no rules."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

LOOK_ALIKES = str.maketrans(
    "аеорсухіјѕԁһӏвкмнтαεορτυνικηµ",
    "aeopcyxijsdhlbkmhtaeoptuvikhu",
)
"""Cyrillic and Greek letters that look like Latin ones."""

DIGITS = str.maketrans("0134578@$!", "oieastbasi")
"""Digits and signs used in place of letters inside words."""

INVISIBLE = re.compile(r"[\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\u00ad]")
SPACED = re.compile(r"\b(?:[a-z][\s.\-_*]+){3,}[a-z]\b")
SHORTEST = 5
"""Smallest number of letters of a word that is corrected; shorter words have too many neighbours."""

LONGEST = 40
"""Largest number of letters of a word that is corrected; the work grows with its square."""


class TextNormalizer:
    """Normalizes texts with a vocabulary.

    Args:
        words: key words that misspellings are corrected to.
        common: other words that are never corrected.
        contractions: spelling without the apostrophe → normalized form.
    """

    def __init__(self, words: Iterable[str], common: Iterable[str], contractions: Mapping[str, str] | None = None):
        self._contractions = dict(contractions or {})
        self._words = {word for word in words if len(word) >= SHORTEST}
        self._kept = set(common) | self._words
        self._near: dict[str, list[str]] = {}
        for word in sorted(self._words):
            for shorter in _deletions(word):
                self._near.setdefault(shorter, []).append(word)

    def read(self, text: str) -> str:
        """Return the text in lower case with single spaces and corrected words."""
        text = INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).lower().translate(LOOK_ALIKES)
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        text = SPACED.sub(lambda match: re.sub(r"[^a-z]", "", match[0]), text)
        words = re.findall(r"[a-z0-9@$!%]+(?:\.[0-9]+)?", text.replace("%", " % "))
        return " ".join(self._plain(word) for word in words)

    def _plain(self, word: str) -> str:
        letters = word.rstrip("!")
        if re.search(r"[a-z]", letters) and re.search(r"[0-9@$!]", letters):
            letters = letters.translate(DIGITS)
        letters = letters.strip("!@$")
        if letters in self._contractions:
            return self._contractions[letters]
        if len(letters) < SHORTEST or letters in self._kept or not letters.isalpha():
            return letters
        squeezed = re.sub(r"(.)\1{2,}", r"\1", letters)
        if len(squeezed) > LONGEST:
            return letters
        if squeezed in self._kept:
            return squeezed
        return self._correct(squeezed) or letters

    def _correct(self, word: str) -> str:
        """Return the key word at edit distance one: a letter omitted, added, changed or swapped with its neighbour."""
        for near in (word, *_deletions(word)):
            for found in (near, *self._near.get(near, ())):
                if found in self._words and _one_slip(word, found):
                    return found
        return ""


def _deletions(word: str) -> list[str]:
    return [word[:n] + word[n + 1 :] for n in range(len(word))]


def _one_slip(one: str, other: str) -> bool:
    if abs(len(one) - len(other)) > 1:
        return False
    if len(one) != len(other):
        short, long = sorted((one, other), key=len)
        return any(long[:n] + long[n + 1 :] == short for n in range(len(long)))
    differ = [n for n in range(len(one)) if one[n] != other[n]]
    if len(differ) == 1:
        return differ[0] > 0  # a different first letter usually means a different word
    return (
        len(differ) == 2
        and differ[1] == differ[0] + 1
        and one[differ[0]] == other[differ[1]]
        and one[differ[1]] == other[differ[0]]
    )

"""Normalize a text in any script, tell its script, and divide it into clauses. Knows no rules and no intents."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from .reading import DIGITS, INVISIBLE, LOOK_ALIKES

LONGEST_CLAUSE = 30
"""Largest number of words that are judged together; longer clauses are cut, so that nothing is diluted."""

LONGEST_WORD = 40
"""Largest number of letters of a word that are judged; the others of a longer one add nothing but time."""

MOST_CLAUSES = 60
"""Largest number of clauses of a text that are judged; a longer text is never allowed."""

SCRIPTS = {
    "latin": "a-z\u00df-\u024f\u1e00-\u1eff",
    "arabic": "\u0600-\u06ff\u0750-\u077f\ufb50-\ufdff\ufe70-\ufeff",
    "han": "\u3400-\u4dbf\u4e00-\u9fff",
    "devanagari": "\u0900-\u097f",
}
"""Script → its letters, as a range of a regular expression, after lower-casing."""

_COUNTS = {name: re.compile(f"[{letters}]") for name, letters in SCRIPTS.items()}
_MARKS = re.compile("[\u0610-\u061a\u064b-\u065f\u0670\u0640]")  # Arabic vowel signs and lengthening
_VARIANTS = str.maketrans(
    {"ٱ": "ا", "ى": "ي", "ة": "ه", "ک": "ك", "ی": "ي", "\u0654": None, "\u0655": None, "\u0653": None}
    | {"\u093c": None, "\u0901": "\u0902"}
    | {"ß": "ss", "ı": "i", "ł": "l", "ø": "o", "æ": "ae", "œ": "oe", "’": "'", "`": "'", "‘": "'"}
)
"""Arabic, Hindi and Latin spellings of the same letter."""

_QUOTES = str.maketrans({"’": "'", "`": "'", "‘": "'"})
_FOREIGN = re.compile("[\u0370-\u052f]")  # Greek and Cyrillic
_SPACED = re.compile(r"\b(?:[a-z\u00df-\u024f][\s.\-_*]{1,3}){3,40}[a-z\u00df-\u024f]\b")
_GAPS = re.compile(r"[\s.\-_*]")
_TOKEN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]|[\u0900-\u0963\u0966-\u097f]+|[^\W_\u3400-\u9fff]+(?:'[^\W\d_]+)*")
_BREAK = re.compile(
    r"[!?;\n\r…。！？；，،؟؛।|()\[\]{}\"“”«»]+|\.(?=\s|$|\D)|[:,](?=\s|[\u0600-\u06ff\u3400-\u9fff])|\s[-–—]+\s"
)
_JOIN = re.compile(
    r"\s(?:and|but|also|because|plus|und|aber|sondern|ausserdem|außerdem|y|pero|et|mais|e|ve|fakat|ale|oraz|aur|lekin|magar"
    r"|और|लेकिन|و|لكن|ثم)\s"
)
"""Words that join clauses. None that is a frequent word of another language, such as the Polish "i"."""


def soften(text: str) -> str:
    """Return the text in lower case with its accents, without invisible letters and disguises."""
    text = INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).lower().translate(_QUOTES)
    text = _MARKS.sub(
        "", unicodedata.normalize("NFC", text.replace("i\u0307", "i"))
    )  # as Turkish capitals become in lower case
    if _FOREIGN.search(text) and re.search("[a-z]", text):
        text = " ".join(_unmasked(word) for word in text.split(" "))
    text = _SPACED.sub(lambda match: _GAPS.sub("", match[0]), text)
    return re.sub(r"(\D)\1{2,}", r"\1\1", text)


def fold(text: str) -> str:
    """Return a softened text without accents of Latin letters, and with one spelling of letters that have several."""
    plain, base = [], ""
    for letter in unicodedata.normalize("NFKD", text):
        if unicodedata.combining(letter) and base < "\u0370":
            continue
        base = letter
        plain.append(letter)
    return _MARKS.sub("", "".join(plain).translate(_VARIANTS))


@lru_cache(maxsize=20_000)
def _folded(word: str) -> str:
    return fold(word)


def folded(text: Sequence[str]) -> list[str]:
    """Return the words of a text folded, see `fold`."""
    return [word for word in map(_folded, text) if word]


def normalize(text: str) -> str:
    """Return the text softened and folded; disguises that accents hid are removed, too."""
    return soften(fold(soften(text)))


def _unmasked(word: str) -> str:
    """Return a word with look-alike letters replaced, if it mixes them with Latin ones or consists of them alone."""
    plain = word.translate(LOOK_ALIKES)
    return plain if re.search("[a-z]", word) or not _FOREIGN.search(plain) else word


def words(plain: str) -> list[str]:
    """Return the words of a softened or normalized text; each Chinese character is one."""
    found = []
    for word in _TOKEN.findall(plain):
        if re.search(r"[a-z]", word) and re.search(r"[0-9]", word) and re.search(r"[a-z][0134578]+[a-z]", word):
            word = word.translate(DIGITS)
        found.append(word.replace("'", "")[:LONGEST_WORD])
    return found


def script(plain: str) -> str:
    """Return the name of the script of most letters of a normalized text; "" if it has none, "other" if unknown."""
    sample = plain[:2000]
    counts = {name: len(pattern.findall(sample)) for name, pattern in _COUNTS.items()}
    letters = sum(letter.isalpha() for letter in sample)
    best = max(counts, key=counts.__getitem__)
    if not letters:
        return ""
    return best if 2 * counts[best] >= letters else "other"


def clauses(plain: str) -> list[list[str]]:
    """Return the words of each clause of a softened or normalized text; short ones stay with their neighbour."""
    found: list[list[str]] = []
    for sentence in _BREAK.split(plain):
        parts = [words(part) for part in _JOIN.split(sentence)]
        if any(len(part) < 3 for part in parts):
            parts = [words(sentence)]
        for part in parts:
            for start in range(0, len(part), LONGEST_CLAUSE):
                found.append(part[start : start + LONGEST_CLAUSE])
    found = [part for part in found if part]
    joined: list[list[str]] = []
    for part in found:
        if joined and min(len(part), len(joined[-1])) < 2 and len(part) + len(joined[-1]) <= LONGEST_CLAUSE:
            joined[-1] = joined[-1] + part
        else:
            joined.append(part)
    return joined

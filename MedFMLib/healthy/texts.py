"""Find what may identify a person in the texts of a case: dates, numbers, names. Depends on text only.

A text is checked like pixels are checked for burned-in text: what may identify somebody stops the case until the user confirms
that it doesn't. Names can't be recognised in general, so every word that is none of the usual ones of such descriptions counts as
one; numbers of four digits and more, dates, addresses and DICOM's spelling of names are never usual.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ..core.terminology import is_known
from ..storage import resources

DATE = re.compile(
    r"\b\d{1,4}[./\-]\d{1,2}[./\-]\d{1,4}\b|\b\d{1,2}(?:st|nd|rd|th|\.)? ?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)\w*"
    r"|\b(?:jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec)[a-z]* ?\d{1,2}\b",
    re.IGNORECASE,
)
NUMBER = re.compile(r"\d{4,}|(?<![\d.])\d(?:[ \-/.]?\d){5,}")
"""Numbers as long as a year or an id, also with separators."""

SPELLED = re.compile(
    r"\^|@|\b(?:mr|mrs|ms|dr|prof|herr|frau|mme|sr|sra)\b\.?\s+\w|\b(?:dob|mrn|pid|ssn|born|geb)\b", re.IGNORECASE
)
"""How names, addresses and ids are written in headers and letters."""

WORD = re.compile(r"[^\W\d_]+")


def identifying(text: str) -> tuple[str, ...]:
    """Return the parts of a text that are dates, numbers, or spelled like names and ids of persons.

    Args:
        text: any text of a case, e.g. its title.
    """
    return tuple(dict.fromkeys(m[0].strip() for pattern in (SPELLED, DATE, NUMBER) for m in pattern.finditer(text)))


def unusual(text: str) -> tuple[str, ...]:
    """Return the words of a text that are none of the usual ones, and so may be names.

    Args:
        text: any text of a case, e.g. the label of a segment.
    """
    usual = _usual()
    found = []
    for word in WORD.findall(text):
        low = word.casefold()
        if len(low) > 1 and low not in usual and low.removesuffix("s") not in usual and not is_known(low):
            found.append(word)
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=1)
def _usual() -> frozenset[str]:
    """Return the words of structures in the terminology, and the list that is included."""
    table = resources.load_json("terminology", "structures.json")["structures"]
    names = [name for key, entry in table.items() for name in (key, *entry.get("aliases", ()))]
    words = {word for name in names for word in WORD.findall(name.casefold())}
    return frozenset(words | set(resources.load_json("healthy", "usual_words.json")["words"]))

"""Take from a DICOM header what describes the acquisition, by known values only: nothing that could be a name.

Any text attribute can hold a patient's name in the field. So texts are kept only where every word is in
`Resources/terminology/acquisition.json` (manufacturers, product lines, body parts, views, kernels), and numbers only where
they are numbers.
"""

from __future__ import annotations

import re
from functools import lru_cache

from ...storage import resources
from .headers import Header, numbers_of

NUMBERS = (
    "SliceThickness",
    "MagneticFieldStrength",
    "RepetitionTime",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "KVP",
)
TERMS = ("ScanningSequence", "PatientPosition", "ViewPosition")
ORIENTATION = re.compile(r"(?:[APLRHF]{1,3}(?:\\[APLRHF]{1,3})?)")
CODE = re.compile(r"[a-z]{0,4}\d{1,3}[a-z]{0,2}|\d{1,3}\.\d")
"""A word of a product or kernel with a number: "MR750w", "B30f", "1.5"; four digits and more could identify someone."""


@lru_cache(maxsize=1)
def _known() -> dict:
    return resources.load_json("terminology", "acquisition.json")


def facts_of(header: Header) -> dict[str, str]:
    """Return what a header says about the acquisition, without anything that could identify a person."""
    facts = {}
    for name in NUMBERS:
        if (found := numbers_of(header.dataset, name)) is not None and len(found) <= 8:
            facts[name] = "\\".join(f"{number:g}" for number in found)
    for name in TERMS:
        parts = header.text(name).upper().split("\\")
        if all(part in _known()["terms"][name] for part in parts):
            facts[name] = "\\".join(parts)
    if ORIENTATION.fullmatch(header.text("PatientOrientation")):
        facts["PatientOrientation"] = header.text("PatientOrientation")
    for name, known in (
        ("BodyPartExamined", body_part(header.text("BodyPartExamined"))),
        ("ConvolutionKernel", kernel(header.text("ConvolutionKernel"))),
        ("Manufacturer", manufacturer(header.text("Manufacturer"))),
        ("ManufacturerModelName", model(header.text("ManufacturerModelName"))),
    ):
        if known:
            facts[name] = known
    facts["Contrast"] = "yes" if header.text("ContrastBolusAgent") else "not stated"
    side = (header.text("ImageLaterality") or header.text("Laterality")).upper()[:1]
    if side in ("L", "R"):
        facts["Laterality"] = "left" if side == "L" else "right"
    return facts


def manufacturer(text: str) -> str:
    """Return the standard name of a manufacturer, "" if it is not in the table."""
    words = f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "
    return next(
        (name for name, ways in _known()["manufacturers"].items() if any(f" {way} " in words for way in ways)), ""
    )


def model(text: str) -> str:
    """Return the name of a product, "" if a word of it is unknown."""
    words = re.findall(r"[a-z0-9.+]+", text.lower())
    known = any(word in _words_of("models") for word in words)
    return text.strip()[:40] if known and all(_is_known(word, "models") for word in words) else ""


def kernel(text: str) -> str:
    """Return the name of a convolution kernel, "" if a word of it is unknown."""
    words = re.findall(r"[a-z0-9.+]+", text.lower())
    return text.strip()[:40] if words and all(_is_known(word, "kernels") for word in words) else ""


def body_part(text: str) -> str:
    """Return the examined body part in capitals, "" if a word of it is unknown."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return text.strip().upper()[:40] if words and all(word in _words_of("body parts") for word in words) else ""


def _is_known(word: str, kind: str) -> bool:
    return word in _words_of(kind) or bool(CODE.fullmatch(word))


@lru_cache(maxsize=8)
def _words_of(kind: str) -> frozenset[str]:
    return frozenset(_known()[kind])

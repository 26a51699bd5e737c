"""Copy who was examined, and in which study, from a header into new objects: decoded, and as the standard allows it.

Headers come from many systems: with a wrong or missing character set, after removal of names, with dates such as "1950".
A new object holds only values that their value representation (VR, PS3.5 6.2) allows, and is written as ISO_IR 192
(UTF-8), which has every letter. Knows text and dates; nothing of pixels and positions.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from datetime import date

UTF_8 = "ISO_IR 192"

REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName",
)  # fmt: skip
"""Attributes that every object has, empty if unknown (type 2)."""

OPTIONAL = (
    "StudyDescription", "PatientAge", "PatientSize", "PatientWeight", "IssuerOfPatientID", "OtherPatientIDs", "EthnicGroup",
    "PatientComments", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified", "ProcedureCodeSequence", "ReferencedStudySequence",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)  # fmt: skip
"""Attributes of patient and study that are copied where the header has them."""

LONGEST = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240, "UT": 2**20, "UC": 2**20}
"""Characters of a value."""

SEXES = ("M", "F", "O")
SEVERAL = ("OtherPatientIDs",)
"""Attributes of several values."""


def identity_of(dataset) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return the attributes of patient and study of a header, and notes on what could not be kept.

    Args:
        dataset: pydicom Dataset, as read from a file.

    Returns:
        (keyword → value, which may be "" for those in `REQUIRED`; sentences)
    """
    values: dict[str, object] = dict.fromkeys(REQUIRED, "")
    changed: list[str] = []
    for name in (*REQUIRED, *OPTIONAL):
        value, same = _value(dataset, name, _encodings(dataset))
        if value:
            values[name] = value
        if not same:
            changed.append(name)
    if not changed:
        return values, ()
    return values, (
        f"The header's {', '.join(changed)} {'is' if len(changed) == 1 else 'are'} not as DICOM allows; exported objects have "
        "the valid part of it, or nothing.",
    )


def held(vr: str, text: str, several: bool = False) -> str | list[str]:
    """Return a text as its value representation allows it; "" if nothing of it is valid.

    Args:
        vr: value representation, e.g. "LO".
        text: decoded value.
        several: whether a backslash separates values; else it is replaced.
    """
    if several:
        return [one for part in text.split("\\") if (one := held(vr, part))]
    text = text.strip(" \0")
    if vr in LONGEST:
        keep = "\n\r\t\f" if vr in ("ST", "LT", "UT") else ""
        text = text if vr in ("ST", "LT", "UT") else text.replace("\\", "/")
        return "".join(c for c in text if c.isprintable() or c in keep).strip()[: LONGEST[vr]].strip()
    return _FORMS[vr](text) if vr in _FORMS else text


def _name(text: str) -> str:
    groups = [
        "".join(c for c in group.replace("\\", "/") if c.isprintable())[:64].strip() for group in text.split("=")[:3]
    ]
    return "=".join(groups).rstrip("=")


def _code(text: str) -> str:
    text = text.upper()
    return text if re.fullmatch(r"[A-Z0-9_ ]{1,16}", text) else ""


def _date(text: str) -> str:
    digits = re.sub(r"[.\-/]", "", text)
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return ""
    return digits if re.fullmatch(r"[0-9]{8}", digits) else ""


def _time(text: str) -> str:
    found = re.fullmatch(
        r"([01][0-9]|2[0-3])(?:([0-5][0-9])(?:([0-5][0-9]|60)(\.[0-9]{1,6})?)?)?", text.replace(":", "")
    )
    return found[0] if found else ""


def _age(text: str) -> str:
    found = re.fullmatch(r"([0-9]{1,3})([DWMY])", text.upper())
    return f"{int(found[1]):03d}{found[2]}" if found else ""


def _number(text: str) -> str:
    return text if len(text) <= 16 and re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?", text) else ""


def _uid(text: str) -> str:
    return text if len(text) <= 64 and re.fullmatch(r"[0-9]+(\.[0-9]+)*", text) else ""


_FORMS: dict[str, Callable[[str], str]] = {
    "PN": _name, "CS": _code, "DA": _date, "TM": _time, "AS": _age, "DS": _number, "IS": _number, "UI": _uid,
}  # fmt: skip


def _value(dataset, name: str, encodings: list[str] | None) -> tuple[object, bool]:
    """Return (value as its VR allows, "" if there is none; whether that is all of what the header has)."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(name)
    if tag not in dataset:
        return "", True
    vr = dictionary_VR(tag)
    if vr == "SQ":
        return _sequence(dataset, tag, encodings)
    text = _decoded(dataset.get_item(tag), vr, encodings)
    value = held(vr, text, name in SEVERAL)
    if name == "PatientSex" and value not in SEXES:
        value = ""
    shown = "\\".join(value) if isinstance(value, list) else value
    return value, shown == text.strip(" \0") or (vr in ("DA", "TM") and bool(value))


def _sequence(dataset, tag, encodings) -> tuple[object, bool]:
    """Return a sequence of which every value is allowed; "" if one is not, since half a code means nothing."""
    import pydicom

    items = []
    try:
        found = list(dataset[tag].value or [])
    except Exception:  # whatever is wrong with a sequence that nobody needs
        return "", False
    for item in found:
        made = pydicom.Dataset()
        for key in item.keys():  # noqa: SIM118 - a Dataset's own iteration would decode the values
            keyword = pydicom.datadict.keyword_for_tag(key)
            if not keyword:
                continue  # private
            value, same = _value(item, keyword, encodings)
            if not same:
                return "", False
            setattr(made, keyword, value)
        items.append(made)
    return (pydicom.Sequence(items) if items else ""), True


def _encodings(dataset) -> list[str] | None:
    """Return the Python names of a header's character sets; None if it names none, or one that does not exist."""
    from pydicom.charset import convert_encodings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            declared = dataset.get("SpecificCharacterSet")
            if not declared or declared in ("ISO_IR 6", [""]):
                return None
            return convert_encodings(declared)
    except Exception:  # a character set that pydicom does not know
        return None


def _decoded(element, vr: str, encodings: list[str] | None) -> str:
    """Return the text of an element, which is not decoded yet unless something asked for it before."""
    from pydicom.multival import MultiValue

    value = element.value
    if isinstance(value, MultiValue | list | tuple):
        return "\\".join(map(str, value))
    if not isinstance(value, bytes):
        return "" if value is None else str(value)
    if vr not in ("PN", *LONGEST):
        return value.decode("ascii", "replace").strip(" \0")
    return (
        "=".join(_letters(part, vr, encodings) for part in value.split(b"="))
        if vr == "PN"
        else _letters(value, vr, encodings)
    )


def _letters(raw: bytes, vr: str, encodings: list[str] | None) -> str:
    """Decode with the declared character sets; where that fails or none is declared, as UTF-8, else as Latin-1."""
    from pydicom.charset import decode_bytes
    from pydicom.valuerep import PN_DELIMS, TEXT_VR_DELIMS

    if encodings:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                return decode_bytes(raw, encodings, PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS)
        except (Warning, LookupError, UnicodeError):
            pass
    for encoding in ("iso2022_jp_2",) * (b"\x1b" in raw) + ("utf-8",):
        try:
            return raw.decode(encoding)
        except UnicodeError:
            pass
    return raw.decode("latin-1")

"""Read what the header of a `.seg.nrrd` says about its segments. Knows 3D Slicer's keys; no voxels.

Source: 3D Slicer, `vtkMRMLSegmentationStorageNode.cxx`. Slicer before 4.11 wrote no `Layer`: each segment had its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...core.findings import Code
from ...errors import InputError
from ...storage.json_text import read_json
from .found import ORIGINS


@dataclass(frozen=True)
class HeaderSegment:
    """A segment as the header describes it.

    Args:
        name: as in the file.
        layer: number of the layer that holds it, from 0.
        value: its value in that layer.
        color: red, green, blue, 0…1; None if there is none.
        category: coded property category, or None.
        code: coded property type, or None.
        side: code that modifies the type, or None.
        origin: one of `ORIGINS`, or "".
    """

    name: str
    layer: int
    value: int
    color: tuple[float, float, float] | None = None
    category: Code | None = None
    code: Code | None = None
    side: Code | None = None
    origin: str = ""


def read_header(tags: dict[str, str], layers: int, shown: str) -> list[HeaderSegment]:
    """Return the segments that a header describes, in its order; none for a plain label map.

    Args:
        tags: the header's keys and values.
        layers: number of layers in the file.
        shown: name of the file, in messages.

    Raises:
        InputError: if a number is none.
    """
    digits = {key[7:].partition("_")[0] for key in tags if key.startswith("Segment") and "_" in key}
    numbers = sorted(int(text) for text in digits if text.isdigit())
    unlayered = not any(f"Segment{n}_Layer" in tags for n in numbers) and 1 < layers == len(numbers)
    found = []
    for place, n in enumerate(numbers):
        own = {key.removeprefix(f"Segment{n}_"): text for key, text in tags.items() if key.startswith(f"Segment{n}_")}
        notes = _tags(own.get("Tags", ""))
        category, code, side = _terminology(_ending(notes, "TerminologyEntry"))
        layer = place if unlayered else _number(own, "Layer", 0, n, shown)
        color = _color(own.get("Color", own.get("DefaultColor", "")))
        origin = _origin(notes, tags.get("MedFM_Provenance", ""))
        name = own.get("Name", "").strip() or f"segment {n + 1}"
        value = _number(own, "LabelValue", 1, n, shown)
        found.append(HeaderSegment(name, layer, value, color, category, code, side, origin))
    return found


def _number(own: dict[str, str], key: str, default: int, n: int, shown: str) -> int:
    text = own.get(key, "").strip()
    try:
        return int(text) if text else default
    except ValueError:
        raise InputError(
            f"'{shown}' has '{text[:40]}' in Segment{n}_{key}, which is no whole number; write it again with the program that "
            "made it."
        ) from None


def _color(text: str) -> tuple[float, float, float] | None:
    try:
        red, green, blue = (min(1.0, max(0.0, float(part))) for part in text.split())
    except ValueError:
        return None
    return red, green, blue


def _tags(text: str) -> dict[str, str]:
    """Return the tags of a segment, which are written as KEY:VALUE|KEY:VALUE|."""
    pairs = (part.partition(":") for part in text.split("|") if ":" in part)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _ending(notes: dict[str, str], name: str) -> str:
    """Return the value of a tag, also under a longer name, as older versions of Slicer wrote it."""
    return notes.get(name) or next((value for key, value in notes.items() if key.endswith(name) and value), "")


def _terminology(entry: str) -> tuple[Code | None, Code | None, Code | None]:
    """Return (category, type, modifier) of a serialized terminology entry: context~category~type~modifier~ and more."""
    parts = [_code(part) for part in entry.split("~")[1:4]]
    category, code, side = (*parts, None, None, None)[:3]
    return (category, code, side) if code is not None else (None, None, None)


def _code(text: str) -> Code | None:
    parts = [part.strip() for part in text.split("^")]
    if len(parts) < 3 or not (parts[0] and parts[1]):
        return None
    return Code(parts[1], parts[0], parts[2])


def _origin(notes: dict[str, str], provenance: str) -> str:
    """Return how a segment was made: as its tags say, or by whom.

    MedFM's own file has its provenance, which 3D Slicer doesn't keep: a segment of MedFM without it was saved by a person
    who may have corrected it.
    """
    stated = _ending(notes, "SegmentAlgorithmType").upper()
    if notes.get("MedFM.Source") != "MedFM":
        return stated if stated in ORIGINS else ""
    if not provenance:
        return "MANUAL" if stated == "MANUAL" else "SEMIAUTOMATIC"
    if stated in ORIGINS:
        return stated
    try:
        task = read_json(provenance).get("task", "")
    except (ValueError, AttributeError):
        return ""
    return "SEMIAUTOMATIC" if task == "outline" else "AUTOMATIC"

"""Find the names of a label map's values: in its own header, or in a file beside it. Reads no voxels.

```
NAME.labels.json   {"background": 0, "liver": 1}, which `label_maps` writes beside NAME.nii.gz
NIfTI header       the label table (XML, extension 30) that TotalSegmentator and Connectome Workbench write
dataset.json       of nnU-Net, in the folder or the one above: {"labels": {"liver": 1}}, {"1": "liver"}, regions of several
```
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ...errors import InputError
from ...storage.json_text import read_json
from ..names import output_name

CARET = 30
"""Code of the header extension with a label table; see the NIfTI registry of extensions."""

LARGEST_EXTENSION = 1 << 20
"""Bytes; a larger one is no table of names."""


@dataclass(frozen=True)
class NamedValues:
    """A name and the values of a label map that it means.

    Args:
        name: as it was written.
        values: one, or several for a region such as "whole tumour".
        color: red, green, blue, 0…1; None if there is none.
    """

    name: str
    values: tuple[int, ...]
    color: tuple[float, float, float] | None = None


def read_label_names(path: Path) -> list[NamedValues]:
    """Return the names of a label map's values; none if nothing names them.

    Args:
        path: the label map.

    Raises:
        InputError: if a file that should name them can't be read.
    """
    beside = path.with_name(f"{output_name(path)}.labels.json")
    if beside.is_file():
        return names_from_json(beside)
    if path.name.lower().endswith((".nii", ".nii.gz")) and (found := _from_extension(path)):
        return found
    for folder in (path.parent, path.parent.parent):
        if (folder / "dataset.json").is_file():
            return names_from_json(folder / "dataset.json")
    return []


def names_from_json(path: Path) -> list[NamedValues]:
    """Return the names in a JSON file: {"liver": 1}, {"1": "liver"} or {"tumour": [1, 2]}, at the top or under "labels".

    Args:
        path: the file.

    Raises:
        InputError: if it has another content.
    """
    try:
        content = read_json(path.read_text(encoding="utf-8-sig"))
        found = []
        for key, value in content.get("labels", content).items():
            name, values = (value, key) if str(key).strip().isdigit() else (key, value)
            if str(name).strip().lower() == "ignore":
                continue  # nnU-Net's mark of voxels that nobody labelled
            numbers = tuple(int(v) for v in (values if isinstance(values, list) else [values]))
            if numbers != (0,):
                found.append(NamedValues(str(name), numbers))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f'\'{path.name}\' must map names to label values, as {{"labels": {{"background": 0, "liver": 1}}}} ({error}).'
        ) from error
    return found


def _from_extension(path: Path) -> Sequence[NamedValues]:
    """Return the names in the header of a NIfTI-1 file; none if it has none that can be read."""
    try:
        with path.open("rb") as stream:
            compressed = stream.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if compressed else path.open("rb") as stream:
            head = stream.read(352)
            order = "<" if head[:4] == struct.pack("<i", 348) else ">"
            if len(head) < 352 or head[344:347] != b"n+1" or not head[348]:
                return []
            end = int(struct.unpack(f"{order}f", head[108:112])[0])
            at = 352
            while at + 8 <= end:
                size, code = struct.unpack(f"{order}2i", stream.read(8))
                if not 8 <= size <= LARGEST_EXTENSION:
                    return []
                content = stream.read(size - 8)
                if code == CARET:
                    return _from_table(content.rstrip(b"\0"))
                at += size
    except (OSError, EOFError, zlib.error, struct.error):
        return []  # a damaged file is reported when its voxels are read
    return []


def _from_table(text: bytes) -> list[NamedValues]:
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:
        return []  # a table of names declares no entities
    try:
        labels = list(ElementTree.fromstring(text).iter("Label"))
        found = []
        for label in labels:
            value, name = int(label.get("Key", "0")), (label.text or "").strip()
            if value and name:
                found.append(NamedValues(name, (value,), _color(label)))
    except (ElementTree.ParseError, ValueError):
        return []
    return found


def _color(label: ElementTree.Element) -> tuple[float, float, float] | None:
    try:
        red, green, blue = (min(1.0, max(0.0, float(label.attrib[key]))) for key in ("Red", "Green", "Blue"))
    except (KeyError, ValueError):
        return None
    return red, green, blue

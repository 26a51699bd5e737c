"""Headers with one tag deleted, emptied, doubled or filled with text: read, or refused in one sentence, never a traceback."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pydicom
from pydicom.dataelem import RawDataElement
from support.field_phantoms import body, frames_of, write_dose, write_enhanced, write_slices

from MedFMLib.errors import MedFMError
from MedFMLib.files import read_image

MUTATIONS = 600


def targets(data) -> list[tuple[pydicom.Dataset, int]]:
    """Every (dataset, tag) of a file, those in the first items of sequences too."""
    found = []
    for element in data:
        if element.tag.group == 0x7FE0:
            found.append((data, element.tag))
            continue
        found.append((data, element.tag))
        if element.VR == "SQ" and len(element.value):
            for number in {0, len(element.value) - 1}:
                found += targets(element.value[number])
    return found


def mutate(data: pydicom.Dataset, tag: int, how: str) -> None:
    """Change one element of a dataset in place."""
    element = data[tag]
    if how == "deleted":
        del data[tag]
        return
    if element.VR == "SQ":
        element.value = [] if how == "emptied" else [*element.value, *element.value]
        return
    if element.VR in ("US", "SS", "UL", "OW", "OB", "OB or OW"):
        raw = (
            element.value
            if isinstance(element.value, bytes)
            else int(element.value or 0).to_bytes(2, "little", signed=False)
        )
        text = {"emptied": b"", "doubled": raw + raw, "filled": b"text"}[how]
    else:
        said = "\\".join(map(str, element.value)) if element.VM > 1 else str(element.value)
        text = {"emptied": b"", "doubled": f"{said}\\{said}".encode(), "filled": b"some text "}[how]
        text += b" " * (len(text) % 2)
    data._dict[tag] = RawDataElement(element.tag, element.VR, len(text), text, 0, False, True)


def test_one_sentence_for_every_mutated_header(tmp_path, table):
    write_slices(tmp_path / "classic", body(slices=5))
    write_enhanced(tmp_path / "enhanced" / "x.dcm", frames_of(body(slices=5)), modality="MR")
    write_dose(tmp_path / "dose" / "x.dcm", body(slices=5) + 1000, 0.01, np.arange(5) * 5.0)
    folders = ["classic", "enhanced", "dose"]
    random, counts, sentences = np.random.default_rng(0), Counter(), []
    for number in range(MUTATIONS):
        folder = folders[number % 3]
        path = sorted((tmp_path / folder).iterdir())[0 if folder != "classic" else int(random.integers(5))]
        untouched = path.read_bytes()
        data = pydicom.dcmread(path)
        places = targets(data)
        where, tag = places[int(random.integers(len(places)))]
        how = ("deleted", "emptied", "doubled", "filled")[int(random.integers(4))]
        try:
            mutate(where, tag, how)
            data.save_as(path, enforce_file_format=False)
        except Exception:  # pydicom can't write this one
            counts["not written"] += 1
            path.write_bytes(untouched)
            continue
        try:
            read_image(tmp_path / folder)
            counts["read"] += 1
        except MedFMError as error:
            counts["refused"] += 1
            sentences.append(str(error))
        except Exception as error:
            raise AssertionError(f"{folder}: {pydicom.datadict.keyword_for_tag(tag)} {how} gives {error!r}") from error
        path.write_bytes(untouched)
    assert all("\n" not in text and text.rstrip().endswith((".", ":", ")")) for text in sentences)
    done = counts["read"] + counts["refused"]
    table(
        "≥ 500 headers, 0 tracebacks",
        "how they were made",
        f"{done} headers, 0 tracebacks ({counts['refused']} refused)",
    )
    assert done >= 500

"""Read MedPix 2.0: descriptions of images and texts of cases, converted to pairs by rules.

Layout (Siragusa et al., MedPix 2.0, arXiv 2407.02994; github.com/CHILab1/MedPix-2.0): a folder with `Descriptions.json`
and
`Case_topic.json`, lists of objects joined by `U_id`, or `splitted_dataset/descriptions_*.jsonl` and `data_*.jsonl`,
whose
names state the split; PNG in `images/`. A patient is a `U_id`. The README writes `location`, the files `Location`.

Facts that a picture can't show (age, sex, history) are not asked. Texts of the case are about the patient rather than
one picture;
they are asked of every picture of the case, in separate categories, so that they can be excluded.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from .pictures import read_picture
from .samples import QuestionPair, ReaderResult, SourcePicture
from .texts import clean, entries

DESCRIPTIONS, CASES = ("Descriptions.json", "Description.json"), "Case_topic.json"
PLANES = {"axial": "axial", "transverse": "axial", "coronal": "coronal", "sagittal": "sagittal"}
SPLIT_NAMES = {"train": "train", "dev": "validation", "test": "test"}

QUESTIONS = {
    "modality": "is this CT or MR?",
    "plane": "which plane is this?",
    "body part": "which part of the body is this?",
    "system": "which organ system is shown?",
    "technique": "how was this image made?",
    "caption": "what does this image show?",
    "case findings": "what are the findings?",
    "case diagnosis": "what is the diagnosis in this case?",
    "case topic": "which disease is this case about?",
}
"""Category → question. The answers are the source's words, except modality and plane."""


def is_medpix(folder: Path) -> bool:
    """Return whether a folder has the layout of MedPix 2.0."""
    return any((folder / name).is_file() for name in DESCRIPTIONS) or any(_split_files(folder, "descriptions"))


def _split_files(folder: Path, kind: str) -> list[Path]:
    return sorted((folder / "splitted_dataset").glob(f"{kind}_*.jsonl"))


def read(folder: Path, categories: tuple[str, ...] = ()) -> ReaderResult:
    """Return the pictures and pairs.

    Args:
        folder: see the module's docstring.
        categories: keys of `QUESTIONS` to ask; all if empty.

    Raises:
        InputError: if a file can't be opened.
    """
    found = ReaderResult("MedPix 2.0")
    descriptions, splits = _read(folder, found, DESCRIPTIONS, "descriptions")
    cases, case_splits = _read(folder, found, (CASES,), "data")
    splits = case_splits | splits
    by_patient = {clean(case.get("U_id")): case for case in cases}
    asked = categories or tuple(QUESTIONS)
    empty: Counter[str] = Counter()
    seen: set[str] = set()
    for number, entry in enumerate(descriptions):
        name, patient = clean(entry.get("image")), clean(entry.get("U_id"))
        inner = entry.get("Description")
        if not name or not patient or not isinstance(inner, dict) or Path(name).name != name:
            found.problem("broken entry", f"description {number}", "it lacks image, U_id or Description")
            continue
        if name in seen:
            found.problem("repeated entry", name, "the same image is described twice")
            continue
        seen.add(name)
        empty.update(f"Description.{key}" for key, value in inner.items() if not clean(value))
        facts = _facts(entry, inner)
        path = next((p for p in (folder / "images" / f"{name}{end}" for end in (".png", ".jpg")) if p.is_file()), None)
        if path is None:
            found.problem("missing picture", name)
            continue
        found.pictures.append(
            SourcePicture(name, patient, partial(read_picture, path), facts["modality"], facts["plane"],
                    facts["body part"].lower(), splits.get(patient, ""))
        )  # fmt: skip
        answers = facts | _case_facts(by_patient.get(patient), found)
        found.pairs += [QuestionPair(name, QUESTIONS[c], answers[c], c, origin="rule") for c in asked if answers.get(c)]
    for case in cases:
        for part in ("Case", "Topic"):
            texts = case.get(part)
            empty.update(f"{part}.{key}" for key, value in (texts or {}).items() if not clean(value))
    patients = {clean(entry.get("U_id")) for entry in descriptions} - {""}
    orphans = sorted(patients - set(by_patient)) if cases else []
    for patient in orphans:
        found.problem("missing case", patient, "a picture's U_id has no entry among the cases")
    found.counts = {"images": len(found.pictures), "descriptions": len(descriptions), "cases": len(cases),
                    "patients": len(patients), "patients_with_images": len({p.patient for p in found.pictures})}  # fmt: skip
    found.empty = dict(sorted(empty.items()))
    return found


def _read(folder: Path, found: ReaderResult, names, kind: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Return (entries, patient → split).

    The published splits replace the joined file, since they have the same entries.
    """
    files, everything, splits = _split_files(folder, kind), [], {}
    for file in files:
        split = SPLIT_NAMES.get(file.stem.split("_")[1], "")
        some = entries(file, found)
        splits |= {clean(entry.get("U_id")): split for entry in some}
        everything += some
    if everything:
        return everything, splits
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    return (entries(path, found) if path else []), {}


def _facts(entry: dict[str, Any], inner: dict[str, Any]) -> dict[str, str]:
    """Return a mapping from category to answer, "" where it is not certain."""
    category = entry.get("Location Category", entry.get("location category"))
    return {
        "modality": {"CT": "CT", "MR": "MR"}.get(clean(entry.get("Type")), ""),
        "plane": PLANES.get(clean(inner.get("Plane")).lower(), ""),
        "body part": clean(category),
        "system": clean(entry.get("Location", entry.get("location"))),
        "technique": clean(inner.get("Modality")),
        "caption": clean(inner.get("Caption")),
    }


def _case_facts(case: dict[str, Any] | None, found: ReaderResult) -> dict[str, str]:
    if case is None:
        return {}
    texts, topic = case.get("Case"), case.get("Topic")
    if not isinstance(texts, dict) or not isinstance(topic, dict):
        found.problem("broken entry", clean(case.get("U_id")), "Case and Topic must be objects")
        return {}
    return {
        "case findings": clean(texts.get("Findings")),
        "case diagnosis": clean(texts.get("Case Diagnosis")),
        "case topic": clean(topic.get("Title")),
    }

"""Read VQA-RAD and SLAKE: questions of clinicians about pictures.

* VQA-RAD (Lau et al., Scientific Data 2018): a JSON list with `image_name`, `question`, `answer`, `question_type`,
  `image_organ`.
  Each picture is of a different patient, so the picture identifies the patient; if an entry has a `medpix_image`, the
part
  before "_" does, since MedPix has several pictures of a patient.
* SLAKE (Liu et al., ISBI 2021): a JSON list with `img_name` ("xmlab1/source.jpg"), `q_lang`, `content_type`,
  `location`; it
  doesn't identify patients, so each picture counts as one. `detection.json` next to a picture has boxes.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from .pictures import read_picture
from .samples import PlacedStructure, QuestionPair, ReaderResult, SourcePicture
from .texts import clean, entries

MODALITIES = {"MRI": "MR", "CT": "CT", "X-Ray": "CR", "XRAY": "CR"}
ENDINGS = (".png", ".jpg", ".jpeg")


def kind_of(path: Path) -> str:
    """Return "VQA-RAD", "SLAKE", or "" for other files, by the first entry."""
    found = ReaderResult("")
    first = next(iter(entries(path, found)), {})
    if "image_name" in first and "question" in first:
        return "VQA-RAD"
    return "SLAKE" if "img_name" in first and "question" in first else ""


def read(path: Path, images: Path | None = None) -> ReaderResult:
    """Return the pictures and pairs of a file of either format.

    Args:
        path: the JSON file.
        images: folder with the pictures; by default `images` or `imgs` next to the file.

    Raises:
        InputError: if the file can't be opened.
    """
    kind = kind_of(path)
    found = ReaderResult(kind)
    listed = entries(path, found)
    folders = [images] if images else [path.parent / "images", path.parent / "imgs", path.parent]
    known: dict[str, bool] = {}
    for number, entry in enumerate(listed):
        question, answer = clean(entry.get("question")), clean(entry.get("answer"))
        key, patient, names = _picture_of(entry, kind)
        if not question or not answer or not key:
            found.problem("broken entry", f"{path.name}, entry {number}", "it lacks picture, question or answer")
            continue
        if kind == "SLAKE" and clean(entry.get("q_lang")) not in ("", "en"):
            found.counts["other languages"] = found.counts.get("other languages", 0) + 1
            continue
        if key not in known:
            file = next((f / n for f in folders for n in names if (f / n).is_file()), None)
            known[key] = file is not None
            if file is None:
                found.problem("missing picture", key)
            else:
                modality = MODALITIES.get(clean(entry.get("modality")), clean(entry.get("modality")))
                organ = clean(entry.get("image_organ") or entry.get("location")).lower()
                found.pictures.append(SourcePicture(key, patient, partial(read_picture, file), modality, "", organ))
                found.pairs += _boxes(file.with_name("detection.json"), key, found) if kind == "SLAKE" else []
        if known[key]:
            category = clean(entry.get("question_type") or entry.get("content_type")).lower() or "question"
            found.pairs.append(QuestionPair(key, question, answer, category))
    found.counts |= {"images": len(found.pictures), "descriptions": len(listed),
                     "patients": len({p.patient for p in found.pictures})}  # fmt: skip
    return found


def _picture_of(entry: dict[str, Any], kind: str) -> tuple[str, str, list[str]]:
    """Return (key, patient, possible file names)."""
    if kind == "SLAKE":
        name = clean(entry.get("img_name"))
        return name, f"slake-{Path(name).parent.name or name}", [name]
    name, medpix = clean(entry.get("image_name")), clean(entry.get("medpix_image"))
    if medpix:
        return medpix, medpix.partition("_")[0], [f"{Path(medpix).stem}{end}" for end in ENDINGS]
    return name, Path(name).stem, [name, *(f"{Path(name).stem}{end}" for end in ENDINGS)]


def _boxes(path: Path, key: str, found: ReaderResult) -> list[QuestionPair]:
    """Return SLAKE's boxes of organs, [x, y, width, height] in pixels, as pairs."""
    if not path.is_file():
        return []
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        shown = read_picture(path.with_name("source.jpg")).pixels
        boxes = [(str(name), *map(float, box)) for entry in content for name, box in entry.items()]
    except Exception as error:
        found.problem("broken entry", f"{path.parent.name}/{path.name}", error)
        return []
    height, width = shown.shape[:2]  # a picture's square is the picture itself, stretched
    placed = [PlacedStructure(name.lower(), 0, (y / height, x / width, (y + h) / height, (x + w) / width))
              for name, x, y, w, h in boxes]  # fmt: skip
    names = " ; ".join(dict.fromkeys(p.name for p in placed))
    return [QuestionPair(key, names, "", "organ boxes", "boxes", tuple(placed))] if placed else []

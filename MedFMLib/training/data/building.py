"""Build a data set on disk from the result of a reader, with a card that describes it.

Knows files and splits; no formats.

Nothing is skipped silently: missing pictures, broken entries and unreadable pictures are counted and listed, and
stop the building unless the user chooses to skip them.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError, OutputError
from ...interfaces.jobs import NoProgress, Progress
from . import splitting
from .dataset import CARD, lines_digest
from .pictures import digest, likeness
from .samples import SPLITS, DataProblem, PicturePixels, ReaderResult, Sample, SourcePicture

PROBLEMS_SHOWN = 5


@dataclass(frozen=True, eq=False)
class DatasetCheck:
    """Result of checking every picture.

    Args:
        found: by the reader.
        kept: key → (picture, digest of its pixels, difference hash, size, spacing, placed).
        problems: all of them.
        splits: patient → split.
        shared: patients that share a picture.
        repeated: number of pairs with the same question about the same pixels.
        options: of the split, for the card.
    """

    found: ReaderResult
    kept: dict[str, tuple[SourcePicture, str, str, tuple[int, int], tuple[float, float]]]
    problems: tuple[DataProblem, ...]
    splits: dict[str, str]
    shared: list[tuple[str, ...]]
    repeated: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def samples(self) -> dict[str, tuple[Sample, ...]]:
        """Split → samples; the same question about the same pixels occurs once."""
        made: dict[str, list[Sample]] = defaultdict(list)
        asked: set[tuple[str, str, str]] = set()
        for pair in self.found.pairs:
            if pair.picture not in self.kept:
                continue
            picture, sha, _, (height, width), spacing, placed = self.kept[pair.picture]
            if (sha, pair.kind, pair.question) in asked:
                continue
            asked.add((sha, pair.kind, pair.question))
            made[self.splits[picture.patient]].append(
                Sample(sha, picture.patient, pair.question, pair.answer, pair.category, pair.kind, pair.objects, pair.origin,
                       picture.modality, picture.plane, picture.organ, spacing, height, width, placed)
            )  # fmt: skip
        return {name: tuple(made[name]) for name in SPLITS}

    def report(self) -> dict[str, Any]:
        """Return the data set's card as JSON."""
        samples, found = self.samples, self.found
        everyone = [s for some in samples.values() for s in some]
        kinds = Counter(problem.kind for problem in self.problems)
        return {
            "source": found.source,
            "found": found.counts,
            "images": len(self.kept),
            "descriptions": found.counts.get("descriptions", 0),
            "patients": len({picture.patient for picture, *_ in self.kept.values()}),
            "pairs": len(everyone),
            "splits": {name: _numbers(some) for name, some in samples.items()},
            "patients_in_two_splits": _twice(samples),
            "patients_sharing_pictures": [list(names) for names in self.shared],
            "repeated_pictures": self.repeated,
            "problems": dict(sorted(kinds.items())),
            "problems_shown": [asdict(p) for p in self.problems[:PROBLEMS_SHOWN]],
            "categories": _counts(s.category for s in everyone),
            "kinds": _counts(s.kind for s in everyone),
            "closed": sum(s.closed for s in everyone),
            "modalities": _counts(picture.modality for picture, *_ in self.kept.values()),
            "planes": _counts(picture.plane for picture, *_ in self.kept.values()),
            "organs": _counts(picture.organ for picture, *_ in self.kept.values()),
            "sides": _counts(side for s in everyone for side in ("left", "right") if side in _words(s)),
            "origins": _counts(s.origin for s in everyone),
            "empty": found.empty,
            "options": self.options,
            "sha256": lines_digest(samples),
        }  # fmt: skip


def check(found: ReaderResult, seed: int = 0, shares=splitting.SHARES, own_split: bool = False,
          progress: Progress | None = None) -> DatasetCheck:  # fmt: skip
    """Check every picture and split the patients.

    Args:
        found: by the reader.
        seed: of the split.
        shares: of patients in train, validation and test; their sum is 1.
        own_split: ignore the source's split.
        progress: callbacks for stages, fraction and cancellation.

    Raises:
        InputError: if the source's split leaks, or there is nothing to split.
    """
    progress = progress or NoProgress()
    progress.stage("Checking pictures")
    kept, problems, seen = {}, list(found.problems), []
    for number, picture in enumerate(found.pictures):
        progress.fraction(number / max(1, len(found.pictures)))
        try:
            shown = picture.load()
        except InputError as error:
            problems.append(DataProblem("unreadable picture", picture.key, str(error)))
            continue
        if shown.pixels.min() == shown.pixels.max():
            problems.append(DataProblem("empty picture", picture.key, "every pixel is the same"))
            continue
        sha = digest(shown)
        kept[picture.key] = (picture, sha, likeness(shown), shown.pixels.shape[:2], shown.spacing, shown.placed)
        seen.append(splitting.SplitItem(picture.patient, sha, kept[picture.key][2], "" if own_split else picture.split))
    if not kept:
        first = f" The first problem: {problems[0].kind}, {problems[0].where}." if problems else ""
        raise InputError(f"There is no usable picture; there are {len(problems)} problems.{first}")
    splits = splitting.split(seen, seed, shares)
    repeated = len(seen) - len({picture.digest for picture in seen})
    options = {
        "seed": seed,
        "shares": list(shares),
        "split": "the source's" if any(s.split for s in seen) else "by patient",
    }
    return DatasetCheck(found, kept, tuple(problems), splits, splitting.shared(seen), repeated, options)


def refuse_problems(checked: DatasetCheck, skip: Iterable[str]) -> None:
    """Refuse a data set with problems that the user has not chosen to skip.

    Args:
        checked: the result of `check`.
        skip: kinds of problems to skip; "all" for every kind.

    Raises:
        InputError: if there are others.
    """
    skip = set(skip)
    left = Counter(p.kind for p in checked.problems if "all" not in skip and p.kind not in skip)
    if left:
        first = next(p for p in checked.problems if p.kind in left)
        counts = ", ".join(f"{count} × {kind}" for kind, count in sorted(left.items()))
        kinds = " ".join(f'--skip "{kind}"' for kind in sorted(left))
        raise InputError(f"The files have problems: {counts}; the first is {first.where}. Correct them, or skip them with "
                         f"{kinds}.")  # fmt: skip


def build(checked: DatasetCheck, folder: Path, licence: str = "", progress: Progress | None = None) -> dict[str, Any]:
    """Write the data set to a new folder, atomically, and return its card.

    Args:
        checked: the result of `check`.
        folder: destination, new or empty.
        licence: of the pictures and texts, in plain words.
        progress: callbacks for stages, fraction and cancellation.

    Raises:
        OutputError: if the folder exists and is not empty, or can't be written.
    """
    folder, progress = Path(folder).expanduser(), progress or NoProgress()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"'{folder}' already exists; choose a new folder.")
    samples, report = checked.samples, checked.report()
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / "pictures").mkdir(parents=True)
        (part / "labels").mkdir()
        progress.stage("Writing pictures")
        wanted = {s.picture for some in samples.values() for s in some}
        drawn = {s.picture for some in samples.values() for s in some if s.objects}
        chosen = {sha: picture for picture, sha, *_ in checked.kept.values() if sha in wanted}
        for number, (sha, picture) in enumerate(chosen.items()):
            progress.fraction(number / len(chosen))
            _write(part, sha, picture.load(), sha in drawn)
        for name, some in samples.items():
            lines = "".join(json.dumps(sample.as_json(), ensure_ascii=False) + "\n" for sample in some)
            (part / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        listed = "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in checked.problems)
        (part / "problems.jsonl").write_text(listed, encoding="utf-8")
        card = {"format": 1, "made": time.strftime("%Y-%m-%d"), "licence": licence, **report}
        (part / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if folder.is_dir():
            folder.rmdir()
        part.replace(folder)
    except OSError as error:
        raise OutputError(f"The data set can't be written to '{folder}' ({error.strerror}); choose another.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return card


def _write(folder: Path, sha: str, shown: PicturePixels, labelled: bool) -> None:
    from PIL import Image as SourcePicture

    SourcePicture.fromarray(shown.pixels).save(folder / "pictures" / f"{sha}.png")
    if labelled and shown.labels is not None:
        SourcePicture.fromarray(shown.labels).save(folder / "labels" / f"{sha}.png")


def _words(sample: Sample) -> list[str]:
    return f"{sample.question} {sample.answer}".lower().replace(",", " ").replace("?", " ").split()


def _numbers(samples: tuple[Sample, ...]) -> dict[str, int]:
    return {"pairs": len(samples), "images": len({s.picture for s in samples}),
            "patients": len({s.patient for s in samples})}  # fmt: skip


def _twice(samples: dict[str, tuple[Sample, ...]]) -> int:
    where = defaultdict(set)
    for name, some in samples.items():
        for sample in some:
            where[sample.patient].add(name)
    return sum(len(names) > 1 for names in where.values())


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(value or "not known" for value in values).most_common(40))

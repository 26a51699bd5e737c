"""What readers find: pictures, pairs of question and answer, and problems. Knows values; no files, no models.

A pair is about one picture. What is asked for decides its `kind`:

* "text": a question and its answer in words;
* "boxes", "masks": names of structures; the answer is where they are, in the picture's square, as a `View` shows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from ...errors import InputError

KINDS = ("text", "boxes", "masks")
SPLITS = ("train", "validation", "test")
YES_NO = ("yes", "no")


@dataclass(frozen=True, eq=False)
class PicturePixels:
    """The pixels of a picture, in display orientation.

    Args:
        pixels: (H, W, 3) uint8, rows run down.
        spacing: mm between rows and between columns; (1, 1) if unknown.
        labels: (H, W) uint8, 0 for nothing, or None.
    """

    pixels: np.ndarray = field(repr=False)
    spacing: tuple[float, float] = (1.0, 1.0)
    labels: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class SourcePicture:
    """A picture of a patient that can be read.

    Args:
        key: unique among those of one reader.
        patient: who it is of; the same text for every picture of one person.
        load: reads the pixels. Raises `InputError`.
        modality, plane, organ: as far as known, "" if not.
        split: where the source puts the patient, "" if nowhere.
    """

    key: str
    patient: str
    load: Callable[[], PicturePixels] = field(repr=False)
    modality: str = ""
    plane: str = ""
    organ: str = ""
    split: str = ""


@dataclass(frozen=True)
class PlacedStructure:
    """A structure in a picture.

    Args:
        name: what it is called. value: its number in the picture's labels, 0 if only the box is known.
        box: (y0, x0, y1, x1), each 0…1 in the picture's square.
    """

    name: str
    value: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class QuestionPair:
    """A question about a picture, and what is right.

    Args:
        picture: its `key`. question: in words, or names joined by " ; " for boxes and masks. answer: in words.
        category: kind of question, for counting.
        kind: one of `KINDS`. objects: what there is to see, for boxes and masks.
        origin: "file", "rule", "person", or "model ID" where a model wrote the answer.
    """

    picture: str
    question: str
    answer: str
    category: str
    kind: str = "text"
    objects: tuple[PlacedStructure, ...] = ()
    origin: str = "file"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"A pair is of the kind {', '.join(KINDS)}, not {self.kind!r}.")


@dataclass(frozen=True)
class DataProblem:
    """Something that can't be used.

    Args:
        kind: "missing picture", "unreadable picture", "broken entry", "unknown encoding", …; for counting.
        where: file, line or entry. what: in words.
    """

    kind: str
    where: str
    what: str = ""


@dataclass
class ReaderResult:
    """What a reader found.

    Args:
        source: what kind of files. counts: what there is of each thing, also of what can't be used.
        empty: field → entries without it.
    """

    source: str
    pictures: list[SourcePicture] = field(default_factory=list)
    pairs: list[QuestionPair] = field(default_factory=list)
    problems: list[DataProblem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    empty: dict[str, int] = field(default_factory=dict)

    def problem(self, kind: str, where: object, what: object = "") -> None:
        """Note one."""
        self.problems.append(DataProblem(kind, str(where), " ".join(str(what).split())[:200]))


@dataclass(frozen=True)
class Sample:
    """One line of a built data set: a pair with its picture's file and facts.

    Args:
        picture: SHA-256 of the pixels, which names the files. patient: as the source has it.
        spacing: mm between rows and between columns. height, width: pixels.
    """

    picture: str
    patient: str
    question: str
    answer: str
    category: str
    kind: str = "text"
    objects: tuple[PlacedStructure, ...] = ()
    origin: str = "file"
    modality: str = ""
    plane: str = ""
    organ: str = ""
    spacing: tuple[float, float] = (1.0, 1.0)
    height: int = 0
    width: int = 0

    @property
    def closed(self) -> bool:
        """Is the answer yes or no?"""
        return self.kind == "text" and self.answer.strip().lower() in YES_NO

    @property
    def names(self) -> tuple[str, ...]:
        """What is asked for, of boxes and masks."""
        return tuple(name.strip() for name in self.question.split(";")) if self.kind != "text" else ()

    def as_json(self) -> dict[str, Any]:
        """For a line of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Sample:
        """From a line of JSON.

        Raises:
            InputError: if something is missing or of the wrong kind.
        """
        try:
            objects = tuple(
                PlacedStructure(o["name"], int(o["value"]), tuple(map(float, o["box"]))) for o in content["objects"]
            )
            spacing = tuple(map(float, content["spacing"]))
            made = cls(**{**content, "objects": objects, "spacing": spacing})
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(f"A line of the data set can't be read ({error}); build it again.") from error
        if made.kind not in KINDS:
            raise InputError(f"A line of the data set is of the kind {made.kind!r}; build it again.")
        return made

"""Define the results of readers: pictures, pairs of question and answer, and problems. Values only.

A pair is about one picture. Its `kind` depends on the expected answer:

* "text": a question and its answer in words;
* "boxes", "masks": names of structures; the answer is their position in the picture's square, as in a `View`.
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
        labels: (H, W) uint8, 0 for background, or None.
        placed: whether it is a slice of a volume, which models see as a square with equal mm per pixel; a picture
            without a place in a patient is passed on as it is.
    """

    pixels: np.ndarray = field(repr=False)
    spacing: tuple[float, float] = (1.0, 1.0)
    labels: np.ndarray | None = field(default=None, repr=False)
    placed: bool = True


@dataclass(frozen=True, eq=False)
class SourcePicture:
    """A readable picture of a patient.

    Args:
        key: unique among those of one reader.
        patient: identifier of the patient; the same for every picture of one patient.
        load: reads the pixels; raises `InputError`.
        modality: "" if unknown.
        plane: "" if unknown.
        organ: "" if unknown.
        split: the source's split of the patient, "" if none.
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
        name: its name.
        value: its number in the picture's labels, 0 if only the box is known.
        box: (y0, x0, y1, x1), each 0…1 in the picture's square.
    """

    name: str
    value: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class QuestionPair:
    """A question about a picture, with the right answer.

    Args:
        picture: its `key`.
        question: in words, or names joined by " ; " for boxes and masks.
        answer: in words.
        category: kind of question, for counting.
        kind: one of `KINDS`.
        objects: visible structures, for boxes and masks.
        origin: "file", "rule", "person", or "model ID" if a model wrote the answer.

    Raises:
        InputError: if the kind is unknown.
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
            raise InputError(f"The kind of a pair must be one of {', '.join(KINDS)}, not {self.kind!r}.")


@dataclass(frozen=True)
class DataProblem:
    """An unusable item.

    Args:
        kind: "missing picture", "unreadable picture", "broken entry", "unknown encoding", …; for counting.
        where: file, line or entry.
        what: in words.
    """

    kind: str
    where: str
    what: str = ""


@dataclass
class ReaderResult:
    """Result of a reader.

    Args:
        source: name of the format.
        pictures: usable pictures.
        pairs: questions with answers.
        problems: unusable items.
        counts: number of each kind of item, including unusable ones.
        empty: field → number of entries without it.
    """

    source: str
    pictures: list[SourcePicture] = field(default_factory=list)
    pairs: list[QuestionPair] = field(default_factory=list)
    problems: list[DataProblem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    empty: dict[str, int] = field(default_factory=dict)

    def problem(self, kind: str, where: object, what: object = "") -> None:
        """Add a problem.

        Args:
            kind: see `DataProblem`.
            where: file, line or entry.
            what: in words; shortened to 200 characters.
        """
        self.problems.append(DataProblem(kind, str(where), " ".join(str(what).split())[:200]))


@dataclass(frozen=True)
class Sample:
    """One line of a built data set: a pair with its picture's file and properties.

    Args:
        picture: SHA-256 of the pixels, which is the name of its files.
        patient: identifier in the source.
        question: see `QuestionPair`.
        answer: see `QuestionPair`.
        category: see `QuestionPair`.
        kind: see `QuestionPair`.
        objects: see `QuestionPair`.
        origin: see `QuestionPair`.
        modality: "" if unknown.
        plane: "" if unknown.
        organ: "" if unknown.
        spacing: mm between rows and between columns.
        height: pixels.
        width: pixels.
        placed: see `PicturePixels`.
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
    placed: bool = True

    @property
    def closed(self) -> bool:
        """Whether the answer is yes or no."""
        return self.kind == "text" and self.answer.strip().lower() in YES_NO

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the requested structures, for boxes and masks."""
        return tuple(name.strip() for name in self.question.split(";")) if self.kind != "text" else ()

    def as_json(self) -> dict[str, Any]:
        """Return the sample as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Sample:
        """Return the sample of a JSON object.

        Raises:
            InputError: if a field is missing or of the wrong type.
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

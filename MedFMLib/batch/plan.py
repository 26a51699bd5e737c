"""Define the tasks of each case: `BatchCase`, `TaskStep`, and their conversion to a `Request`. Values only."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..core.image import Image
from ..core.request import DEFAULT_MODEL, Request, SliceChoice, check_length
from ..errors import InputError
from ..files.names import PICTURE_SUFFIXES, VOLUME_SUFFIXES
from ..files.pseudonyms import without_names

SCENES = (".mrb", ".mrml")
"""Suffixes of scene files."""


@dataclass(frozen=True)
class TaskStep:
    """One task of a case.

    Args:
        task: name of a task.
        question: for "ask".

    Raises:
        InputError: if "ask" has no question, or another task has one.
    """

    task: str
    question: str = ""

    def __post_init__(self) -> None:
        if self.task == "ask" and not self.question.strip():
            raise InputError("The task 'ask' needs a question; write it as 'ask:Is there a nodule?'.")
        check_length("question", self.question)
        if self.task != "ask" and self.question:
            raise InputError(f"The task '{self.task}' takes no question ('{self.question}'); use ask:QUESTION.")

    @property
    def key(self) -> str:
        """Its name in file names, such as "segment" or "ask-1f0c9a2b"."""
        if not self.question:
            return self.task
        return f"{self.task}-{hashlib.sha256(self.question.encode()).hexdigest()[:8]}"


def step_from(text: str) -> TaskStep:
    """Parse "segment", "report" or "ask:QUESTION".

    Raises:
        InputError: if it is none of these.
    """
    name, _, question = text.partition(":")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name.strip()):
        raise InputError(f"'{text}' is not a task; use segment, report or 'ask:QUESTION'.")
    return TaskStep(name.strip(), question.strip())


@dataclass(frozen=True)
class CaseOptions:
    """Options of each case. The fields are those of `Request` and `SliceChoice`."""

    model: str = DEFAULT_MODEL
    adapter: str = ""
    precision: str = ""
    labels: tuple[str, ...] = ()
    refine: bool = False
    max_tokens: int = 64
    plane: str = ""
    first: int = -1
    last: int = -1
    step: int = 0
    outside_domain: bool = False


@dataclass(frozen=True)
class BatchCase:
    """One volume and its tasks.

    Args:
        id: safe for file names, without patient data.
        source: absolute path of its file, or of the folder with its `files`.
        steps: its tasks.
        options: of all tasks.
        files: of one DICOM series, relative to `source`; () for one file, or a folder of one series.
        modality: see `read_image`.
        frame: see `read_image`; -1 for none.
        series: see `read_image`.
        node: name of a volume in a scene, or "".
        dicom: whether a volume in a scene was loaded from DICOM.
        private: whether its id is a case number, and its place stands in the key file only.
    """

    id: str
    source: str
    steps: tuple[TaskStep, ...]
    options: CaseOptions = CaseOptions()
    files: tuple[str, ...] = ()
    modality: str = ""
    frame: int = -1
    series: str = ""
    node: str = ""
    dicom: bool = False
    private: bool = False

    @property
    def is_dicom(self) -> bool:
        """Whether it was read from DICOM files, or is a folder or file that only DICOM can be."""
        if self.node:
            return self.dicom
        lower = self.source.lower()
        return bool(self.files) or not lower.endswith((*VOLUME_SUFFIXES, *PICTURE_SUFFIXES, *SCENES))

    @property
    def place(self) -> str:
        """What distinguishes it among the cases of one source, as JSON: its files, series, frame or node."""
        return json.dumps({"files": self.files, "series": self.series, "frame": self.frame, "node": self.node})

    def without_place(self) -> BatchCase:
        """Return a private case as the manifest holds it; another case as it is."""
        return replace(self, source="", files=(), series="", node="") if self.private else self

    def with_place(self, source: str, place: str) -> BatchCase:
        """Return a case with the place that the key file has.

        Args:
            source: its path.
            place: see `place`.
        """
        content = json.loads(place)
        return replace(
            self, source=source, files=tuple(content["files"]), series=content["series"], node=content["node"]
        )

    def clean(self, text: str) -> str:
        """Return a sentence without the names of a private case's files and folders."""
        if not self.private or not self.source:
            return text
        root = Path(self.source)
        named = without_names(text, self.id, [root, *(root / name for name in self.files)])
        return named.replace(self.node, self.id) if len(self.node) > 2 else named

    def asked(self, step: TaskStep) -> dict:
        """Return everything that determines the result of a task, except the voxels, as JSON."""
        place = {"modality": self.modality, "frame": self.frame, "series": "" if self.private else self.series}
        options = asdict(self.options)
        if not self.options.outside_domain:  # as in manifests that are older than this option
            del options["outside_domain"]
        return {**asdict(step), **place, **options}

    def request(self, step: TaskStep, image: Image) -> Request:
        """Return the request of a task.

        Args:
            step: one of its tasks.
            image: its volume.

        Raises:
            InputError: if an option is invalid.
        """
        o = self.options
        named = replace(image, name=self.id, notes=tuple(map(self.clean, image.notes)))
        return Request(
            step.task, named, labels=o.labels, question=step.question, refine=o.refine, model=o.model,
            slices=SliceChoice(o.plane, o.first, o.last, o.step), max_tokens=o.max_tokens, adapter=o.adapter,
            precision=o.precision, outside_domain=o.outside_domain,
        )  # fmt: skip


def case_as_json(case: BatchCase) -> str:
    """Return a case as JSON, for the manifest."""
    return json.dumps(asdict(case), sort_keys=True)


def case_from_json(text: str) -> BatchCase:
    """Parse a case written by `case_as_json`."""
    content = json.loads(text)
    options = CaseOptions(**{**content.pop("options"), "labels": tuple(json.loads(text)["options"]["labels"])})
    steps = tuple(TaskStep(**step) for step in content.pop("steps"))
    return BatchCase(steps=steps, options=options, **{**content, "files": tuple(content["files"])})


@dataclass
class CaseIds:
    """Assigns each case a unique id that is safe for file names on any system.

    Args:
        taken: ids in lower case that are in use.
    """

    taken: set[str] = field(default_factory=set)

    def give(self, wanted: str, unique: str) -> str:
        """Return an id similar to `wanted`, or a hash of `unique` if that is empty or a DICOM identifier.

        Args:
            wanted: e.g. the name of a file.
            unique: different for every case, e.g. its path.
        """
        digest = hashlib.sha256(unique.encode()).hexdigest()[:10]
        name = re.sub(r"[^\w.+-]+", "_", wanted).strip("._- ")[:60]
        if not name or (IDENTIFIER.fullmatch(name) and sum(c.isdigit() for c in name) >= 4):
            name = f"case-{digest}"
        if RESERVED.fullmatch(name):
            name = f"{name}-{digest}"
        if name.casefold() in self.taken:
            name = f"{name}-{digest}"
        number, first = 1, name
        while name.casefold() in self.taken:
            number += 1
            name = f"{first}-{number}"
        self.taken.add(name.casefold())
        return name


IDENTIFIER = re.compile(r"(IM|IMG|I|MR|CT|PT|US)?[\d._-]*\d", re.I)
"""UIDs, accession numbers and file names from scanners: four digits or more, possibly after letters without meaning."""

RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|index|summary)(\..*)?", re.I)
"""Names reserved by Windows, or used for the batch's own files."""

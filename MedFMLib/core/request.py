"""What is asked for and what comes back: `Request`, `Response`, `Provenance`. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import InputError
from .findings import Answer, Comparison, Finding, Measurement, Report, Saliency, Segmentation
from .geometry import PLANES
from .image import Image
from .prompts import Prompt

DEFAULT_MODEL = "medfm-tiny"
CLINICIAN, PATIENT = "clinician", "patient"
"""For whom a job is done."""


@dataclass(frozen=True)
class SliceChoice:
    """Which slices a model looks at.

    Args:
        plane: sagittal, coronal, axial, or "" for the plane of acquisition.
        first, last: slice numbers, both included; -1 means the volume's first and last.
        step: every how many slices; 0 lets the task choose. Slices between are interpolated by shape.
    """

    plane: str = ""
    first: int = -1
    last: int = -1
    step: int = 0

    def __post_init__(self) -> None:
        if self.plane and self.plane not in PLANES:
            raise InputError(f"Unknown plane {self.plane!r}; choose one of {', '.join(PLANES)}.")
        if self.step < 0:
            raise InputError(f"The slice step must be 0 (automatic) or more, not {self.step}.")
        if self.first >= 0 and 0 <= self.last < self.first:
            raise InputError(f"The first slice ({self.first}) comes after the last ({self.last}); swap them.")


MOST_SAMPLES = 64


@dataclass(frozen=True, eq=False)
class ReliabilityChoice:
    """How far an answer is to be looked into. All of it off by default, since it costs time.

    Args:
        samples: other answers to draw, whose agreement tells how sure the model is; 0 for none, else 2…64.
        temperature: how freely they are drawn; 0 for what the model was calibrated with, 1 where it was not.
        threshold: below this confidence the answer is withheld; −1 for what was calibrated.
        blind: ask again without the image, and say so if the answer stands.
        other: an image to show in place of a grey one.
    """

    samples: int = 0
    temperature: float = 0.0
    threshold: float = -1.0
    blind: bool = False
    other: Image | None = None

    def __post_init__(self) -> None:
        if self.samples and not 2 <= self.samples <= MOST_SAMPLES:
            raise InputError(f"Agreement needs 2 to {MOST_SAMPLES} samples, or 0 for none, not {self.samples}.")
        if not 0 <= self.temperature <= 5:
            raise InputError(f"The temperature must be 0 (as calibrated) to 5, not {self.temperature:g}.")
        if self.threshold != -1 and not 0 <= self.threshold <= 1:
            raise InputError(f"The threshold must be 0 to 1, or -1 for what was calibrated, not {self.threshold:g}.")

    @property
    def wanted(self) -> bool:
        """Is there anything to look into?"""
        return self.samples > 0 or self.blind


@dataclass(frozen=True, eq=False)
class Reference:
    """A healthy case to compare with.

    Args:
        id, title: its name, and what it is in plain words. about: where it comes from, and its licence.
        generated: it was computed; nobody was scanned.
        average: it is a mean of many people; its sizes are nobody's.
        measurements: of its structures.
        image, segmentation: of the one that is shown; None of those that are only counted.
    """

    id: str
    title: str
    about: str = ""
    generated: bool = False
    average: bool = False
    measurements: tuple[Measurement, ...] = ()
    image: Image | None = None
    segmentation: Segmentation | None = None


@dataclass(frozen=True, eq=False)
class Request:
    """One job.

    Args:
        task: name of a task, e.g. "segment", "ask", "report".
        image: the volume.
        labels: structures to segment; empty means all that the model knows for the modality.
        question: for "ask" and "explain"; of a report: one that it answers, with what the answer rests on.
        history: earlier (question, answer) pairs of the conversation.
        prompts: what a person pointed at.
        slices: which slices to look at.
        refine: fit segment borders to the image in plane.
        reliability: how far an answer is looked into.
        measurements: what is already measured of this image; answers are held against it.
        references: for "compare", and for a report that compares: the healthy case that is shown, then those that are
            only counted.
        method: for "explain": "attention" or "occlusion".
        max_tokens: longest answer.
        template: of a report, its id; "" for the one that suits the image.
        indication, comparison: what a person says of why the image was made, and of earlier ones; for reports.
        audience: `CLINICIAN` or `PATIENT`; for a patient the guard judges questions and answers.
        model: id of a model card, or a folder.
        adapter: name of one of the model's adapters or a folder; "automatic" for whichever
            suits what is asked, "" for the card's default, "none" for none.
        precision: one of the card's precisions; "" for its default.
    """

    task: str
    image: Image
    labels: tuple[str, ...] = ()
    question: str = ""
    history: tuple[tuple[str, str], ...] = ()
    prompts: tuple[Prompt, ...] = ()
    slices: SliceChoice = SliceChoice()
    refine: bool = False
    reliability: ReliabilityChoice = ReliabilityChoice()
    measurements: tuple[Measurement, ...] = ()
    references: tuple[Reference, ...] = ()
    method: str = "attention"
    max_tokens: int = 64
    template: str = ""
    indication: str = ""
    comparison: str = ""
    audience: str = "clinician"
    model: str = DEFAULT_MODEL
    adapter: str = ""
    precision: str = ""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InputError(f"The longest answer must be at least 1 token, not {self.max_tokens}.")
        if self.audience not in (CLINICIAN, PATIENT):
            raise InputError(f"A job is for a {CLINICIAN} or a {PATIENT}, not for '{self.audience}'.")
        for name in ("labels", "prompts", "measurements", "references"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "history", tuple((str(q), str(a)) for q, a in self.history))


@dataclass(frozen=True)
class Provenance:
    """How a result came about; enough to make it again.

    Args:
        task: name of the task.
        model: id of the model.
        revision: hub revision, or SHA-256 of the weight files.
        precision: how weights were held, e.g. "nf4".
        adapter: its name, "" if none.
        adapter_hash: SHA-256 of its weights, "" if none.
        image: SHA-256 of the voxels and grid.
        prompts: what the model was told, word for word, each once.
        slices: the slices that were looked at.
        versions: of MedFM and the libraries that compute.
        started: ISO 8601, UTC.
        seconds: how long it took.
        notes: anything that a reader must know, e.g. that the modality was guessed.
        tokens: how many the language model read and wrote, of all answers; zeros where it wrote none.
        reused: bytes of what was kept of pictures from earlier questions, and was used again.
        title: what people call the model; of the embedded one it says that it is a demonstration.
    """

    task: str
    model: str
    revision: str = ""
    precision: str = ""
    adapter: str = ""
    adapter_hash: str = ""
    image: str = ""
    prompts: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    started: str = ""
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    tokens: tuple[int, int] = (0, 0)
    reused: int = 0
    title: str = ""

    @property
    def reuse(self) -> str:
        """What was used again, as a sentence; "" if nothing was."""
        size = f"{self.reused / 1e6:.{0 if self.reused >= 1e7 else 1}f} MB"
        return f"{size} that were kept of the pictures from before were used again." if self.reused else ""


@dataclass(frozen=True, eq=False)
class Response:
    """What a job found, and how."""

    findings: tuple[Finding, ...]
    provenance: Provenance

    def _all(self, kind: type) -> list:
        return [finding for finding in self.findings if isinstance(finding, kind)]

    @property
    def segmentation(self) -> Segmentation | None:
        """The segmentation, if there is one."""
        return next(iter(self._all(Segmentation)), None)

    @property
    def answers(self) -> list[Answer]:
        """Answers in the order of the questions."""
        return self._all(Answer)

    @property
    def saliencies(self) -> list[Saliency]:
        """What answers rest on."""
        return self._all(Saliency)

    @property
    def comparison(self) -> Comparison | None:
        """The comparison with a healthy reference, if there is one."""
        return next(iter(self._all(Comparison)), None)

    @property
    def measurements(self) -> list[Measurement]:
        """All measurements."""
        return self._all(Measurement)

    @property
    def report(self) -> Report | None:
        """The report, if there is one."""
        return next(iter(self._all(Report)), None)

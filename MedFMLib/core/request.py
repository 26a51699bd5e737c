"""Define the input and the output of a job: `Request`, `Response`, `Provenance`. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..errors import InputError
from .findings import Answer, Comparison, Finding, Measurement, Report, Saliency, Segmentation
from .geometry import PLANES
from .image import Image
from .measurements import by_segment, column_title
from .prompts import Prompt

DEFAULT_MODEL = "medfm-tiny"
MOST_LETTERS = 2000
"""Longest question, earlier question or label that is read; what is done with words may grow faster than their number."""

MOST_ANSWER = 20_000
"""Longest earlier answer, and longest name or folder of a model."""

MOST_LABELS = 1000
"""Largest number of structures of one job."""

MOST_HISTORY = 200
"""Largest number of earlier questions; their answers may be longer than questions."""

CLINICIAN, PATIENT = "clinician", "patient"
"""The two audiences of a job."""


@dataclass(frozen=True)
class SliceChoice:
    """The slices that a model receives.

    Args:
        plane: sagittal, coronal, axial, or "" for the plane of acquisition.
        first: first slice number, included; -1 for the volume's first.
        last: last slice number, included; -1 for the volume's last.
        step: distance in slices; 0 lets the task choose. Masks of slices in between are interpolated by shape.

    Raises:
        InputError: unknown plane, negative step, or first after last.
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
    """Options of the reliability assessment of an answer. All are off by default, since they take time.

    Args:
        samples: number of further answers to sample, whose agreement measures certainty; 0 for none, else 2…64.
        temperature: sampling temperature; 0 for the value used in calibration, or 1 for a model without calibration.
        threshold: below this confidence the answer is withheld; −1 for the calibrated value.
        blind: whether to run the no-image control: ask again without the image, and report if the answer stays the
            same.
        other: image for the no-image control; None for a grey one.

    Raises:
        InputError: if a number is outside of its range.
    """

    samples: int = 0
    temperature: float = 0.0
    threshold: float = -1.0
    blind: bool = False
    other: Image | None = None

    def __post_init__(self) -> None:
        if self.samples and not 2 <= self.samples <= MOST_SAMPLES:
            raise InputError(f"An agreement needs 2 to {MOST_SAMPLES} samples, or 0 for none, not {self.samples}.")
        if not 0 <= self.temperature <= 5:
            raise InputError(f"The temperature must be 0 (the calibrated value) to 5, not {self.temperature:g}.")
        if self.threshold != -1 and not 0 <= self.threshold <= 1:
            raise InputError(f"The threshold must be 0 to 1, or -1 for the calibrated value, not {self.threshold:g}.")

    @property
    def wanted(self) -> bool:
        """Whether any assessment was requested."""
        return self.samples > 0 or self.blind


@dataclass(frozen=True, eq=False)
class Reference:
    """A healthy case to compare with.

    Args:
        id: its identifier.
        title: description in plain words.
        about: its origin and licence.
        generated: whether it is synthetic, so that no one was scanned.
        average: whether it is the mean of many people, so that its sizes belong to no single person.
        measurements: of its structures.
        image: voxels of the reference that is shown; None for references that contribute measurements only.
        segmentation: segments of that image, or None.
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
        question: for "ask" and "explain"; for "report", a question that the report answers, with the evidence.
        history: earlier (question, answer) pairs of the conversation.
        prompts: the user's points, boxes, regions and scribbles.
        slices: the slices that the model receives.
        refine: whether to fit segment borders to the image in plane.
        outside_domain: compute results of an image that the model was not made for, too (see `core.domain`); they are
            marked. Ignored for patients.
        reliability: options of the reliability assessment.
        measurements: existing measurements of this image; answers are checked against them.
        references: for "compare", and for a report with a comparison: the healthy case that is shown, then those that
            contribute measurements only.
        method: for "explain": "attention" or "occlusion".
        max_tokens: maximal length of an answer, at least 1.
        template: id of a report template; "" for the one that suits the image.
        indication: the user's reason for the examination, for reports.
        comparison: the user's remarks on earlier images, for reports.
        audience: `CLINICIAN` or `PATIENT`; for a patient the guard checks questions and answers.
        language: for a patient, of the answer, such as "de"; "" for the clinic's.
        intent: for a patient, the permitted intent of a pressed button; "" if the question was typed.
        model: id of a model card, or a folder.
        adapter: name of one of the model's adapters or a folder; "automatic" for the one that suits the question, ""
            for the card's default, "none" for none.
        precision: one of the card's precisions; "" for its default.
        options: values of the task's own options by name (`TASK.options`); those left out have their defaults.

    Raises:
        InputError: if `max_tokens` is below 1, the audience is unknown, or a text is longer than `MOST_LETTERS`.
    """

    task: str
    image: Image
    labels: tuple[str, ...] = ()
    question: str = ""
    history: tuple[tuple[str, str], ...] = ()
    prompts: tuple[Prompt, ...] = ()
    slices: SliceChoice = SliceChoice()
    refine: bool = False
    outside_domain: bool = False
    reliability: ReliabilityChoice = ReliabilityChoice()
    measurements: tuple[Measurement, ...] = ()
    references: tuple[Reference, ...] = ()
    method: str = "attention"
    max_tokens: int = 64
    template: str = ""
    indication: str = ""
    comparison: str = ""
    audience: str = "clinician"
    language: str = ""
    intent: str = ""
    model: str = DEFAULT_MODEL
    adapter: str = ""
    precision: str = ""
    options: Mapping[str, bool | int | float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InputError(f"The maximal answer length must be at least 1 token, not {self.max_tokens}.")
        if self.audience not in (CLINICIAN, PATIENT):
            raise InputError(f"The audience must be '{CLINICIAN}' or '{PATIENT}', not '{self.audience}'.")
        for name in ("labels", "prompts", "measurements", "references"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "history", tuple((str(q), str(a)) for q, a in self.history))
        object.__setattr__(self, "question", _readable(self.question))
        said = [("question", self.question), *(("earlier question", q) for q, _ in self.history)]
        said += [("label", label) for label in self.labels]
        said += [
            (name, str(getattr(self, name)))
            for name in ("task", "method", "template", "indication", "comparison", "language", "intent")
        ]
        said += [(f"option {name[:40]}", value) for name, value in self.options.items() if isinstance(value, str)]
        for what, text in said:
            check_length(what, text)
        for what, text in (("earlier answer", max((a for _, a in self.history), key=len, default="")),
                           ("model's name", self.model), ("adapter's name", self.adapter)):  # fmt: skip
            check_length(what, text, MOST_ANSWER)
        if len(self.labels) > MOST_LABELS:
            raise InputError(f"{len(self.labels)} structures are named; at most {MOST_LABELS} are. Name fewer.")
        if len(self.history) > MOST_HISTORY:
            raise InputError(
                f"The conversation has {len(self.history)} questions; start a new one after {MOST_HISTORY}."
            )


def check_length(what: str, text: str, most: int = MOST_LETTERS) -> None:
    """Check the length of a text before work that may grow faster than it.

    Args:
        what: of which it is the text, for the message.
        text: the text.
        most: largest number of letters.

    Raises:
        InputError: if it is longer.
    """
    if len(text) > most:
        raise InputError(f"The {what} has {len(text)} letters; at most {most} are read. Shorten it.")


def _readable(text: str) -> str:
    """Return text without halves of characters, which no file or message can hold."""
    return str(text).encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True)
class Provenance:
    """Everything needed to reproduce a result.

    Args:
        task: name of the task.
        model: id of the model.
        revision: hub revision, or SHA-256 of the weight files.
        precision: precision of the weights, e.g. "nf4".
        adapter: its name, "" if none.
        adapter_hash: SHA-256 of its weights, "" if none.
        image: SHA-256 of the voxels and grid.
        prompts: text prompts that the model received, verbatim, each once.
        slices: slices that the model received.
        versions: of MedFM and the numerical libraries.
        started: ISO 8601, UTC.
        seconds: duration.
        notes: sentences that a reader must know, e.g. that the modality was guessed.
        tokens: number of tokens that the language model read and wrote, over all answers; zeros if it wrote none.
        reused: bytes reused from the image cache of earlier questions.
        title: display name of the model; for the embedded one it says that it is a demonstration.
        outside_domain: what the image seems to be and what the model was made for, if it was not made for this image; ""
            if it was, or can't tell.
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
    outside_domain: str = ""

    @property
    def reuse(self) -> str:
        """Sentence on the size of the reused image cache; "" if none was reused."""
        size = f"{self.reused / 1e6:.{0 if self.reused >= 1e7 else 1}f} MB"
        return f"{size} of cached image data from an earlier question were reused." if self.reused else ""


@dataclass(frozen=True, eq=False)
class Response:
    """Findings of a job, and their provenance.

    Args:
        findings: in the order of computation.
        provenance: how they were computed.
    """

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
        """Saliency maps of the answers."""
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

    def measurements_table(self):
        """Return the measurements as a pandas DataFrame, one row for each segment.

        Columns are `number` (place of the segment, from 1), `segment`, `verdict` on its outline and `checks` that it failed, if
        they were made, and each measurement with its unit, such as "volume (mL)"; values are numbers, or text for sides.
        Where a measurement has a 95 % interval, "volume low (mL)" and "volume high (mL)" follow.

        Raises:
            InputError: if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise InputError(
                f"A table of measurements needs pandas ({error}); install it with `pip install pandas`, or read the list "
                "`response.measurements`."
            ) from None
        rows = [
            {"number": number, "segment": label, **_outline_columns(found), **_value_columns(found)}
            for (number, label), found in by_segment(self.measurements).items()
        ]
        titles = dict.fromkeys(title for row in rows for title in row)
        return pandas.DataFrame(rows, columns=list(dict.fromkeys(["number", "segment", *titles])))


def _outline_columns(found: Mapping[str, Measurement]) -> dict[str, str]:
    first = next(iter(found.values()))
    if not first.verdict:
        return {}
    return {"verdict": first.verdict, "checks": " ".join(check.sentence for check in first.checks)}


def _value_columns(found: Mapping[str, Measurement]) -> dict[str, float | str]:
    columns: dict[str, float | str] = {}
    for m in found.values():
        columns[column_title(m)] = m.value
        if m.low is not None and m.high is not None:
            for name, value in (("low", m.low), ("high", m.high)):
                columns[column_title(replace(m, name=f"{m.name} {name}"))] = value
    return columns

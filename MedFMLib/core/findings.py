"""Define the results of a job: segments, answers, measurements, boxes and reports, as values without computation.

Every finding names its position (a `Geometry` or `SliceReference`s), so that a front end can jump there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..errors import InputError
from .geometry import PICTURE, BoxedMask, Geometry
from .image import Image


@dataclass(frozen=True)
class Code:
    """A coded concept, e.g. Code("10200004", "SCT", "Liver")."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class SliceReference:
    """One slice that the model received.

    Args:
        plane: sagittal, coronal or axial; "picture" for pictures without a place in the patient.
        number: slice number along that plane's index axis of the image, from 0; in words, pictures are counted from 1.
        center: mm, RAS, center of the slice, for jumping there.
    """

    plane: str
    number: int
    center: tuple[float, float, float]

    def __str__(self) -> str:
        return f"picture {self.number + 1}" if self.plane == PICTURE else f"{self.plane} slice {self.number}"


OK, UNKNOWN, NOTED, PARTIAL, FLAGGED, REJECTED = "ok", "unknown", "noted", "partial", "flagged", "rejected"
"""Verdicts on an outline: passed every rule; no rule exists for it; a rule failed, but a person or a file drew it; cut by the
edge of the image; a rule failed; impossible. `""` means that it was not checked."""


@dataclass(frozen=True)
class OutlineCheck:
    """A rule of anatomy that an outline failed.

    Args:
        rule: kind of the rule: "volume", "ratio", "side", "place", "fragments" or "edge".
        words: what is wrong, without numbers, e.g. "its volume is below the published range".
        sentence: the same with the value, the expected range and its source.
        verdict: `NOTED`, `PARTIAL`, `FLAGGED` or `REJECTED`.
    """

    rule: str
    words: str
    sentence: str
    verdict: str = FLAGGED


@dataclass(frozen=True)
class Agreement:
    """Agreement of a model's volumes with those of a reference, by Bland and Altman, in percent of the reference's volume.

    Args:
        bias: mean of the differences, model minus reference.
        low: lower 95 % limit of agreement.
        high: upper 95 % limit of agreement.
        cases: number of measurements that the limits rest on.
        source: what was compared, in one sentence.

    Raises:
        InputError: unless −100 < low ≤ bias ≤ high, and there is a case.
    """

    bias: float
    low: float
    high: float
    cases: int
    source: str = ""

    def __post_init__(self) -> None:
        if not (-100 < self.low <= self.bias <= self.high < np.inf) or self.cases < 1:
            raise InputError(
                f"Limits of agreement must be above -100 % and in order, of at least one case; received low {self.low}, bias "
                f"{self.bias}, high {self.high}, cases {self.cases}."
            )

    def interval(self, value: float) -> tuple[float, float]:
        """Return the (lowest, highest) true volume for a measured one, in its unit."""
        return value / (1 + self.high / 100), value / (1 + self.low / 100)


@dataclass(frozen=True, eq=False)
class Segment:
    """One structure. Segments of a segmentation may overlap.

    Args:
        label: plain name, e.g. "left lung".
        mask: (I, J, K) bool on the segmentation's grid; a `BoxedMask` is expanded to the full grid on first access.
        color: red, green, blue, 0…1.
        category: coded property category, e.g. anatomical structure.
        code: coded property type, e.g. lung.
        side: coded laterality, or None.
        confidence: 0…1, or None where the model gives none.
        origin: how it was made, in DICOM's terms: "MANUAL", "SEMIAUTOMATIC" or "AUTOMATIC"; "" if unknown.
        drawn_by: id of the model that drew it in this job; "" for one that a person drew or a file held, which may have been
            corrected since.
        agreement: of that model's volumes of this structure with a reference; None if unknown.
    """

    label: str
    mask: np.ndarray = field(repr=False)
    color: tuple[float, float, float] = (0.5, 0.8, 0.5)
    category: Code | None = None
    code: Code | None = None
    side: Code | None = None
    confidence: float | None = None
    origin: str = ""
    drawn_by: str = ""
    agreement: Agreement | None = None

    def __post_init__(self) -> None:
        if isinstance(self.mask, BoxedMask):
            vars(self)["boxed"] = vars(self).pop("mask")
        else:
            vars(self)["mask"] = np.asarray(self.mask, dtype=bool)

    def __getattr__(self, name: str):
        if name != "mask" or "boxed" not in vars(self):
            raise AttributeError(f"A Segment has no '{name}'.")
        vars(self)["mask"] = self.boxed.whole()
        return self.mask

    @property
    def shape(self) -> tuple[int, int, int]:
        """(I, J, K) of the mask."""
        return vars(self)["boxed"].shape if "boxed" in vars(self) else self.mask.shape

    @cached_property
    def boxed(self) -> BoxedMask:
        """The mask cropped to its bounding box."""
        return BoxedMask.of(self.mask)

    @cached_property
    def cropped(self) -> tuple[tuple[int, int, int], np.ndarray]:
        """(first index, (i, j, k) uint8) of the mask's bounding box, i fastest in memory; one zero voxel if empty.

        The result is cached, since computing it takes longer than a GUI thread may be blocked: runners access it on
        their
        thread first.
        """
        return self.boxed.start, np.asfortranarray(self.boxed.inside).view(np.uint8)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Segments on one grid, that of the original image.

    Args:
        segments: the segments, each with a mask of the grid's shape.
        geometry: the grid.
        evidence: slices that the model received.

    Raises:
        InputError: if a segment's shape differs from the grid's.
    """

    segments: tuple[Segment, ...]
    geometry: Geometry
    evidence: tuple[SliceReference, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.segments))
        for segment in self.segments:
            if segment.shape != self.geometry.shape:
                raise InputError(
                    f"Segment '{segment.label}' has shape {segment.shape}, but its grid has {self.geometry.shape}."
                )

    def __getitem__(self, label: str) -> Segment:
        for segment in self.segments:
            if segment.label == label:
                return segment
        raise KeyError(
            f"There is no segment '{label}'; the segments are {', '.join(s.label for s in self.segments) or 'none'}."
        )


@dataclass(frozen=True)
class LocatedBox:
    """A detected structure in one slice.

    Args:
        label: plain name.
        slice: the slice that it was detected in.
        corners: four (R, A, S) corners in mm, in order around the box.
    """

    label: str
    slice: SliceReference
    corners: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Boxes:
    """Detected structures."""

    boxes: tuple[LocatedBox, ...]


@dataclass(frozen=True)
class Reliability:
    """Result of the reliability assessment of an answer.

    Args:
        said: the model's answer before anything was withheld or added.
        samples: further answers of the model to the same question, sampled at random.
        agreement: share of the samples with the same meaning as the answer, 0…1; None without samples.
        confidence: calibrated probability that the answer is right, from the agreement; None for a model without
            calibration data.
        threshold: the answer is withheld if its confidence (without one, its agreement) is below this.
        abstained: whether the answer was withheld.
        blind: result of the no-image control: "" if not run, "changed" if the answer differs without the image,
            "stands" if it does not, or "refused" (an answer that refuses does not depend on the image).
        blind_answers: answers that the model gave without the image.
        seconds: time that the assessment took, in addition to the answer.
        notes: sentences for the reader.
    """

    said: str
    samples: tuple[str, ...] = ()
    agreement: float | None = None
    confidence: float | None = None
    threshold: float = 0.0
    abstained: bool = False
    blind: str = ""
    blind_answers: tuple[str, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """An approved text of patient mode, by its id; `MedFMLib/patient/parts.py` renders it and checks the slots.

    Args:
        id: of the text in `Resources/patient`.
        slots: name of each gap → a structure, several of them, a number, or the patient's own words.
    """

    id: str
    slots: dict[str, str | float | int | tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A model's answer, the slices that it was based on, and its reliability if that was assessed.

    Args:
        question: the question.
        text: the answer.
        evidence: slices that the model received.
        reliability: result of the assessment, or None if there was none.
        verdict: the guard's decision if the text is the guard's; "" for the model's own words.
        parts: in patient mode, what the text is composed of; a front end shows these, never `text`.
        suggestions: in patient mode, permitted intents that are offered as buttons.
    """

    question: str
    text: str
    evidence: tuple[SliceReference, ...] = ()
    reliability: Reliability | None = None
    verdict: str = ""
    parts: tuple[Part, ...] = ()
    suggestions: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Saliency:
    """Map of the pixels that an answer depends on.

    Args:
        question: the question that was answered.
        answer: the answer that is explained.
        method: "attention" or "occlusion".
        levels: (I, J, K) uint8, 0…255 within each slice, 0 in slices that the model did not receive.
        geometry: grid of `levels`: the image's grid, cropped to the range of slices that the model received.
        evidence: these slices.

    Raises:
        InputError: if `levels` is not uint8 or its shape differs from the grid's.
    """

    question: str
    answer: str
    method: str
    levels: np.ndarray = field(repr=False)
    geometry: Geometry
    evidence: tuple[SliceReference, ...] = ()

    def __post_init__(self) -> None:
        if self.levels.shape != self.geometry.shape or self.levels.dtype != np.uint8:
            raise InputError(
                f"A saliency map must be uint8 of its grid's shape {self.geometry.shape}; "
                f"received {self.levels.dtype} {self.levels.shape}."
            )

    @property
    def values(self) -> np.ndarray:
        """(I, J, K) float32, 0…1."""
        return self.levels.astype(np.float32) / 255


@dataclass(frozen=True)
class Measurement:
    """A number computed from geometry, never by a language model.

    Args:
        segment: label of the measured segment.
        name: e.g. "volume".
        value: number, or text for a side.
        unit: UCUM unit, "" if none; "[hnsf'U]" is HU.
        method: how it was computed, in words.
        number: place of the segment in its segmentation, from 1, which identifies it where two have one name; 0 for a
            measurement of no segmentation.
        low: lower end of its 95 % interval, in the same unit; None if it has none.
        high: upper end of that interval.
        verdict: on the measured outline, see `OK`; "" if it was not checked.
        checks: the rules that the outline failed.
    """

    segment: str
    name: str
    value: float | str
    unit: str = ""
    method: str = ""
    number: int = 0
    low: float | None = None
    high: float | None = None
    verdict: str = ""
    checks: tuple[OutlineCheck, ...] = ()

    def __post_init__(self) -> None:
        made = tuple(OutlineCheck(**one) if isinstance(one, Mapping) else one for one in self.checks)
        object.__setattr__(self, "checks", made)  # as read from JSON

    @property
    def is_reliable(self) -> bool:
        """Whether a sentence may state it: the outline failed no rule of anatomy."""
        return self.verdict not in (FLAGGED, REJECTED)

    @property
    def failed(self) -> str:
        """What is wrong with the outline, without numbers, "; " between; "" for one that may be stated."""
        wrong = [one.words for one in self.checks if one.verdict in (FLAGGED, REJECTED)]
        return "; ".join(dict.fromkeys(wrong)) if not self.is_reliable else ""

    @property
    def key(self) -> tuple[int, str]:
        """(number, segment), which identifies the measured segment."""
        return self.number, self.segment

    def __str__(self) -> str:
        unit = "HU" if self.unit == "[hnsf'U]" else self.unit
        value = self.value if isinstance(self.value, str) else f"{self.value:.4g}"
        text = f"{self.segment} {self.name}: {value} {unit}".rstrip()
        if self.low is not None and self.high is not None:
            text += f" (95 %: {self.low:.4g} to {self.high:.4g})"
        return f"{text} (the outline failed a check: {self.failed})" if self.failed else text


@dataclass(frozen=True)
class Difference:
    """A patient's measurement compared with the same measurement of healthy references.

    Args:
        segment: as in `Measurement`.
        name: as in `Measurement`.
        unit: as in `Measurement`.
        value: the patient's value.
        n: number of references with this measurement.
        mean: mean of the references.
        sd: standard deviation of the references (n − 1), None below two references.
        below: number of references with a smaller value.
        z: (value − mean) ÷ sd; None below three references, where it would be meaningless.
    """

    segment: str
    name: str
    unit: str
    value: float
    n: int
    mean: float
    sd: float | None = None
    below: int = 0
    z: float | None = None

    @property
    def percentile(self) -> float | None:
        """Share of the references with a smaller value, 0…100; None below three references."""
        return 100 * self.below / self.n if self.n >= 3 else None


@dataclass(frozen=True)
class MatchedSlice:
    """Two slices at the same anatomical level, and a picture of both side by side.

    Args:
        slice: slice of the patient's image.
        reference: slice of the reference.
        png: both slices side by side.
    """

    slice: SliceReference
    reference: SliceReference
    png: bytes = field(repr=False)


@dataclass(frozen=True, eq=False)
class Comparison:
    """An image compared with a healthy reference.

    Args:
        reference: id of the reference.
        title: description of the reference in plain words.
        generated: whether the reference is synthetic, so that no one was scanned; its pictures say so.
        image: the reference's voxels, for display.
        placement: 4×4, reference RAS mm → image RAS mm, which brings the same anatomical level to the same height.
        pairs: slices at the same level.
        differences: measurements compared with those of all suitable references.
        landmarks: number of common landmarks used to find the level; 0 means that relative height in the image was
            used.
        notes: sentences for the reader.
    """

    reference: str
    title: str
    generated: bool
    image: Image
    placement: np.ndarray = field(repr=False)
    pairs: tuple[MatchedSlice, ...]
    differences: tuple[Difference, ...] = ()
    landmarks: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeyImage:
    """A picture for a report: a slice, with and without overlay.

    Args:
        caption: plain words.
        slice: the slice that is shown.
        png: the windowed slice.
        overlay_png: the same with the segments overlaid; b"" for a picture that includes its overlay.
    """

    caption: str
    slice: SliceReference
    png: bytes = field(repr=False)
    overlay_png: bytes = field(repr=False)


@dataclass(frozen=True)
class Link:
    """The structure and measurements that a sentence is based on, so that a reader can jump there.

    Args:
        segment: label of the structure.
        slice: the slice that shows it best.
        measurements: names of the measurements that the sentence quotes.
    """

    segment: str
    slice: SliceReference | None = None
    measurements: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportSection:
    """A titled part of a report.

    Args:
        title: heading.
        paragraphs: plain text.
        links: one for each paragraph, None for a paragraph that refers to no structure; () if none does.

    Raises:
        InputError: if the numbers of paragraphs and links differ.
    """

    title: str
    paragraphs: tuple[str, ...]
    links: tuple[Link | None, ...] = ()

    @property
    def linked(self) -> tuple[tuple[str, Link | None], ...]:
        """Paragraphs with their links."""
        return tuple(zip(self.paragraphs, self.links or (None,) * len(self.paragraphs), strict=True))

    def __post_init__(self) -> None:
        if self.links and len(self.links) != len(self.paragraphs):
            raise InputError(
                f"Section '{self.title}' has {len(self.paragraphs)} paragraphs and {len(self.links)} links; give one for each."
            )


@dataclass(frozen=True)
class StackSlice:
    """One of the slices that a report's HTML page scrolls through.

    Args:
        slice: the slice that is shown.
        jpeg: the windowed slice, as displayed.
        labels_png: of the same size, grey: 0 where there is no segment, n for the n-th of the report's `colors`.
        edges: the patient's directions at its top, bottom, left and right; "" where unknown.
    """

    slice: SliceReference
    jpeg: bytes = field(repr=False)
    labels_png: bytes = field(repr=False)
    edges: tuple[str, ...] = ()


@dataclass(frozen=True)
class SignOff:
    """Name of the signer of a report, and the time of signing.

    Args:
        name: as the signer entered it; a typed name is no digital signature.
        when: ISO 8601, UTC.
        doubt: why it does not hold, e.g. since the file was changed; "" if nothing is known against it.
    """

    name: str
    when: str
    doubt: str = ""

    def __str__(self) -> str:
        return f"{self.name}, {self.when[:16].replace('T', ' ')} UTC"


@dataclass(frozen=True)
class Report:
    """A structured report. `html` is one self-contained page, `text` the same words without pictures.

    Args:
        title: heading of the report.
        sections: its sections in order.
        key_images: its pictures.
        text: plain text.
        html: one self-contained page.
        template: id of its template.
        stack: slices to scroll through.
        colors: label → red, green, blue in 0…1, in the order of the numbers in the stack's label images.
        table: measurements; the first row has the column titles.
        remarks: sentences below the table, on outlines that failed a rule of anatomy.
        answers: the questions and their answers.
        missing: structures that were searched for and not found.
        modality: of the image, e.g. "CT".
        kept: the whole serialized response, so that it can be edited and signed later; b"" inside such a serialized
            response.
        edited: titles of the sections that the user changed.
        signed: None for a draft.
    """

    title: str
    sections: tuple[ReportSection, ...]
    key_images: tuple[KeyImage, ...] = ()
    text: str = ""
    html: str = field(default="", repr=False)
    template: str = ""
    stack: tuple[StackSlice, ...] = field(default=(), repr=False)
    colors: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    table: tuple[tuple[str, ...], ...] = ()
    answers: tuple[Answer, ...] = ()
    missing: tuple[str, ...] = ()
    modality: str = ""
    kept: bytes = field(default=b"", repr=False)
    edited: tuple[str, ...] = ()
    signed: SignOff | None = None
    remarks: tuple[str, ...] = ()

    @property
    def is_signed(self) -> bool:
        """Whether it has a signature against which nothing is known."""
        return self.signed is not None and not self.signed.doubt

    @property
    def state(self) -> str:
        """Whether it is signed, as a sentence without its full stop."""
        if self.signed is None:
            return "DRAFT, not signed"
        if self.signed.doubt:
            return f"Not signed: the signature “{self.signed}” does not hold, since {self.signed.doubt}"
        return f"Signed: {self.signed} (a typed name, not a digital signature)"

    def section(self, title: str) -> ReportSection | None:
        """Return the section with this title, or None."""
        return next((section for section in self.sections if section.title == title), None)


Finding = Segmentation | Boxes | Answer | Saliency | Measurement | Comparison | Report

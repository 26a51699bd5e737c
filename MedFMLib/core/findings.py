"""What comes out: segments, answers, measurements, boxes, reports. Values only; nothing computes here.

Every finding names where it stands (a `Geometry` or `SliceReference`s), so that a front end can go there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..errors import InputError
from .geometry import BoxedMask, Geometry
from .image import Image


@dataclass(frozen=True)
class Code:
    """A coded concept, e.g. Code("10200004", "SCT", "Liver")."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class SliceReference:
    """A slice that was looked at.

    Args:
        plane: sagittal, coronal or axial.
        number: slice number along that plane's index axis of the image.
        center: RAS mm of the slice's middle, for jumping there.
    """

    plane: str
    number: int
    center: tuple[float, float, float]

    def __str__(self) -> str:
        return f"{self.plane} slice {self.number}"


@dataclass(frozen=True, eq=False)
class Segment:
    """One structure. Segments of a segmentation may overlap.

    Args:
        label: plain name, e.g. "left lung".
        mask: (I, J, K) bool on the segmentation's grid; given as a `BoxedMask`, it becomes whole when it is asked for.
        color: red, green, blue, 0…1.
        category: coded property category, e.g. anatomical structure.
        code: coded property type, e.g. lung.
        side: coded laterality, if it has one.
        confidence: 0…1, or None where the model gives none.
    """

    label: str
    mask: np.ndarray = field(repr=False)
    color: tuple[float, float, float] = (0.5, 0.8, 0.5)
    category: Code | None = None
    code: Code | None = None
    side: Code | None = None
    confidence: float | None = None

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
        """The mask as the box around it."""
        return BoxedMask.of(self.mask)

    @cached_property
    def cropped(self) -> tuple[tuple[int, int, int], np.ndarray]:
        """(first index, (i, j, k) uint8) of the mask's bounding box, i fastest in memory; one zero voxel if empty.

        Kept, since computing it takes longer than a GUI thread may be blocked: runners touch it on their thread.
        """
        return self.boxed.start, np.asfortranarray(self.boxed.inside).view(np.uint8)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Segments on one grid, the original image's."""

    segments: tuple[Segment, ...]
    geometry: Geometry
    evidence: tuple[SliceReference, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "segments", tuple(self.segments))
        for segment in self.segments:
            if segment.shape != self.geometry.shape:
                raise InputError(
                    f"Segment '{segment.label}' has shape {segment.shape}, its grid {self.geometry.shape}."
                )

    def __getitem__(self, label: str) -> Segment:
        for segment in self.segments:
            if segment.label == label:
                return segment
        raise KeyError(
            f"There is no segment '{label}'; there are {', '.join(s.label for s in self.segments) or 'none'}."
        )


@dataclass(frozen=True)
class LocatedBox:
    """A detected structure in one slice.

    Args:
        label: plain name.
        slice: where.
        corners: four RAS mm corners, in order around the box.
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
    """How far an answer can be relied on, where that was looked into.

    Args:
        said: the model's answer before anything was withheld or added.
        samples: other answers of the model to the same question, drawn at random.
        agreement: share of the samples that mean what the answer means, 0…1; None where none were drawn.
        confidence: chance that the answer is right, from the agreement and data on which this model was calibrated; None
            without such data.
        threshold: below this confidence (without one, agreement) the answer is withheld.
        abstained: it was.
        blind: "" not looked into, "changed" without the image, "stands" without it, or "refused" (an answer that refuses
            rests on no image).
        blind_answers: what was answered without the image.
        seconds: that this took, beside the answer.
        notes: sentences that a reader should know.
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
class Answer:
    """A model's answer with the slices that it was shown, and how far it can be relied on if that was looked into.

    Args:
        verdict: what the guard decided, if it speaks in the answer's place; "" for a model's own words.
    """

    question: str
    text: str
    evidence: tuple[SliceReference, ...] = ()
    reliability: Reliability | None = None
    verdict: str = ""


@dataclass(frozen=True, eq=False)
class Saliency:
    """Which pixels an answer rests on.

    Args:
        question, answer: what is explained.
        method: "attention" or "occlusion".
        levels: (I, J, K) uint8, 0…255 within each slice, 0 in slices between those that were looked at.
        geometry: its grid: the image's, cut to the range of slices that were looked at.
        evidence: these slices.
    """

    question: str
    answer: str
    method: str
    levels: np.ndarray = field(repr=False)
    geometry: Geometry
    evidence: tuple[SliceReference, ...] = ()

    def __post_init__(self) -> None:
        if self.levels.shape != self.geometry.shape or self.levels.dtype != np.uint8:
            raise InputError(f"A saliency has {self.levels.dtype} {self.levels.shape}, its grid {self.geometry.shape}.")

    @property
    def values(self) -> np.ndarray:
        """(I, J, K) float32, 0…1."""
        return self.levels.astype(np.float32) / 255


@dataclass(frozen=True)
class Measurement:
    """A number computed from geometry, never by a language model.

    Args:
        segment: label of the segment it was measured on.
        name: e.g. "volume".
        value: number, or text for a side.
        unit: UCUM unit, "" if none; "[hnsf'U]" is HU.
        method: how, in words.
    """

    segment: str
    name: str
    value: float | str
    unit: str = ""
    method: str = ""

    def __str__(self) -> str:
        unit = "HU" if self.unit == "[hnsf'U]" else self.unit
        value = self.value if isinstance(self.value, str) else f"{self.value:.4g}"
        return f"{self.segment} {self.name}: {value} {unit}".rstrip()


@dataclass(frozen=True)
class Difference:
    """A measurement of a person's structure beside the same of healthy references.

    Args:
        segment, name, unit: as in `Measurement`. value: the person's.
        n: how many references have it. mean: theirs. sd: their standard deviation (n − 1), None below two.
        below: how many of them are smaller.
        z: (value − mean) ÷ sd; None below three references, where it means nothing.
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
        """Share of the references below, 0…100; None below three references."""
        return 100 * self.below / self.n if self.n >= 3 else None


@dataclass(frozen=True)
class MatchedSlice:
    """Two slices at the same anatomical level, and a picture of both side by side."""

    slice: SliceReference
    reference: SliceReference
    png: bytes = field(repr=False)


@dataclass(frozen=True, eq=False)
class Comparison:
    """An image beside a healthy reference.

    Args:
        reference: id of the reference. title: what it is, in plain words.
        generated: nobody was scanned: it was computed. Pictures of it say so.
        image: the reference's voxels, for showing them.
        placement: 4×4, its RAS mm → the image's, so that the same level lies at the same height.
        pairs: slices at the same level. differences: measurements beside those of all references that fit.
        landmarks: how many places in common the level was found from; 0 means by the share of the way through the image.
        notes: what a reader should know.
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
        slice: which slice it is.
        png: the windowed slice.
        overlay_png: the same with the segments drawn over it; b"" for a picture that has all in one.
    """

    caption: str
    slice: SliceReference
    png: bytes = field(repr=False)
    overlay_png: bytes = field(repr=False)


@dataclass(frozen=True)
class Link:
    """What a sentence rests on, so that a reader can go there.

    Args:
        segment: label of the structure. slice: where it is seen best.
        measurements: names of those whose numbers stand in the sentence.
    """

    segment: str
    slice: SliceReference | None = None
    measurements: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportSection:
    """A titled part of a report; paragraphs are plain text.

    Args:
        links: one for each paragraph, None where it rests on nothing that can be shown; () if none does.
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
    """One of the slices that a report's page scrolls through.

    Args:
        slice: which it is. jpeg: windowed, as displayed.
        labels_png: of the same size, grey: 0 where there is no segment, n for the n-th of the report's `colors`.
    """

    slice: SliceReference
    jpeg: bytes = field(repr=False)
    labels_png: bytes = field(repr=False)


@dataclass(frozen=True)
class SignOff:
    """Who took responsibility for a report's words, and when.

    Args:
        name: as the person wrote it. when: ISO 8601, UTC.
    """

    name: str
    when: str

    def __str__(self) -> str:
        return f"{self.name}, {self.when[:16].replace('T', ' ')} UTC"


@dataclass(frozen=True)
class Report:
    """A structured report. `html` is one self-contained page, `text` the same words without pictures.

    Args:
        template: id of the template that it follows.
        stack: slices to scroll through. colors: label → red, green, blue in 0…1, in the order of the stack's numbers.
        table: measurements, first row the titles.
        answers: the questions that were asked, with what was answered.
        missing: structures that were looked for and not seen. modality: of the image, e.g. "CT".
        kept: the whole response in its byte form, so that it can be changed and signed later; b"" in such a form itself.
        edited: titles of the sections that a person changed.
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

    def section(self, title: str) -> ReportSection | None:
        """A section by its title, if there is one."""
        return next((section for section in self.sections if section.title == title), None)


Finding = Segmentation | Boxes | Answer | Saliency | Measurement | Comparison | Report

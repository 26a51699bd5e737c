"""What comes out: segments, answers, measurements, boxes, reports. Values only; nothing computes here.

Every finding names where it stands (a `Geometry` or `SliceReference`s), so that a front end can go there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .errors import InputError
from .geometry import BoxedMask, Geometry


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
class Answer:
    """A model's answer with the slices that it was shown."""

    question: str
    text: str
    evidence: tuple[SliceReference, ...] = ()


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
class KeyImage:
    """A picture for a report: a slice, with and without overlay.

    Args:
        caption: plain words.
        slice: which slice it is.
        png: the windowed slice.
        overlay_png: the same with the segments drawn over it.
    """

    caption: str
    slice: SliceReference
    png: bytes = field(repr=False)
    overlay_png: bytes = field(repr=False)


@dataclass(frozen=True)
class Section:
    """A titled part of a report; paragraphs are plain text."""

    title: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """A structured draft. `html` is one self-contained page, `text` the same words without pictures."""

    title: str
    sections: tuple[Section, ...]
    key_images: tuple[KeyImage, ...] = ()
    text: str = ""
    html: str = field(default="", repr=False)


Finding = Segmentation | Boxes | Answer | Measurement | Report

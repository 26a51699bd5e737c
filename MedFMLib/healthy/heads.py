"""Decide whether an image is known not to show a head. Depends on voxels, labels and texts; removes nothing.

Unknown means unsafe: an image without signs either way counts as one that may show a face. It is known to be a trunk only by
several measurements that agree on *every* axial slice, so that a chin at the end of a chest is seen, too:

* outline: wider, larger and flatter than any head, with surroundings in sight;
* CT: no ring of bone that could be a skull;
* no word in a label, header or name that belongs to a head or neck.

Part of a trunk whose outline lies outside of the picture is known by lungs: segmented under that name, with their HU, and
close to every slice. Limits were measured on 74 heads and 6 trunks (`Testing/security/test_faces.py` prints them).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.findings import Segmentation
from ..core.image import Image
from ..core.terminology import normalize, split_side
from . import outline

LEAST_WIDTH, LEAST_AREA, LEAST_RATIO = 250.0, 400.0, 1.12
"""Width in mm, area in cm², and width ÷ depth of a trunk on each axial slice. Measured: trunks at least 280, 495 and 1.17; heads
at most 184, 320 and 1.06 without shoulders. The ratio doesn't depend on a wrong spacing, and refuses a round field of view."""

MOST_WIDTH, MOST_AREA = 700.0, 2500.0
"""Nobody is larger, so the spacing is wrong."""

MOST_BORDERS = 2
"""A body that reaches more of the four borders of a slice has no outline in sight."""

SKULL_AREA = 30.0
"""Area in cm² inside a closed ring of bone from which it may be a skull. Measured: trunks at most 15, heads at least 33."""

LUNG_HU, LUNG_AREA = (-950.0, -650.0), 5.0
"""Mean HU of segmented lungs, and their least area in cm² on a slice that they account for."""

ABOVE_LUNGS, BELOW_LUNGS = 15.0, 45.0
"""Distance in mm from lungs in which no head is: shorter upwards, where the chin may be."""

MOST_FILES = 20
"""Files of a folder that are tried for a DICOM header."""

BRAIN = frozenset((
    "brain", "cerebrum", "cerebral hemisphere", "cerebral cortex", "cerebral white matter", "cerebellum", "brainstem",
    "lateral ventricle", "ventricles", "third ventricle", "fourth ventricle", "thalamus", "caudate", "putamen", "pallidum",
    "hippocampus", "amygdala", "accumbens", "ventral diencephalon", "anterior hippocampus", "posterior hippocampus",
))  # fmt: skip
"""Names in the terminology of the brain and its parts."""

HEAD_WORDS = re.compile(
    r"brain|cereb|encephal|ventricle|thalam|hippocamp|putamen|caudate|pallid|amygdal|\bskull|crani|\bhead\b|headneck"
    r"|\bface\b|facial|\beyes?\b|eyeball|orbit|optic|retina|\bears?\b|cochlea|\biacs?\b|mastoid|petrous|temporal|occipital|parietal"
    r"|sinus(?!oid)|\bpns\b|nose|nasal|nasopharyn|oropharyn|pharyn|mouth|\boral\b|\blips?\b|tongue|palate|tooth|teeth|dental|dentition"
    r"|\bjaws?\b|mandib|maxill|\btmj\b|zygom|parotid|salivar|submandib|pituitar|\bsella|hypophys|clivus|chiasm|scalp|neuro|stroke"
    r"|\bneck\b|cervical spine|\bc[ -]?spine|whole ?body|\bwb\b|kopf|sch(?:ä|ae)del|gehirn|gesicht|\bhals|t[êe]te|cr[âa]ne"
    r"|cerveau|cabeza|cr[áa]neo|\btesta\b|mprage|flair|circle of willis|\bcow\b"
)
"""Words of a head or neck in labels, header fields and names of files and series, in several languages."""

NO_HEADS = re.compile(
    r"(?:femoral|humeral|radial|pancrea\w*|fibular?|femur|humerus) head|head of (?:the )?(?:pancreas|femur|humerus)"
    r"|coronary sinus"
    r"|ventricle (?:left|right)|(?:left|right|heart|cardiac) ventricle|heart ventricle|neuroendocrine"
    r"|(?:femoral|bladder) neck|neck of (?:the )?(?:femur|bladder)"
    r"|oral (?:contrast|and|\+|&|cm\b|prep)"
)
"""Expressions that contain such a word and are of a trunk."""


@dataclass(frozen=True)
class HeadSigns:
    """What is known about a head in an image.

    Args:
        head: signs of a head, one clause each.
        trunk: measurements that prove a trunk on every slice; () if it is not proven.
        missing: why it is not proven to be a trunk, one clause; "" if it is.
    """

    head: tuple[str, ...] = ()
    trunk: tuple[str, ...] = ()
    missing: str = ""

    @property
    def may_show_face(self) -> bool:
        """Whether the image is not known to be free of a head."""
        return bool(self.head) or not self.trunk

    def __str__(self) -> str:
        return "; ".join(self.head or self.trunk or (self.missing,))


def look(image: Image, segmentation: Segmentation, words: Iterable[str] = ()) -> HeadSigns:
    """Return what is known about a head in the image.

    Args:
        image: scalar volume.
        segmentation: on the image's grid.
        words: further texts that came with the image, such as the study's description.
    """
    named = _words_of(image, segmentation, words)
    geometry = image.geometry
    if not (geometry.oriented and geometry.metric) or image.is_colour or image.modality not in ("CT", "MR"):
        return HeadSigns(
            named, missing=f"it is no CT or MR volume with a known orientation in mm (it is {image.modality})"
        )
    if _is_default(geometry.affine):
        return HeadSigns(named, missing="its file states no position, so its size and orientation may be wrong")
    volume = outline.averaged(image)
    proof, missing = _trunk(outline.outlines(volume))
    if not proof and (lungs := _lungs(image, segmentation)):
        proof, missing = (lungs,), ""
    if proof and volume.is_hu:
        ring = outline.bone_ring(volume)
        proof += (f"no closed ring of bone (at most {ring:.0f} cm²)",)
        if ring >= SKULL_AREA:
            return HeadSigns((*named, f"a closed ring of bone surrounds {ring:.0f} cm²"), missing="it may be a skull")
    return HeadSigns(named, proof, missing)


TAGS = (
    "BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName", "RequestedProcedureDescription",
    "PerformedProcedureStepDescription", "AdmittingDiagnosesDescription", "SequenceName",
)  # fmt: skip
"""Header fields that may tell which part of the body was scanned."""


def words_of_file(path: Path) -> tuple[str, ...]:
    """Return what the header of a DICOM file, or of the first one in a folder, says about the part of the body; () for others.

    Args:
        path: file or folder.
    """
    import pydicom

    files = sorted(p for p in path.rglob("*") if p.is_file())[:MOST_FILES] if path.is_dir() else [path]
    for file in files:
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(TAGS))
            return tuple(dict.fromkeys(str(header.get(tag)) for tag in TAGS if header.get(tag)))
        except Exception:  # a damaged or other file raises nearly everything; the image was read anyway
            continue
    return ()


def is_of_brain(label: str) -> bool:
    """Return whether a label names the brain or a part of it."""
    return split_side(normalize(label))[1] in BRAIN


def mentions_head(text: str) -> bool:
    """Return whether a text has a word of a head or neck."""
    plain = re.sub(r"[_\-./,;:()^]+", " ", text.lower())
    return HEAD_WORDS.search(NO_HEADS.sub(" ", plain)) is not None


def _words_of(image: Image, segmentation: Segmentation, words: Iterable[str]) -> tuple[str, ...]:
    labels = [s.label for s in segmentation.segments if s.boxed.inside.any()]
    found = [f"“{label}” is segmented" for label in labels if is_of_brain(label) or mentions_head(label)]
    found += [
        f"{key} is {value}" for key, value in image.facts.items() if key != "window" and mentions_head(str(value))
    ]
    texts = [image.name, *words]
    return (*found, *(f"“{text}” came with it" for text in dict.fromkeys(texts) if mentions_head(text)))


CHECKS: tuple[tuple[str, Callable[[outline.SliceOutline], bool]], ...] = (
    ("no outline of a body is in sight", lambda s: s.area > 0),
    ("the surroundings of the body are not in sight", lambda s: s.corners == 0 and s.borders <= MOST_BORDERS),
    (f"the body is less than {LEAST_WIDTH:.0f} mm wide", lambda s: s.width >= LEAST_WIDTH),
    (f"the body is smaller than {LEAST_AREA:.0f} cm²", lambda s: s.area >= LEAST_AREA),
    ("the body is not clearly wider than deep", lambda s: s.width >= LEAST_RATIO * s.depth),
    ("the body is larger than anybody's", lambda s: s.width <= MOST_WIDTH and s.area <= MOST_AREA),
)
"""What the outline of a trunk fulfils on each axial slice, after the sentence to say where it doesn't."""


def no_trunk(s: outline.SliceOutline) -> str:
    """Return why the outline on an axial slice is not that of a trunk; "" if it may be."""
    for reason, fits in CHECKS:
        if not fits(s):
            size = f" ({s.width:.0f} × {s.depth:.0f} mm, {s.area:.0f} cm²)" if s.area else ""
            return f"{reason} on an axial slice{size}"
    return ""


def _trunk(slices: Iterable[outline.SliceOutline]) -> tuple[tuple[str, ...], str]:
    """Return (proof, ""), or ((), the first reason why the outlines prove no trunk)."""
    least = [np.inf] * 3
    for s in slices:
        if reason := no_trunk(s):
            return (), reason
        least = [min(pair) for pair in zip(least, (s.width, s.area, s.width / s.depth), strict=True)]
    if least[0] == np.inf:
        return (), "no body is in sight on any axial slice"
    width, area, ratio = least
    return (
        f"every slice is at least {width:.0f} mm wide, {area:.0f} cm² large and {ratio:.2f} times as wide as deep",
    ), ""


def _lungs(image: Image, segmentation: Segmentation) -> str:
    """Return the proof that lungs lie close to every axial slice; "" if they don't."""
    masks = [s.mask for s in segmentation.segments if split_side(normalize(s.label))[1] == "lung"]
    if not masks or image.modality != "CT":
        return ""
    lung = np.any(masks, axis=0)
    mean = float(image.scalars[lung].mean()) if lung.any() else 0.0
    if not LUNG_HU[0] <= mean <= LUNG_HU[1]:
        return ""
    up = image.geometry.index_axis("axial")
    across = [axis for axis in range(3) if axis != up]
    spacing = image.geometry.spacing
    areas = lung.sum(axis=tuple(across)) * spacing[across[0]] * spacing[across[1]] / 100
    heights = np.arange(len(areas)) * spacing[up] * np.sign(image.geometry.affine[2, up])
    filled = heights[areas >= LUNG_AREA]
    if not filled.size:
        return ""
    above, below = heights.max() - filled.max(), filled.min() - heights.min()
    if above > ABOVE_LUNGS or below > BELOW_LUNGS or np.diff(np.sort(filled)).max(initial=0) > BELOW_LUNGS:
        return ""
    return f"segmented lungs of {mean:.0f} HU lie within {above:.0f} mm below and {below:.0f} mm above every slice"


def _is_default(affine: np.ndarray) -> bool:
    """Return whether an affine is what files without a position get: 1 mm along the axes, from 0."""
    return bool(np.array_equal(np.abs(affine), np.eye(4)))

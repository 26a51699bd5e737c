"""Provide the test images of the embedded model: none of them, and none of their slices, is used in training.

Depends on the data folder and parts; no models. A `BenchCase` is a volume with, if it has labels, its part volume;
`Images`
reads each of them once, on first access. A `Probe` is a slice with everything that is certain about it, for
questions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...core.geometry import Geometry
from ...core.image import Image
from ...core.view import View, display_slice, make_view, window_for
from ...errors import InputError
from . import labels, sources
from .questions import PictureFacts, scene
from .sources import freesurfer_parts, head_maps, read

_SQUARE = 160

NEVER = "no"


@dataclass(frozen=True, eq=False)
class BenchCase:
    """One test volume.

    Args:
        name: short name.
        about: description.
        seen: which part of it training used.
        image: as a user would load it.
        parts: (I, J, K) uint8 on its grid, or None without labels.
        region: "head" or "torso".
        structures: labelled ones for questions.
        absent: structures that are certainly not in it.
        slices: plane → slice numbers to ask about.
        stripped: only the brain of the head is shown.
    """

    name: str
    about: str
    seen: str
    image: Image
    parts: np.ndarray | None = field(repr=False)
    region: str
    structures: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    slices: dict[str, list[int]] = field(default_factory=dict)
    stripped: bool = False


@dataclass(frozen=True, eq=False)
class Hippocampus:
    """A crop of an MR around one hippocampus: `values` (I, J, K), 1 anterior and 2 posterior, segmented manually."""

    name: str
    image: Image
    values: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class HeadNeck:
    """A planning CT with contours: `values` (I, J, K), and the number in them of each organ."""

    name: str
    image: Image
    values: np.ndarray = field(repr=False)
    numbers: dict[str, int]


@dataclass(frozen=True, eq=False)
class Probe:
    """One slice: its `view`, its part slice in the volume's index order, its `position` 0…1 from the plane's start."""

    case: BenchCase
    view: View
    truth: np.ndarray | None
    position: float
    scene: PictureFacts


class Images:
    """The test images of a data folder, each read on first access.

    Args:
        data: the folder.
        quick: fewer of them, and fewer slices.

    Raises:
        InputError: from each attribute, if its files are missing.
    """

    def __init__(self, data: Path, quick: bool = False):
        self.data, self.quick = Path(data), quick

    @cached_property
    def t1(self) -> BenchCase:
        """A real skull-stripped T1 with FreeSurfer labels."""
        image = read(self.data / "brain_t1" / "t1_stripped.nii.gz")
        parts = freesurfer_parts(read(self.data / "brain_t1" / "t1_stripped_aseg.nii.gz").scalars.astype(np.uint16))
        slices = _inner_slices(image.geometry, parts, "brain", 2 if self.quick else 6)
        return BenchCase("real T1", "skull-stripped T1, 1 mm, FreeSurfer labels", NEVER, image, parts, "head",
                    labels.SPOKEN_HEAD, labels.TORSO_STRUCTURES, slices, stripped=True)  # fmt: skip

    @cached_property
    def spacings(self) -> list[BenchCase]:
        """The real T1 at other voxel sizes, with its labels at the same."""
        sizes = {"1.5 mm": (1.5, 1.5, 1.5), "2 mm": (2, 2, 2), "1 × 1 × 4 mm (axial slices)": (1, 1, 4)}
        return [resampled(self.t1, f"real T1 at {name}", mm) for name, mm in sizes.items()]

    @cached_property
    def stroke(self) -> dict[str, BenchCase]:
        """T1, T2 and FLAIR of one person on one oblique grid, without labels."""
        return {name: self._unlabelled(f"brain_stroke/{name}.nii.gz") for name in ("T1", "T2", "FLAIR")}

    @cached_property
    def mni(self) -> BenchCase:
        """The MNI152 average T1, without labels."""
        return self._unlabelled("healthy_reference/mni152_2009_t1.nii.gz")

    @cached_property
    def orientations(self) -> dict[str, BenchCase]:
        """One average brain, stored along four different orders of axes."""
        return {name: self._unlabelled(f"orientation/{name}.nii.gz") for name in ("RAS", "LPI", "PIR", "ASL")}

    @cached_property
    def heads(self) -> list[BenchCase]:
        """Held-out label maps rendered like T1, like T2 and at random; seeded, without any of training's code."""
        maps = head_maps(self.data, held_out=True)
        if not maps:
            raise InputError("brain_labelmaps has no held-out label map.")
        made = []
        for number, subject in enumerate(maps):
            for contrast in ("T1-like",) if self.quick else CONTRASTS:
                image = painted_head(subject, contrast, 770 + number)
                slices = _inner_slices(image.geometry, subject.parts, "brain", 1 if self.quick else 2)
                made.append(BenchCase(f"{subject.name}, {contrast}", "synthetic MR of a held-out label map, 1 mm", NEVER, image,
                                 subject.parts, "head", labels.SPOKEN_HEAD,
                                 tuple(n for n in labels.TORSO_STRUCTURES if n != "spine"), slices))  # fmt: skip
        return made

    @cached_property
    def head_necks(self) -> list[HeadNeck]:
        """Planning CTs of the head and neck, of patients whom training left out."""
        scans = sources.head_neck_scans(self.data, held_out=True)
        if not scans:
            raise InputError("openkbp is not in the data folder.")
        numbers = {name: n + 2 for n, name in enumerate(labels.HEAD_NECK_STRUCTURES)}
        made = []
        for name, hu, parts, spacing, _ in scans[:2] if self.quick else scans:
            geometry = Geometry(hu.shape, np.diag([*spacing, 1.0]))
            made.append(HeadNeck(name, Image(hu.astype(np.int16)[None], geometry, "CT", name), parts, numbers))
        return made

    @cached_property
    def hippocampi(self) -> list[Hippocampus]:
        """The crops that the adapter's training excluded."""
        files = sources.hippocampus_files(self.data, held_out=True)
        if not files:
            raise InputError("msd_hippocampus is not in the data folder.")
        made = []
        for file in files[:4] if self.quick else files:
            values = read(file.parent.parent / "labels" / file.name).scalars.astype(np.uint8)
            made.append(Hippocampus(file.name.split(".")[0], read(file), values))
        return made

    @cached_property
    def unlabelled(self) -> list[BenchCase]:
        """Real volumes without labels: for questions about modality, plane and body part, and for refusals."""
        paths = {"brain_stroke/T1.nii.gz": "MR", "brain_stroke/T2.nii.gz": "MR", "brain_stroke/FLAIR.nii.gz": "MR",
                 "healthy_reference/mni152_2009_t1.nii.gz": "MR", "orientation/LPI.nii.gz": "MR"}  # fmt: skip
        return [self._unlabelled(p, modality) for p, modality in paths.items() if (self.data / p).exists()]

    def for_questions(self) -> tuple[list[BenchCase], list[str]]:
        """Return (every case for questions, sentences naming what was missing)."""
        cases, absent = [], []
        for get in (lambda: [self.t1], lambda: self.heads, lambda: self.unlabelled):
            try:
                cases += get()
            except InputError as error:
                absent.append(f"questions: {error}")
        return cases, absent

    def _unlabelled(self, path: str, modality: str = "MR") -> BenchCase:
        image = read(self.data / path, modality)
        slices = {}
        for plane in ("axial", "coronal", "sagittal"):
            n = image.geometry.shape[image.geometry.index_axis(plane)]
            slices[plane] = _spread(n * 0.4, n * 0.65, 1 if self.quick else 2)
        name = path.split(".")[0].replace("/", " ").replace("_", " ")
        region = "torso" if modality == "CT" else "head"
        return BenchCase(name, "real, without labels", NEVER, image, None, region, slices=slices)


# -- making volumes ------------------------------------------------------------------------------

CONTRASTS = ("T1-like", "T2-like", "random")

_BRIGHT = {
    "cerebral white matter": (0.86, 0.34),
    "cerebral cortex": (0.58, 0.52),
    "lateral ventricle": (0.14, 0.95),
    "cerebellum": (0.60, 0.50),
    "thalamus": (0.70, 0.43),
    "caudate": (0.61, 0.47),
    "putamen": (0.64, 0.44),
    "pallidum": (0.76, 0.30),
    "hippocampus": (0.57, 0.54),
    "amygdala": (0.56, 0.54),
    "accumbens": (0.60, 0.50),
    "ventral diencephalon": (0.73, 0.39),
    "third ventricle": (0.16, 0.93),
    "fourth ventricle": (0.18, 0.93),
    "brainstem": (0.77, 0.40),
}
"""Part without its side → brightness on T1 and on T2."""

_CSF, _CEREBELLAR_WHITE = (24, 72, 85), (7, 46)


def painted_head(subject: sources.Subject, contrast: str, seed: int) -> Image:
    """Render a label map (RAS order) as MR, with noise, a smooth bias field, and partial volume by blurring.

    Args:
        subject: with the label map.
        contrast: one of `CONTRASTS`.
        seed: of the random values.
    """
    rng = np.random.default_rng((seed, CONTRASTS.index(contrast)))
    table = rng.uniform(0.02, 0.9, 1024).astype(np.float32)  # extra-cerebral clusters have no tissue class
    table[0] = 0.01
    for part, values in labels.FREESURFER.items():
        name = part.removeprefix("left ").removeprefix("right ")
        bright = (
            _BRIGHT[name][contrast == "T2-like"] if contrast != "random" else table[100 + list(_BRIGHT).index(name)]
        )
        table[list(values)] = bright
    if contrast != "random":
        table[list(_CSF)] = (0.12, 0.92)[contrast == "T2-like"]
        table[list(_CEREBELLAR_WHITE)] = _BRIGHT["cerebral white matter"][contrast == "T2-like"]
    voxels = ndimage.gaussian_filter(table[subject.values], 0.6)
    coarse = rng.normal(0, 0.12, (3, 3, 3))
    ratio = np.array(voxels.shape) / 3
    field_ = ndimage.affine_transform(coarse, 1 / ratio, -0.5 + 0.5 / ratio, voxels.shape, order=1, mode="nearest")
    voxels = voxels * np.exp(field_.astype(np.float32))
    voxels += rng.normal(0, 0.025, voxels.shape).astype(np.float32)
    voxels = np.rint(np.clip(voxels, 0, None) * 1000).astype(np.int16)
    affine = np.diag([*subject.spacing, 1.0])
    return Image(voxels[None], Geometry(voxels.shape, affine), "MR", subject.name)


def resampled(case: BenchCase, name: str, mm: tuple[float, float, float]) -> BenchCase:
    """Return a case at other voxel sizes: voxels averaged, labels by the nearest voxel.

    Args:
        case: with labels.
        name: of the new case.
        mm: voxel size along Right, Anterior, Superior.
    """
    old = case.image.geometry
    along = np.array(mm, float)[list(old.world_axes)]
    ratio = along / old.spacing
    shape = np.maximum(1, np.floor(np.array(old.shape) / ratio)).astype(int)
    shift = (ratio - 1) / 2  # of the first voxel's centre, so that both grids begin at the same face
    affine = old.affine.copy()
    affine[:3, 3] = old.to_world(shift)
    affine[:3, :3] = old.affine[:3, :3] * ratio
    smooth, start = case.image.scalars.astype(np.float32), shift.copy()
    for axis in range(3):
        if ratio[axis] >= 3:  # thick slices are averages; the centre of an even filter lies half a voxel before
            smooth = ndimage.uniform_filter1d(smooth, int(ratio[axis]), axis)
            start[axis] += 0.5 * (int(ratio[axis]) % 2 == 0)
        elif ratio[axis] > 1:
            smooth = ndimage.gaussian_filter1d(smooth, 0.42 * ratio[axis], axis)
    voxels = ndimage.affine_transform(smooth, ratio, start, tuple(shape), order=1, mode="nearest")
    parts = ndimage.affine_transform(case.parts, ratio, shift, tuple(shape), order=0, mode="nearest")
    image = Image(voxels[None], Geometry(tuple(shape), affine), case.image.modality, name)
    return replace(case, name=name, image=image, parts=parts, slices={})


def _spread(first: float, last: float, count: int) -> list[int]:
    """Return `count` numbers, each in the middle of one of `count` equal pieces of first … last."""
    return sorted({int(first + (last - first) * (n + 0.5) / count) for n in range(count)})


def _inner_slices(geometry, parts: np.ndarray, structure: str, count: int, planes=("axial", "coronal", "sagittal")):
    """Return `count` slices of each plane, evenly through a structure's extent."""
    mask = labels.structure_mask(parts, structure)
    result = {}
    for plane in planes:
        axis = geometry.index_axis(plane)
        along = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        result[plane] = _spread(along[0], along[-1] + 1, count)
    return result


# -- slices --------------------------------------------------------------------------------------


def probes(case: BenchCase) -> list[Probe]:
    """Return every chosen slice of a case."""
    window, found = window_for(case.image), []
    for plane, numbers in case.slices.items():
        axis = case.image.geometry.index_axis(plane)
        direction = case.image.geometry.affine[("sagittal", "coronal", "axial").index(plane), axis]
        for number in numbers:
            view = make_view(case.image, plane, number, window)
            truth = None if case.parts is None else np.take(case.parts, number, axis=axis)
            share = (number + 0.5) / case.image.geometry.shape[axis]
            scene = _scene(case, view)
            found.append(Probe(case, view, truth, share if direction > 0 else 1 - share, scene))
    return found


def square_parts(view: View, parts: np.ndarray, size: int = _SQUARE) -> np.ndarray:
    """Return the part numbers of a slice in its view's square, (size, size); nearest neighbour, 0 outside the scan.

    Args:
        view: the slice.
        parts: (I, J, K) part numbers.
        size: pixels per side.
    """
    picture = display_slice(parts, view.geometry, view.plane, view.number)
    y, x = view.positions()
    middle = (np.arange(size) + 0.5) / size
    rows, columns = np.interp(middle, y, np.arange(len(y))), np.interp(middle, x, np.arange(len(x)))
    out = picture[np.ix_(np.rint(rows).astype(int), np.rint(columns).astype(int))].copy()
    out[(middle < y[0] - (y[1] - y[0]) / 2) | (middle > y[-1] + (y[1] - y[0]) / 2)] = 0
    out[:, (middle < x[0] - (x[1] - x[0]) / 2) | (middle > x[-1] + (x[1] - x[0]) / 2)] = 0
    return out


def crop_probes(case: BenchCase, seed: int = 91) -> list[Probe]:
    """Return a region of every chosen slice of a labelled case, as if the user drew a box; seeded.

    In whole slices a name nearly determines a structure's position; in a region only the picture does.

    Args:
        case: with labels.
        seed: of the regions.
    """
    if case.parts is None:
        return []
    window, found = window_for(case.image), []
    rng = np.random.default_rng((seed, len(case.name)))
    for plane, numbers in case.slices.items():
        axis = case.image.geometry.index_axis(plane)
        for number in numbers:
            start, stop = np.zeros(3, int), np.array(case.image.geometry.shape)
            body = np.take(case.parts, number, axis=axis) > 0
            for a, along in zip((a for a in range(3) if a != axis), (body.any(1), body.any(0)), strict=True):
                there = np.flatnonzero(along)
                low, high = (int(there[0]), int(there[-1]) + 1) if len(there) else (0, int(stop[a]))
                length = max(8, int((high - low) * rng.uniform(0.35, 0.7)))
                start[a] = rng.integers(low, max(low, high - length) + 1)
                stop[a] = min(stop[a], start[a] + length)
            box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
            image = Image(
                case.image.voxels[(slice(None), *box)], case.image.geometry.crop(start, stop), case.image.modality
            )
            part = replace(case, image=image, parts=case.parts[box], slices={})
            view = make_view(image, plane, number, window)
            truth = np.take(part.parts, number, axis=axis)
            found.append(Probe(part, view, truth, 0.5, _scene(part, view)))
    return found


def _scene(case: BenchCase, view: View) -> PictureFacts:
    if case.parts is None:
        return PictureFacts(case.image.modality, view.plane, case.region, {}, (), complete=False, labelled=False)
    square = square_parts(view, case.parts)
    return scene(case.image.modality, view.plane, case.region, square, case.structures, case.absent, case.stripped)

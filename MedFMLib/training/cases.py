"""The images that measure the embedded model: none of them, and none of their slices, is seen in training.

Knows the data folder and parts; nothing of models. Each `Case` is a volume with its part volume and the slices to look at;
`Probe` is one of those slices with everything that is certain about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from ..image import Image
from ..view import View, display_slice, make_view, window_for
from . import labels
from .objects import survey
from .questions import Scene
from .sources import HELD_OUT_SLICES, _tissue, freesurfer_parts, head_maps, read
from .synthesis import _head_table

_SQUARE = 160


@dataclass(frozen=True, eq=False)
class Case:
    """One volume to measure on.

    Args:
        name, about: what it is, and how far it is from the training data.
        image: as a user would load it. parts: (I, J, K) uint8 on its grid, or None without labels.
        slices: plane → slice numbers.
        region: "head" or "torso". structures: labelled ones. absent: surely not in it.
    """

    name: str
    about: str
    image: Image
    parts: np.ndarray | None = field(repr=False)
    slices: dict[str, list[int]]
    region: str
    structures: tuple[str, ...]
    absent: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Probe:
    """One slice: its `view`, its part slice in the volume's index order, its `position` 0…1 from the plane's start."""

    case: Case
    view: View
    truth: np.ndarray | None
    position: float
    scene: Scene


def find_cases(data: Path, quick: bool = False) -> tuple[list[Case], list[str]]:
    """(cases whose files are there, sentences naming what was absent)."""
    cases, absent = [], []
    makers = (_real_t1, _held_out_heads, _ct_torso, _mr_torso, _ct_chest, _unlabelled)
    for maker in makers:
        try:
            cases += maker(data, quick)
        except Exception as error:  # an absent folder must not stop the rest
            absent.append(f"{maker.__name__.strip('_').replace('_', ' ')}: {error}")
    return cases, absent


def _spread(first: float, last: float, count: int) -> list[int]:
    """`count` numbers, each in the middle of one of `count` equal pieces of first … last."""
    return sorted({int(first + (last - first) * (n + 0.5) / count) for n in range(count)})


def _inner_slices(geometry, parts: np.ndarray, structure: str, count: int, planes=("axial", "coronal", "sagittal")):
    """`count` slices of each plane, evenly through a structure's extent."""
    mask = labels.structure_mask(parts, structure)
    result = {}
    for plane in planes:
        axis = geometry.index_axis(plane)
        along = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        result[plane] = _spread(along[0], along[-1] + 1, count)
    return result


def _real_t1(data: Path, quick: bool) -> list[Case]:
    image = read(data / "brain_t1" / "t1_stripped.nii.gz")
    parts = freesurfer_parts(read(data / "brain_t1" / "t1_stripped_aseg.nii.gz").scalars.astype(np.uint16))
    slices = _inner_slices(image.geometry, parts, "brain", 4 if quick else 13)
    about = "a real T1 (skull-stripped) with FreeSurfer labels; training saw no real head at all"
    return [Case("real T1", about, image, parts, slices, "head", labels.HEAD_STRUCTURES, labels.TORSO_STRUCTURES)]


def _held_out_heads(data: Path, quick: bool) -> list[Case]:
    cases = []
    for seed, subject in enumerate(head_maps(data, held_out=True)):
        rng = np.random.default_rng((77, seed))
        mean, spread = _head_table(subject.values, rng)
        voxels = mean[subject.values] + spread[subject.values] * rng.standard_normal(
            subject.values.shape, dtype=np.float32
        )
        voxels = ndimage.gaussian_filter(voxels, 0.6)
        from ..geometry import Geometry

        image = Image(voxels[None], Geometry(voxels.shape, np.diag([1.0, 1.0, 1.0, 1.0])), "MR", subject.name)
        slices = _inner_slices(image.geometry, subject.parts, "brain", 2 if quick else 5)
        about = "synthetic MR (seeded) of a head whose label map is not in training"
        absent = tuple(n for n in labels.TORSO_STRUCTURES if n != "spine")
        cases.append(
            Case(
                f"synthetic {subject.name}", about, image, subject.parts, slices, "head", labels.HEAD_STRUCTURES, absent
            )
        )
    if not cases:
        raise FileNotFoundError("no held-out label map in brain_labelmaps")
    return cases


def _torso(
    data: Path, folder: str, files: tuple[str, str], modality: str, table, structures, absent, step: int, about: str
):
    image = read(data / folder / files[0], modality)
    values = read(data / folder / files[1]).scalars.astype(np.uint16)
    rest = "unknown" if folder == "ct_chest" else "torso tissue"
    parts = labels.part_table(table, rest)[values]
    number = labels.UNKNOWN_PART if rest == "unknown" else labels.part_number(rest)
    parts[(values == 0) & (_tissue(image.scalars.astype(np.float32), modality) > 0)] = number
    axis = image.geometry.index_axis("axial")
    n, upward = image.geometry.shape[axis], image.geometry.affine[2, axis] > 0
    numbers = [k for start, stop in HELD_OUT_SLICES[folder] for k in range(start, stop)][::step]
    numbers = sorted(k if upward else n - 1 - k for k in numbers)
    return [Case(folder.replace("_", " "), about, image, parts, {"axial": numbers}, "torso", structures, absent)]


def _ct_torso(data: Path, quick: bool) -> list[Case]:
    about = "real CT, slices cut out of training, but of the one patient that training saw"
    return _torso(data, "ct_torso", ("ct.nii.gz", "ct_seg.nii.gz"), "CT", labels.TOTALSEGMENTATOR_CT,
                  labels.TORSO_STRUCTURES, labels.HEAD_STRUCTURES, 4 if quick else 1, about)  # fmt: skip


def _mr_torso(data: Path, quick: bool) -> list[Case]:
    about = "real MR, slices cut out of training, but of the one patient that training saw"
    absent = (*labels.HEAD_STRUCTURES, "urinary bladder", "left hip bone", "right hip bone")
    return _torso(data, "mr_torso", ("mr.nii.gz", "mr_seg.nii.gz"), "MR", labels.TOTALSEGMENTATOR_MR,
                  labels.MR_TORSO_STRUCTURES, absent, 2 if quick else 1, about)  # fmt: skip


def _ct_chest(data: Path, quick: bool) -> list[Case]:
    about = "real CT, slices cut out of training, but of a patient whose other slices training saw"
    return _torso(data, "ct_chest", ("chest_ct.nii.gz", "chest_lungs.nii.gz"), "CT", labels.LUNGS,
                  ("left lung", "right lung"), labels.HEAD_STRUCTURES, 6 if quick else 2, about)  # fmt: skip


def _unlabelled(data: Path, quick: bool) -> list[Case]:
    """Real volumes of nobody seen in training, without labels: for modality, plane, body part and refusals."""
    cases = []
    for path, modality, region in (
        ("brain_stroke/T1.nii.gz", "MR", "head"),
        ("brain_stroke/T2.nii.gz", "MR", "head"),
        ("brain_stroke/FLAIR.nii.gz", "MR", "head"),
        ("healthy_reference/mni152_2009_t1.nii.gz", "MR", "head"),
        ("brain_t1/t1_head.nii.gz", "MR", "head"),
        ("orientation/LPI.nii.gz", "MR", "head"),
        ("ct_lung/lung_ct.mha", "CT", "torso"),
    ):
        if not (data / path).exists():
            continue
        image = read(data / path, modality)
        slices = {}
        for plane in ("axial", "coronal", "sagittal"):
            n = image.geometry.shape[image.geometry.index_axis(plane)]
            slices[plane] = _spread(n * 0.4, n * 0.65, 1 if quick else 2)
        about = "real, unlabelled, of a person not in training"
        cases.append(Case(path.split(".")[0].replace("/", " "), about, image, None, slices, region, (), ()))
    if not cases:
        raise FileNotFoundError("no unlabelled real volume")
    return cases


def probes(case: Case) -> list[Probe]:
    """Every chosen slice of a case."""
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
    """(size, size) part numbers of a slice in its view's square; nearest neighbour, 0 outside the scan."""
    picture = display_slice(parts, view.geometry, view.plane, view.number)
    y, x = view.positions()
    middle = (np.arange(size) + 0.5) / size
    rows, columns = np.interp(middle, y, np.arange(len(y))), np.interp(middle, x, np.arange(len(x)))
    out = picture[np.ix_(np.rint(rows).astype(int), np.rint(columns).astype(int))].copy()
    out[(middle < y[0] - (y[1] - y[0]) / 2) | (middle > y[-1] + (y[1] - y[0]) / 2)] = 0
    out[:, (middle < x[0] - (x[1] - x[0]) / 2) | (middle > x[-1] + (x[1] - x[0]) / 2)] = 0
    return out


def _scene(case: Case, view: View) -> Scene:
    if case.parts is None:
        return Scene(case.image.modality, view.plane, case.region, {}, (), complete=False)
    square = square_parts(view, case.parts)
    visible, missing = survey(square, case.structures, case.absent)
    complete = labels.UNKNOWN_PART not in square
    if view.plane == "sagittal":  # which side it is can't be seen, so nothing that has a side is asked about
        visible = {name: seen for name, seen in visible.items() if labels.other_side(name) is None}
        missing = [name for name in missing if labels.other_side(name) is None]
        complete = False
    return Scene(case.image.modality, view.plane, case.region, visible, tuple(missing), complete)

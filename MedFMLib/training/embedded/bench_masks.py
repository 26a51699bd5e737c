"""Measure how well the embedded model segments brains: real and synthetic ones, robustness, invariance, and a baseline.

Every function takes the images and a model and returns a `BenchSection`. Uses cases, measures and MeshNet's classes;
not
how models are loaded or how results are shown.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from ...core.geometry import PLANES
from ...core.image import Image
from ...errors import InputError
from ...measure.overlap import dice, surface_distances
from . import labels
from .bench_measures import PeakMemory, as_parts, bootstrap, mirrored_share, part_dice
from .bench_runtime import LoadedModel, way_name
from .bench_tables import BenchSection, Failure, Figure, SlicePicture, Table, mean
from .cases import BenchCase, Images
from .meshnet import MERGED, MeshNet, merged_mask, merged_parts
from .sources import in_ras_order

BRAIN, HEAD_NECK, HIPPOCAMPUS = "brain-mr", "head-neck-ct", "hippocampus"
"""Adapters, by their purpose."""

BRAIN_VALUES = {name: labels.STRUCTURES[name] for name in labels.BRAIN_PARTS}

WORST_PER_CASE = 3
_VISIBLE_MM2 = 60.0


class MeshNetBaseline:
    """MeshNet, which processes each volume once; nothing is stored on disk.

    Args:
        folder: of its weights, or None: then it is not run.
        why_not: reason for not running it, in a sentence.
    """

    def __init__(self, folder: Path | None, why_not: str = ""):
        self.why_not = why_not
        self._net = MeshNet(folder) if folder else None
        self._seen: dict[str, tuple[np.ndarray, float]] = {}

    def __bool__(self) -> bool:
        return self._net is not None

    def look(self, case: BenchCase) -> tuple[np.ndarray, float]:
        """Return (class numbers on the case's grid, seconds)."""
        if case.name not in self._seen:
            start = time.time()
            self._seen[case.name] = (self._net.segment(case.image), time.time() - start)
        return self._seen[case.name]


def segment_parts(
    model: LoadedModel, image: Image, adapter: str, names=labels.BRAIN_PARTS
) -> tuple[np.ndarray, list[str]]:
    """Return ((I, J, K) uint8 part numbers, the names that the model can segment).

    Args:
        model: the model.
        image: scalar volume.
        adapter: its name.
        names: requested structures.
    """
    model.use(adapter)
    known = model.drawable(names)
    return as_parts(model.runtime.segment_volume(image, known), image.geometry.shape), known


def _merged(parts: np.ndarray, name: str) -> np.ndarray:
    return np.isin(parts, [labels.part_number(part) for part in merged_parts(name)])


# -- the real T1 ---------------------------------------------------------------------------------


def brain(images: Images, model: LoadedModel, baseline: MeshNetBaseline) -> BenchSection:
    """Measure each structure of the real T1 with FreeSurfer labels, with the adapter, the bare base, and MeshNet.

    Args:
        images: the test images.
        model: the model.
        baseline: MeshNet.
    """
    case, ways = images.t1, model.ways(BRAIN)
    drawn, facts = {}, []
    overlap: dict[str, dict[str, float | None]] = {}
    for way in ways:
        start = time.time()
        with PeakMemory() as memory:
            drawn[way], known = segment_parts(model, case.image, way)
        seconds = time.time() - start
        found = part_dice(drawn[way], case.parts, labels.BRAIN_PARTS)
        overlap[way] = {name: found.get(name) if name in known else None for name in labels.BRAIN_PARTS}
        confused = mirrored_share(drawn[way], case.parts)
        facts.append([way_name(way), mean(list(overlap[way].values())), confused, seconds, memory.megabytes])
    ours = drawn[ways[0]]
    spacing = case.image.geometry.spacing
    known = case.parts != labels.UNKNOWN_PART
    bias = {n: _volume_bias(ours, case.parts, known, n) for n in labels.BRAIN_PARTS}
    distances = {n: surface_distances(labels.structure_mask(ours, n), labels.structure_mask(case.parts, n), spacing)
                 for n in labels.BRAIN_PARTS}  # fmt: skip
    rows = [
        [name, *(overlap[way][name] for way in ways), *(distances[name] or (None, None)), bias[name]]
        for name in labels.BRAIN_PARTS
    ]
    columns = list(zip(*(row[1:] for row in rows), strict=True))
    rows.append([f"mean of {len(labels.BRAIN_PARTS)}", *map(mean, columns)])
    rows.append(["95 % interval", *(interval(column) for column in columns)])
    about = f"{case.about}; training saw this person: {case.seen}."
    headings = (
        "structure",
        *(f"Dice, {way_name(way)}" for way in ways),
        "surface, mm",
        "95 % Hausdorff, mm",
        "bias of the volume, %",
    )
    notes = (
        "Interval: bootstrap over structures; it shows how much the mean depends on the choice of structures, not how "
        "the model does on other people: this is one person.",
        f"Distances are those of {way_name(ways[0])}; a structure that was not segmented has none, and Dice 0.",
    )
    speed = Table("Brain T1: left and right, time and memory", about,
                  ("way", "mean Dice", "given to the other side", "seconds, s", "peak memory, MB"), facts,
                  ("Given to the other side: share of the labelled voxels of structures with a side that were named as the "
                   "same structure of the other side. Memory is of the whole process, Python and images included.",))  # fmt: skip
    section = BenchSection([Table("Brain T1, whole volume", about, headings, rows, notes), speed])
    section.summary = {
        "Dice, real T1, 27 parts": facts[0][1],
        "mean absolute error of volumes, real T1, %": mean([abs(b) for b in bias.values() if b is not None]),
        "largest bias of a volume, real T1, %": max((b for b in bias.values() if b is not None), key=abs, default=None),
        "surface distance, real T1, mm": mean([d and d[0] for d in distances.values()]),
        "given to the other side, real T1": facts[0][2],
        "seconds per 1 mm brain": facts[0][3],
        "peak memory, MB": facts[0][4],
    }
    section.failures = worst_slices(case, ours, case.parts, BRAIN_VALUES)
    section.figures.append(_overview(case, ours))
    if baseline:
        section += _against_baseline(case, ours, baseline, about)
    return section


def _volume_bias(found: np.ndarray, truth: np.ndarray, known: np.ndarray, name: str) -> float | None:
    """Return the difference of a structure's volume from the truth's, in percent of the truth's; None if it is absent."""
    there = np.count_nonzero(labels.structure_mask(truth, name))
    drawn = np.count_nonzero(labels.structure_mask(found, name) & known)
    return 100.0 * (drawn / there - 1) if there and drawn else None


def interval(column) -> tuple[float, float] | None:
    """Return the bootstrap interval of the numbers of a column; None if there is none."""
    numbers = [v for v in column if v is not None]
    return bootstrap(numbers) if numbers else None


def _against_baseline(case: BenchCase, ours: np.ndarray, baseline: MeshNetBaseline, about: str) -> BenchSection:
    classes, seconds = baseline.look(case)
    spacing, rows = case.image.geometry.spacing, []
    for name in MERGED:
        truth = _merged(case.parts, name)
        row = [name]
        for found in (_merged(ours, name), merged_mask(classes, name)):
            row += [dice(found, truth), (surface_distances(found, truth, spacing) or (None,))[0]]
        rows.append(row)
    columns = list(zip(*(row[1:] for row in rows), strict=True))
    rows += [[f"mean of {len(MERGED)}", *map(mean, columns)], ["95 % interval", *map(interval, columns)]]
    table = Table("Brain T1 compared with MeshNet", about + " Sides and parts merged to what both know.",
                  ("structure", "Dice, MedFM-tiny", "surface, MedFM-tiny, mm", "Dice, MeshNet", "surface, MeshNet, mm"), rows,
                  (f"MeshNet (MIT, 196,038 parameters) knows no sides and took {seconds:.0f} s; which people it was trained "
                   "on is not known here. Interval: bootstrap over structures.",))  # fmt: skip
    return BenchSection(
        [table], summary={"Dice, real T1, 15 merged": rows[-2][1], "the same structures, MeshNet": rows[-2][3]}
    )


def _overview(case: BenchCase, ours: np.ndarray) -> Figure:
    """Return three planes: picture, truth, result."""
    shots = []
    for plane in ("axial", "coronal", "sagittal"):
        number = _richest(case.parts, case.image.geometry, plane)
        shots.append(SlicePicture(case.image, plane, number, f"{plane} slice {number}"))
        shots.append(SlicePicture(case.image, plane, number, "FreeSurfer", BRAIN_VALUES, case.parts))
        shots.append(SlicePicture(case.image, plane, number, "MedFM-tiny", BRAIN_VALUES, None, ours))
    return Figure("Pictures", f"{case.about}. Training saw this person: {case.seen}.", tuple(shots))


def _richest(parts: np.ndarray, geometry, plane: str) -> int:
    """Return the slice with most structures; among equals the one with most brain voxels."""
    axis = geometry.index_axis(plane)
    others = tuple(a for a in range(3) if a != axis)
    counts = np.zeros(parts.shape[axis])
    for number in np.unique(parts):
        if number in (0, 1, labels.UNKNOWN_PART):
            continue
        area = (parts == number).sum(axis=others)
        counts += (area > 0.2 * area.max()) + area / parts.size
    return int(counts.argmax())


# -- failures ------------------------------------------------------------------------------------


def worst_slices(
    case, found: np.ndarray, truth: np.ndarray, values: dict[str, tuple[int, ...]], slices=None
) -> list[Failure]:
    """Return the slices where a well visible structure has the lowest Dice: one per structure, a few per case.

    Args:
        case: with `name` and `image`.
        found: (I, J, K) uint8 on its grid, result.
        truth: (I, J, K) uint8 on its grid.
        values: structure → its numbers in both.
        slices: plane → slice numbers to choose from; all planes and slices if None.
    """
    geometry, worst = case.image.geometry, []
    for name, numbers in values.items():
        there, drawn, candidates = np.isin(truth, numbers), np.isin(found, numbers), []
        drawn = drawn & (truth != labels.UNKNOWN_PART)
        if not there.any():
            continue
        for plane in slices or PLANES:
            axis = geometry.index_axis(plane)
            others = tuple(a for a in range(3) if a != axis)
            area, both = there.sum(others), (there & drawn).sum(others)
            share = 2 * both / np.maximum(1, area + drawn.sum(others))
            visible = area * np.delete(geometry.spacing, axis).prod() >= min(
                _VISIBLE_MM2, 0.5 * _mm2(area, geometry, axis)
            )
            if slices:
                visible &= np.isin(np.arange(len(area)), slices[plane])
            if visible.any():
                number = int(np.where(visible, share, 2).argmin())
                candidates.append((float(share[number]), plane, number))
        if candidates:
            share, plane, number = min(candidates)
            caption = f"{case.name}, {plane} slice {number}: {name}, Dice {share:.2f} in this slice"
            shot = SlicePicture(case.image, plane, number, caption, {name: numbers}, truth, found)
            worst.append(Failure(share, case.name, name, shot))
    return sorted(worst, key=lambda f: f.dice)[:WORST_PER_CASE]


def _mm2(area: np.ndarray, geometry, axis: int) -> float:
    return float(area.max() * np.delete(geometry.spacing, axis).prod())


# -- without labels ------------------------------------------------------------------------------


def robustness(images: Images, model: LoadedModel, baseline: MeshNetBaseline) -> BenchSection:
    """Measure whether the result depends on the contrast: one person as T1, T2 and FLAIR, and the MNI average.

    Args:
        images: the test images.
        model: the model.
        baseline: MeshNet.
    """
    way = model.ways(BRAIN)[0]
    cases = images.stroke
    ours = {name: segment_parts(model, case.image, way)[0] for name, case in cases.items()}
    rows = []
    for name in ("T2", "FLAIR"):
        same = part_dice(ours[name], ours["T1"], labels.BRAIN_PARTS)
        row = [f"stroke, {name} against the same model's T1", cases[name].seen, mean(list(same.values())),
               _agreement(lambda s, n=name: (_merged(ours[n], s), _merged(ours["T1"], s))), None, None]  # fmt: skip
        if baseline:
            there, first = baseline.look(cases[name])[0], baseline.look(cases["T1"])[0]
            row[4] = _agreement(lambda s, a=there, b=first: (merged_mask(a, s), merged_mask(b, s)))
        rows.append(row)
    if baseline:
        compared = [("stroke T1", cases["T1"], ours["T1"])]
        try:
            compared.append(("MNI152 average T1", images.mni, segment_parts(model, images.mni.image, way)[0]))
        except InputError as error:
            rows.append([f"MNI152: {error}", None, None, None, None, None])
        for name, case, parts in compared:
            classes = baseline.look(case)[0]
            both = _agreement(lambda s, a=parts, b=classes: (_merged(a, s), merged_mask(b, s)))
            rows.append([f"{name}, MedFM-tiny against MeshNet", case.seen, None, None, None, both])
    number = _richest(ours["T1"], cases["T1"].image.geometry, "axial")
    drawn = [SlicePicture(case.image, "axial", number, f"{name}, MedFM-tiny", BRAIN_VALUES, None, ours[name])
             for name, case in cases.items()]  # fmt: skip
    shots = [shot.bare(f"{name}, slice {number}") for name, shot in zip(cases, drawn, strict=True)] + drawn
    table = Table("Brain: other contrasts, without labels",
                  "T1, T2 and FLAIR of one person after a stroke on one oblique grid; MNI152 2009 T1. Training saw neither.",
                  ("comparison", "training saw it", "ours, 27 parts", "ours, 15 merged", "MeshNet, 15 merged",
                   "ours to MeshNet, 15 merged"), rows,
                  ("Mean Dice over structures between two results, not against truth: agreement, which two wrong results "
                   "can have, too.", "MeshNet's labels of one other head may have been among what training learned from, so "
                   "agreeing with it is no independent check."))  # fmt: skip
    figure = Figure("One person, three contrasts", "The same slice; a person after a stroke, not in the training data.",
                    tuple(shots))  # fmt: skip
    return BenchSection(
        [table], [figure], summary={"Dice, T2 against T1": rows[0][2], "Dice, FLAIR against T1": rows[1][2]}
    )


def _agreement(masks) -> float | None:
    return mean([dice(*masks(name)) for name in MERGED])


def invariance(images: Images, model: LoadedModel) -> BenchSection:
    """Measure the same brain in four orders of axes, and the T1 at three other voxel sizes.

    Args:
        images: the test images.
        model: the model.
    """
    way = model.ways(BRAIN)[0]
    rows, section = [], BenchSection()
    cases = images.orientations
    ras = {
        name: in_ras_order(segment_parts(model, case.image, way)[0], case.image.geometry)[0]
        for name, case in cases.items()
    }
    for name in ras:
        if name != "RAS":
            same = part_dice(ras[name], ras["RAS"], labels.BRAIN_PARTS)
            rows.append(
                [f"average brain stored as {name}", "its result when stored as RAS", mean(list(same.values())), None]
            )
    section.summary["worst Dice between axis orders"] = min((row[2] or 0.0) for row in rows)
    for case in [images.t1] if images.quick else [images.t1, *images.spacings]:
        start = time.time()
        parts, _ = segment_parts(model, case.image, way)
        took = time.time() - start
        against = part_dice(parts, case.parts, labels.BRAIN_PARTS)
        rows.append([case.name, "FreeSurfer labels at the same voxels", mean(list(against.values())), took])
    section.tables.append(
        Table("Brain: order of axes and voxel size", "Average brain (2.4 mm) and the real T1 resampled; training saw neither.",
              ("volume", "against", "mean Dice, 27 parts", "seconds, s"), rows))  # fmt: skip
    return section


# -- synthetic heads -----------------------------------------------------------------------------


def synthetic(images: Images, model: LoadedModel) -> BenchSection:
    """Measure held-out label maps, each rendered in three contrasts.

    Args:
        images: the test images.
        model: the model.
    """
    way, rows, section = model.ways(BRAIN)[0], [], BenchSection()
    for case in images.heads:
        start = time.time()
        parts, _ = segment_parts(model, case.image, way)
        took = time.time() - start
        values = list(part_dice(parts, case.parts, labels.BRAIN_PARTS).values())
        rows.append([case.name, case.seen, mean(values), bootstrap(values), mirrored_share(parts, case.parts), took])
        section.failures += worst_slices(case, parts, case.parts, BRAIN_VALUES)
    rows.append(["mean", "", mean([r[2] for r in rows]), None, mean([r[4] for r in rows]), mean([r[5] for r in rows])])
    section.tables.append(
        Table("Synthetic whole heads, held-out label maps",
              "Intensities drawn here, not by training's code. Training saw other people's label maps, none of these.",
              ("head, contrast", "training saw it", "mean Dice, 27 parts", "95 % interval", "given to the other side",
               "seconds, s"), rows, ("Interval: bootstrap over structures of one head.",)))  # fmt: skip
    section.summary["Dice, synthetic heads, 27 parts"] = rows[-1][2]
    return section

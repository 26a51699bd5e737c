"""Measure how well the embedded model segments hippocampi and the torso, and key numbers for comparing precisions.

Every function takes the images and a model and returns a `BenchSection`. Uses cases and measures; not how models are
loaded or how results are shown.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from ...core.view import View
from ...imaging.slices import paint
from ...measure.overlap import dice, dice_of_counts, surface_distances
from . import labels
from .baselines import MeanShapes
from .bench_masks import BRAIN, HIPPOCAMPUS, TORSO, WORST_PER_CASE, interval, segment_parts, worst_slices
from .bench_measures import as_parts, part_dice
from .bench_runtime import BARE, LoadedModel, way_name
from .bench_tables import BenchSection, Figure, SlicePicture, Table, mean
from .cases import OTHER_SLICES, BenchCase, Hippocampus, Images, probes
from .sources import HELD_OUT_SLICES

LEAST_VOXELS = 60
"""Structures with fewer voxels in all tested slices of a torso are not measured."""

# -- hippocampus ---------------------------------------------------------------------------------

_DRAWN = {"anterior hippocampus": (1,), "posterior hippocampus": (2,)}
_HIPPOCAMPUS = _DRAWN | {"hippocampus": (1, 2)}


def hippocampi(images: Images, model: LoadedModel) -> BenchSection:
    """Measure crops around one manually segmented hippocampus: anterior, posterior and whole.

    Args:
        images: the test images.
        model: the model.
    """
    rows, cases = [], images.hippocampi
    section = BenchSection()
    if HIPPOCAMPUS in model.adapters:
        model.use(HIPPOCAMPUS)
        found = [model.runtime.segment_volume(case.image, list(_HIPPOCAMPUS)) for case in cases]
        for name, values in _HIPPOCAMPUS.items():
            overlap, distance = [], []
            for case, masks in zip(cases, found, strict=True):
                truth = np.isin(case.values, values)
                mask = np.asarray(masks.get(name, np.zeros_like(truth)))
                overlap.append(dice(mask, truth))
                distance.append(surface_distances(mask, truth, case.image.geometry.spacing))
            rows.append([f"{name}, adapter {HIPPOCAMPUS}", "no", len(cases), mean(overlap), interval(overlap),
                         mean([d and d[0] for d in distance]), mean([d and d[1] for d in distance])])  # fmt: skip
        section.summary["Dice, hippocampus (anterior, posterior)"] = mean([rows[0][3], rows[1][3]])
        section += _hippocampi_shots(cases, found, overlap)
    model.use(BARE)
    names = model.drawable(("left hippocampus", "right hippocampus"))
    if names:
        overlap, distance = [], []
        for case in cases:
            masks = [np.asarray(mask) for mask in model.runtime.segment_volume(case.image, names).values()]
            truth = case.values > 0
            union = np.logical_or.reduce(masks) if masks else np.zeros_like(truth)
            best = max([union, *masks], key=lambda mask, truth=truth: dice(mask, truth) or 0.0)
            overlap.append(dice(best, truth))
            distance.append(surface_distances(best, truth, case.image.geometry.spacing))
        rows.append(["hippocampus, bare base", "no", len(cases), mean(overlap), interval(overlap),
                     mean([d and d[0] for d in distance]), mean([d and d[1] for d in distance])])  # fmt: skip
    section.tables.append(
        Table("Hippocampus crops", "MSD task 4, MR crops of about 35 × 50 × 35 mm, anterior and posterior drawn by hand; "
              "people whom the adapter's training left out.",
              ("structure", "training saw it", "cases", "mean Dice", "95 % interval", "surface, mm", "95 % Hausdorff, mm"),
              rows, ("Interval: bootstrap over cases. The bare base is given neither the side nor that it is a crop: the best of "
                     "left, right and both together counts.",)))  # fmt: skip
    return section


def _hippocampi_shots(cases: list[Hippocampus], found: list[dict], overlap: list[float]) -> BenchSection:
    """Return the worst, median and best by the whole structure's Dice, and the worst slices of all."""
    drawn = []
    for case, masks in zip(cases, found, strict=True):
        ours = np.zeros(case.values.shape, np.uint8)
        for name, (value, *_) in _DRAWN.items():
            ours[masks.get(name, np.zeros(ours.shape, bool))] = value
        drawn.append(ours)
    order, shots, plane = np.argsort(overlap), [], "sagittal"
    for which, n in zip(("worst", "middle", "best"), (order[0], order[len(order) // 2], order[-1]), strict=True):
        case = cases[n]
        axis = case.image.geometry.index_axis(plane)
        number = int((case.values > 0).sum(axis=tuple(a for a in range(3) if a != axis)).argmax())
        shots.append(SlicePicture(case.image, plane, number, f"{which}: {case.name}, slice {number}"))
        shots.append(SlicePicture(case.image, plane, number, "drawn by hand", _DRAWN, case.values))
        caption = f"MedFM-tiny, Dice {overlap[n]:.2f} (whole, 3D)"
        shots.append(SlicePicture(case.image, plane, number, caption, _DRAWN, None, drawn[n]))
    figure = Figure("Pictures", "MSD task 4, drawn by hand; people whom training did not see.", tuple(shots))
    failures = [
        f for case, ours in zip(cases, drawn, strict=True) for f in worst_slices(case, ours, case.values, _DRAWN)
    ]
    return BenchSection([], [figure], sorted(failures, key=lambda f: f.dice)[:WORST_PER_CASE])


# -- torso ---------------------------------------------------------------------------------------


class DiceSums:
    """Sums for Dice, per case and structure, pooled over slices before dividing."""

    def __init__(self):
        self._sums: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(2))

    def add(self, case: str, structure: str, found: np.ndarray, truth: np.ndarray, known: np.ndarray) -> None:
        """Add one slice without its unknown voxels.

        Args:
            case: name of the case.
            structure: name of the structure.
            found: bool, result.
            truth: bool.
            known: bool, where the truth is known.
        """
        found, truth = found & known, truth & known
        self._sums[case, structure] += (np.count_nonzero(found & truth), found.sum() + truth.sum())

    def get(self, case: str, structure: str) -> float | None:
        """Return the Dice over all slices, None if there was no voxel.

        Args:
            case: name of the case.
            structure: name of the structure.
        """
        return dice_of_counts(*self._sums[case, structure])


def torso(images: Images, model: LoadedModel, data: Path) -> BenchSection:
    """Measure held-out slices of the torso volumes, compared with the mean shape of the same patient's other slices.

    Args:
        images: the test images.
        model: the model.
        data: the data folder.
    """
    section, rows = BenchSection(), []
    shapes, ways = MeanShapes(data), model.ways(TORSO)
    overlap = {way: DiceSums() for way in ("mean shape", *ways)}
    shots = []
    for case in images.torsos:
        looked = probes(case)
        names = [n for n in case.structures
                 if sum(labels.structure_mask(p.truth, n).sum() for p in looked) >= LEAST_VOXELS]  # fmt: skip
        for probe in looked:
            for name in names:
                mask = shapes.mask(case.name.replace(" ", "_"), _position(case, probe), name)
                _count(overlap["mean shape"], case, probe, name, _to_slice(mask, probe.view))
        drawn = {}
        for way in ways:
            model.use(way)
            known = model.drawable(names)
            drawn[way] = np.zeros(case.parts.shape, np.uint8)
            for probe, seen in zip(looked, model.runtime.segment([p.view for p in looked], known), strict=True):
                masks = {o.label: paint(probe.view, o) for o in seen}
                for name in known:
                    mask = masks.get(name, np.zeros(probe.truth.shape, bool))
                    _count(overlap[way], case, probe, name, mask)
                index = [slice(None)] * 3
                index[probe.view.axis] = probe.view.number
                drawn[way][tuple(index)] = as_parts(masks, probe.truth.shape)
        cells = [[overlap[way].get(case.name, name) for way in overlap] for name in names]
        for name, row in zip(names, cells, strict=True):
            rows.append([f"{case.name}: {name}", case.seen, len(looked), *row])
        rows.append([f"{case.name}: mean", case.seen, len(looked), *(mean(c) for c in zip(*cells, strict=True))])
        best = _better(overlap, ways, case, names)
        values = {name: labels.STRUCTURES[name] for name in names}
        section.failures += worst_slices(case, drawn[best], case.parts, values, case.slices)
        number = max(
            (p.view.number for p in looked),
            key=lambda k, c=case: len(np.unique(c.parts.take(k, c.image.geometry.index_axis("axial")))),
        )
        shot = SlicePicture(case.image, "axial", number, "labels", values, case.parts)
        shots += [shot.bare(f"{case.name}, slice {number}"), shot]
        shots.append(
            SlicePicture(case.image, "axial", number, f"MedFM-tiny, {way_name(best)}", values, None, drawn[best])
        )
    section.tables.append(
        Table("Torso, held-out slices", "Axial slices that were cut out of training, which saw the rest of these very "
              "patients: this measures slices between known ones, not other people.",
              ("case: structure", "training saw", "slices", "mean shape", *map(way_name, ways)), rows,
              ("Dice pooled over the slices. Mean shape: where the structure lies in most training slices at this height of "
               "this patient; it is given the height, the model is not.",)))  # fmt: skip
    section.figures.append(Figure("Pictures", f"Held-out slices. Training saw: {OTHER_SLICES}.", tuple(shots)))
    means = next((row for row in rows if row[0] == "ct torso: mean"), None)
    if means:
        section.summary["Dice, CT torso, held-out slices"] = means[4]
        section.summary["the same, mean shape of this patient"] = means[3]
    return section


def _better(overlap: dict[str, DiceSums], ways, case: BenchCase, names) -> str:
    return max(ways, key=lambda way: mean([overlap[way].get(case.name, name) or 0.0 for name in names]) or 0.0)


def _count(overlap: DiceSums, case: BenchCase, probe, name: str, mask: np.ndarray) -> None:
    overlap.add(case.name, name, mask, labels.structure_mask(probe.truth, name), probe.truth != labels.UNKNOWN_PART)


def _position(case: BenchCase, probe) -> float:
    """Return the position 0…1 in the volume of the mean shapes: training volumes lack the held-out slices."""
    n = case.image.geometry.shape[case.image.geometry.index_axis("axial")]
    gone = np.zeros(n, bool)
    for start, stop in HELD_OUT_SLICES[case.name.replace(" ", "_")]:
        gone[start:stop] = True
    return float(np.count_nonzero(~gone[: int(probe.position * n)]) / np.count_nonzero(~gone))


def _to_slice(mask: np.ndarray, view: View) -> np.ndarray:
    """Convert (64, 64) over the square to bool at the slice's voxels."""
    y, x = view.positions()
    rows, columns = (np.clip((v * len(mask)).astype(int), 0, len(mask) - 1) for v in (y, x))
    return view.to_slice(mask[np.ix_(rows, columns)])


# -- one number each, for comparing precisions ---------------------------------------------------


def key_masks(images: Images, model: LoadedModel) -> dict[str, tuple[list[np.ndarray], list[float]]]:
    """Return a mapping from name to (masks or part numbers, Dice) for the T1, ten hippocampi, and the slices of the CT torso.

    Args:
        images: the test images.
        model: the model.
    """
    found = {}
    parts, _ = segment_parts(model, images.t1.image, model.ways(BRAIN)[0])
    found["real T1, 27 parts"] = ([parts], list(part_dice(parts, images.t1.parts, labels.BRAIN_PARTS).values()))
    if HIPPOCAMPUS in model.adapters:
        model.use(HIPPOCAMPUS)
        masks, overlap = [], []
        for case in images.hippocampi[:10]:
            mask = model.runtime.segment_volume(case.image, ["hippocampus"]).get(
                "hippocampus", np.zeros(case.values.shape, bool)
            )
            masks.append(np.asarray(mask, np.uint8))
            overlap.append(dice(np.asarray(mask), case.values > 0) or 0.0)
        found["hippocampi, whole"] = (masks, overlap)
    case = images.torsos[0]
    model.use(model.ways(TORSO)[0])
    looked, names, pooled, drawn = probes(case), model.drawable(case.structures), DiceSums(), []
    for probe, seen in zip(looked, model.runtime.segment([p.view for p in looked], names), strict=True):
        masks = {o.label: paint(probe.view, o) for o in seen}
        drawn.append(as_parts(masks, probe.truth.shape))
        for name in names:
            _count(pooled, case, probe, name, masks.get(name, np.zeros(probe.truth.shape, bool)))
    values = [pooled.get(case.name, name) for name in names]
    found[f"{case.name}, held-out slices"] = (drawn, [v for v in values if v is not None])
    return found

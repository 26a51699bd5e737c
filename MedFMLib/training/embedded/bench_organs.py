"""Measure how well the embedded model segments hippocampi and the head and neck, and key numbers for precisions.

Every function takes the images and a model and returns a `BenchSection`. Uses cases and measures; not how models are
loaded or how results are shown.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ...measure.overlap import dice, surface_distances
from . import labels
from .bench_masks import BRAIN, HEAD_NECK, HIPPOCAMPUS, WORST_PER_CASE, interval, segment_parts, worst_slices
from .bench_measures import part_dice
from .bench_runtime import LoadedModel
from .bench_tables import BenchSection, Figure, SlicePicture, Table, mean
from .cases import Hippocampus, Images

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
            overlap, distance, bias = [], [], []
            for case, masks in zip(cases, found, strict=True):
                truth = np.isin(case.values, values)
                mask = np.asarray(masks.get(name, np.zeros_like(truth)))
                overlap.append(dice(mask, truth))
                distance.append(surface_distances(mask, truth, case.image.geometry.spacing))
                bias.append(100 * (np.count_nonzero(mask) / max(1, np.count_nonzero(truth)) - 1))
            rows.append([f"{name}, adapter {HIPPOCAMPUS}", "no", len(cases), mean(overlap), interval(overlap),
                         mean([d and d[0] for d in distance]), mean([d and d[1] for d in distance]), mean(bias)])  # fmt: skip
        section.summary["Dice, hippocampus, whole"] = rows[2][3]
        section.summary["bias of the hippocampus's volume, %"] = rows[2][7]
        section.summary["Dice, hippocampus (anterior, posterior)"] = mean([rows[0][3], rows[1][3]])
        section += _hippocampi_shots(cases, found, overlap)
    section.tables.append(
        Table("Hippocampus crops", "MSD task 4, MR crops of about 35 × 50 × 35 mm, anterior and posterior drawn by hand; "
              "people whom the adapter's training left out.",
              ("structure", "training saw it", "cases", "mean Dice", "95 % interval", "surface, mm", "95 % Hausdorff, mm",
               "bias of the volume, %"),
              rows, ("Interval: bootstrap over cases.",)))  # fmt: skip
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


# -- head and neck -------------------------------------------------------------------------------


def head_necks(images: Images, model: LoadedModel) -> BenchSection:
    """Measure planning CTs of patients whom training left out: every organ of every patient, and sides mixed up.

    Args:
        images: the test images.
        model: the model.
    """
    section, rows, per_organ, mixed = BenchSection(), [], defaultdict(list), 0
    model.use(HEAD_NECK)
    cases, shots = images.head_necks, []
    for case in cases:
        masks = model.runtime.segment_volume(case.image, list(labels.HEAD_NECK_STRUCTURES))
        masks = {name: np.asarray(mask) for name, mask in masks.items()}
        row = [case.name]
        for name in labels.HEAD_NECK_STRUCTURES:
            truth = case.values == case.numbers[name]
            found = masks.get(name, np.zeros_like(truth))
            row.append(dice(found, truth))
            per_organ[name].append(row[-1])
            other = labels.other_side(name)
            if other and other in masks:
                mixed += int((masks[other] & truth).sum())
        rows.append([*row, mean(row[1:])])
        section.failures += worst_slices(
            case, _as_values(masks, case), case.values, {n: (case.numbers[n],) for n in masks}
        )
        if case in cases[:3]:
            shots += _head_neck_shots(case, masks)
    columns = [per_organ[name] for name in labels.HEAD_NECK_STRUCTURES]
    rows.append(["mean", *map(mean, columns), mean([row[-1] for row in rows])])
    rows.append(["95 % interval", *map(interval, columns), interval([row[-1] for row in rows[:-1]])])
    section.tables.append(
        Table("CT of the head and neck", "OpenKBP, planning CTs of patients whom training left out; contours of their treatment. "
              "How far the cord and the esophagus are contoured follows the treated field, not anatomy.",
              ("patient", *labels.HEAD_NECK_STRUCTURES, "mean"), rows,
              (f"Voxels of a parotid gland that were given to the other side's: {mixed}.",
               "Interval: bootstrap over patients.")))  # fmt: skip
    section.figures.append(Figure("Pictures", "Patients whom training left out.", tuple(shots)))
    section.summary["Dice, CT of the head and neck, seven organs"] = rows[-2][-1]
    section.summary["the same, worst organ"] = min(rows[-2][1:-1])
    return section


def _as_values(masks: dict[str, np.ndarray], case) -> np.ndarray:
    values = np.zeros(case.values.shape, np.uint8)
    for name, mask in masks.items():
        values[mask] = case.numbers[name]
    return values


def _head_neck_shots(case, masks: dict[str, np.ndarray]) -> list[SlicePicture]:
    plane, values = "axial", {name: (case.numbers[name],) for name in labels.HEAD_NECK_STRUCTURES}
    axis = case.image.geometry.index_axis(plane)
    number = int(np.argmax([len(np.unique(np.take(case.values, k, axis))) for k in range(case.values.shape[axis])]))
    shot = SlicePicture(case.image, plane, number, "contours of the treatment", values, case.values)
    ours = SlicePicture(case.image, plane, number, "MedFM-tiny", values, None, _as_values(masks, case))
    return [shot.bare(f"{case.name}, slice {number}"), shot, ours]


# -- one number each, for comparing precisions ---------------------------------------------------


def key_masks(images: Images, model: LoadedModel) -> dict[str, tuple[list[np.ndarray], list[float]]]:
    """Return a mapping from name to (masks or part numbers, Dice) for the T1, ten hippocampi, and one CT of a head and neck.

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
    case = images.head_necks[0]
    model.use(HEAD_NECK)
    masks = model.runtime.segment_volume(case.image, list(labels.HEAD_NECK_STRUCTURES))
    values = _as_values({name: np.asarray(mask) for name, mask in masks.items()}, case)
    found[f"{case.name}, head and neck"] = (
        [values],
        [dice(values == n, case.values == n) or 0.0 for n in case.numbers.values()],
    )
    return found

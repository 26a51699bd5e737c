"""How good the embedded model is on images outside its training, beside what needs no model at all.

    python -m MedFMLib.training.bench_tiny --data DIR [--output DIR] [--quick]

Knows cases, baselines and the shipped runtime (`models.paligemma`), so that what is measured is what people get. Dice is
pooled over the looked-at slices of a volume, as for a volume with these slices. Questions with one word are right or
wrong; lists count by F1. Columns:

    nf4          as shipped: masks by the dense head, answers by the text model
    fp32         the same weights dequantized; the runtime unpacks small models on a CPU anyway, so there this equals nf4
    no adapter   the quantized base alone, with the dense head that was fitted with the adapter: unfair to the base
    tokens       masks written as location and mask tokens instead of drawn by the dense head
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from .. import resources
from ..slices import paint
from ..view import View
from . import labels
from .baselines import MeanShapes, majority_answers
from .cases import Case, Probe, find_cases, probes
from .questions import HELD_OUT_REFUSALS, REFUSAL, Exchange, exchange_of
from .questions import WORDINGS as KINDS
from .sources import HELD_OUT_SLICES

VARIANTS = {"nf4": ("nf4", True, True), "fp32": ("fp32", True, True), "no adapter": ("nf4", False, True),
            "tokens": ("nf4", True, False)}  # fmt: skip
"""Column → precision, with adapter, with dense head."""

FRAMES = {"real T1": "brain", "ct torso": "torso", "mr torso": "slab", "ct chest": "chest"}


def run(data: Path, output: Path | None = None, quick: bool = False, model: Path | None = None) -> dict:
    """Measure; write `bench-tiny.json` into `output` if given.

    Args:
        data: folder with the open test images.
        quick: fewer slices, and only what is shipped.
        model: folder of the model, the shipped one by default.

    Returns:
        {"images", "absent", "dice", "answers", "speed", …}; `format_tables` prints it.
    """
    began = time.time()
    data = Path(data)
    cases, absent = find_cases(data, quick)
    looked = {case.name: probes(case) for case in cases}
    result: dict = {
        "images": {c.name: {"about": c.about, "slices": sum(map(len, c.slices.values()))} for c in cases},
        "absent": absent,
        "dice": {},
        "answers": {},
        "speed": {},
        "quick": quick,
    }
    labelled = [c for c in cases if c.parts is not None]
    if labelled:
        result["dice"]["mean shape"] = _mean_shape_dice(data, labelled, looked)
    exchanges = _questions(looked)
    if (data / "brain_labelmaps").is_dir():
        result["answers"]["majority"] = _score(exchanges, _majority(data, exchanges))
    written: dict[str, list[str]] = {}
    for column in ("nf4",) if quick else VARIANTS:
        runtime, seconds = _load(model, column)
        start = time.time()
        result["dice"][column], failures = _model_dice(runtime, labelled, looked)
        drawn = time.time()
        count = sum(len(looked[c.name]) for c in labelled)
        speed = {"load_seconds": round(seconds, 2), "seconds_per_slice": round((drawn - start) / max(1, count), 3)}
        if column != "tokens":  # its answers are those of "nf4"
            written[column] = [runtime.write([p.view], text=_question(e)) for p, e in exchanges]
            result["answers"][column] = _score(exchanges, written[column])
            speed["seconds_per_answer"] = round((time.time() - drawn) / max(1, len(exchanges)), 3)
        result["speed"][column] = speed
        result["presence_of_masks"] = result.get("presence_of_masks", {}) | {column: failures}
    if "fp32" in written:
        same = [a == b for a, b in zip(written["nf4"], written["fp32"], strict=True)]
        result["nf4_and_fp32_answers_agree"] = round(float(np.mean(same)), 3)
    result["seconds"] = round(time.time() - began, 1)
    result["date"] = time.strftime("%Y-%m-%d")
    if output is not None:
        Path(output).mkdir(parents=True, exist_ok=True)
        (Path(output) / "bench-tiny.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def _load(folder: Path | None, column: str):
    """(runtime of a column of `VARIANTS`, seconds that loading took)."""
    from ..models import paligemma

    precision, adapted, dense = VARIANTS[column]
    folder = Path(folder) if folder else resources.path("models", "medfm-tiny")
    config = json.loads((folder / "base" / "config.json").read_text())
    card = paligemma.card_for_folder(folder, config)
    adapter = str(folder / "adapters" / "default") if adapted and (folder / "adapters" / "default").is_dir() else ""
    start = time.time()
    runtime = paligemma.load(card, adapter, precision, _Quiet())
    if not dense:
        runtime.head = None
    return runtime, time.time() - start


class _Quiet:
    """Progress that nobody watches."""

    def stage(self, *_, **__) -> None: ...

    def fraction(self, *_, **__) -> None: ...


# -- masks ---------------------------------------------------------------------------------------


class _Overlap:
    """Sums for Dice, per case, plane and structure."""

    def __init__(self):
        self._sums: dict[tuple[str, str, str], np.ndarray] = defaultdict(lambda: np.zeros(2))

    def add(
        self, case: str, plane: str, structure: str, found: np.ndarray, truth: np.ndarray, known: np.ndarray
    ) -> None:
        found, truth = found & known, truth & known
        self._sums[case, plane, structure] += (2.0 * np.count_nonzero(found & truth), found.sum() + truth.sum())

    def table(self) -> dict[str, dict[str, float]]:
        """case → structure → Dice over all planes, with a "mean"; "case, plane" rows give the mean per plane."""
        result: dict[str, dict[str, float]] = {}
        for case in dict.fromkeys(key[0] for key in self._sums):
            for plane in (None, *dict.fromkeys(key[1] for key in self._sums if key[0] == case)):
                row: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
                for (c, p, structure), sums in self._sums.items():
                    if c == case and plane in (None, p):
                        row[structure] = row[structure] + sums
                dice = {s: round(float(v[0] / v[1]), 3) for s, v in row.items() if v[1] > 0}
                mean = round(float(np.mean(list(dice.values()))), 3) if dice else 0.0
                result[case if plane is None else f"{case}, {plane}"] = (
                    dice | {"mean": mean} if plane is None else {"mean": mean}
                )
        return result


def _truth_names(case: Case, looked: list[Probe], plane: str) -> list[str]:
    """Structures with enough voxels in the looked-at slices to measure; in sagittal slices, which look alike on both sides
    of the patient, only those without a side."""
    names = [s for s in case.structures if sum(labels.structure_mask(p.truth, s).sum() for p in looked) >= 60]
    return [s for s in names if plane != "sagittal" or labels.other_side(s) is None]


def _mean_shape_dice(data: Path, cases: list[Case], looked: dict[str, list[Probe]]) -> dict:
    shapes, overlap = MeanShapes(data), _Overlap()
    for case in cases:
        for probe in looked[case.name]:
            frame = FRAMES.get(case.name, "head")
            for structure in _truth_names(case, looked[case.name], probe.view.plane):
                mask = shapes.mask(frame, probe.view.plane, _frame_position(case, probe), structure)
                found = _to_slice(mask, probe.view)
                overlap.add(case.name, probe.view.plane, structure, found, labels.structure_mask(probe.truth, structure),
                            probe.truth != labels.UNKNOWN_PART)  # fmt: skip
    return overlap.table()


def _frame_position(case: Case, probe: Probe) -> float:
    """Position 0…1 through what the mean shapes are aligned to: training volumes lack the held-out slices."""
    cut_out = HELD_OUT_SLICES.get(case.name.replace(" ", "_"))
    if not cut_out or probe.view.plane != "axial":
        return probe.position
    n = case.image.geometry.shape[case.image.geometry.index_axis("axial")]
    gone = np.zeros(n, bool)
    for start, stop in cut_out:
        gone[start:stop] = True
    return float(np.count_nonzero(~gone[: int(probe.position * n)]) / np.count_nonzero(~gone))


def _to_slice(mask: np.ndarray, view: View) -> np.ndarray:
    """(64, 64) over the square → bool at the slice's voxels."""
    y, x = view.positions()
    rows, columns = (np.clip((v * len(mask)).astype(int), 0, len(mask) - 1) for v in (y, x))
    return view.to_slice(mask[np.ix_(rows, columns)])


def _model_dice(runtime, cases: list[Case], looked: dict[str, list[Probe]]) -> tuple[dict, dict]:
    overlap, wrong = (
        _Overlap(),
        {"asked though absent": 0, "drawn though absent": 0, "asked though present": 0, "missed": 0},
    )
    for case in cases:
        by_plane: dict[str, list[Probe]] = defaultdict(list)
        for probe in looked[case.name]:
            by_plane[probe.view.plane].append(probe)
        for plane, group in by_plane.items():
            names = _truth_names(case, looked[case.name], plane)
            for probe, seen in zip(group, runtime.segment([p.view for p in group], names), strict=True):
                drawn = {o.label: paint(probe.view, o) for o in seen}
                for structure in names:
                    truth = labels.structure_mask(probe.truth, structure)
                    found = drawn.get(structure, np.zeros_like(truth))
                    overlap.add(case.name, plane, structure, found, truth, probe.truth != labels.UNKNOWN_PART)
                    if structure in probe.scene.missing:
                        wrong["asked though absent"] += 1
                        wrong["drawn though absent"] += bool(found.any())
                    elif structure in probe.scene.visible:
                        wrong["asked though present"] += 1
                        wrong["missed"] += not found.any()
    return overlap.table(), wrong


# -- questions -----------------------------------------------------------------------------------


def _questions(looked: dict[str, list[Probe]]) -> list[tuple[Probe, Exchange]]:
    """Every kind of question about every second or so slice, seeded."""
    result = []
    for number, probe in enumerate(p for group in looked.values() for p in group):
        rng = np.random.default_rng((55, number))
        if probe.case.parts is None:
            kinds = ["modality", "plane", "refusal", *(["body part"] if probe.case.region == "head" else [])]
        else:
            kinds = list(KINDS) if number % 3 == 0 else ["plane", "presence", "largest", "side"]
        for kind in kinds:
            scene = probe.scene
            if kind == "refusal":
                question = str(rng.choice(HELD_OUT_REFUSALS if number % 2 else KINDS["refusal"]))
                kind = "refusal (unseen questions)" if number % 2 else kind
                result.append((probe, Exchange(f"answer en {question}", REFUSAL, kind)))
            elif kind == "body part" and scene.region == "head":
                result.append((probe, Exchange("answer en which part of the body is this?", "head", kind)))
            elif (exchange := exchange_of(scene, kind, rng)) is not None:
                result.append((probe, exchange))
    return result


def _question(exchange: Exchange) -> str:
    return exchange.prompt.removeprefix("answer en ")


def _majority(data: Path, exchanges: list[tuple[Probe, Exchange]]) -> list[str]:
    common = majority_answers(data)
    return [common.get(e.kind.split(" (")[0], "") for _, e in exchanges]


def _score(exchanges: list[tuple[Probe, Exchange]], answers: list[str]) -> dict[str, dict[str, float]]:
    """kind → {"accuracy", "count"}."""
    points: dict[str, list[float]] = defaultdict(list)
    for (_, exchange), answer in zip(exchanges, answers, strict=True):
        points[exchange.kind].append(_right(exchange, answer))
    refused = [a.strip() == REFUSAL for (_, e), a in zip(exchanges, answers, strict=True) if "refusal" not in e.kind]
    table = {kind: {"accuracy": round(float(np.mean(p)), 3), "count": len(p)} for kind, p in points.items()}
    table["refused though answerable"] = {"accuracy": round(float(np.mean(refused)), 3), "count": len(refused)}
    return table


def _right(exchange: Exchange, answer: str) -> float:
    if exchange.kind != "visible structures":
        return float(answer.strip().lower() == exchange.answer.lower())
    wanted, got = ({n.strip() for n in text.split(",")} for text in (exchange.answer, answer))
    return 2 * len(wanted & got) / (len(wanted) + len(got))


# -- words ---------------------------------------------------------------------------------------


def format_tables(result: dict) -> str:
    """The result for people: Dice per structure and accuracy per kind of question, model beside baseline."""
    columns = [c for c in ("mean shape", *VARIANTS) if c in result["dice"]]
    lines = ["Dice on images outside training (pooled over the looked-at slices)", ""]
    for case, facts in result["images"].items():
        rows = [result["dice"][c].get(case) for c in columns]
        if not any(rows):
            continue
        lines += [f"{case}: {facts['about']} ({facts['slices']} slices)", _row("", columns)]
        for structure in dict.fromkeys(s for r in rows if r for s in r):
            lines.append(_row(f"  {structure}", [(r or {}).get(structure) for r in rows]))
        for plane in ("axial", "coronal", "sagittal"):
            key = f"{case}, {plane}"
            if any(key in result["dice"][c] for c in columns) and len(columns):
                lines.append(_row(f"  mean, {plane}", [result["dice"][c].get(key, {}).get("mean") for c in columns]))
        lines.append("")
    columns = [c for c in ("majority", *VARIANTS) if c in result["answers"]]
    lines += ["Answers (share right; lists by F1)", _row("", [*columns, "count"])]
    for kind in dict.fromkeys(k for c in columns for k in result["answers"][c]):
        cells = [result["answers"][c].get(kind, {}).get("accuracy") for c in columns]
        count = next((result["answers"][c][kind]["count"] for c in columns if kind in result["answers"][c]), "")
        lines.append(_row(f"  {kind}", [*cells, str(count)]))
    for precision, speed in result["speed"].items():
        answer = f", {speed['seconds_per_answer']} s per answer" if "seconds_per_answer" in speed else ""
        lines.append(
            f"{precision}: loads in {speed['load_seconds']} s, {speed['seconds_per_slice']} s per slice{answer}"
        )
    if "nf4_and_fp32_answers_agree" in result:
        lines.append(f"nf4 and fp32 give the same answer to {result['nf4_and_fp32_answers_agree']:.1%} of questions")
    for precision, wrong in result.get("presence_of_masks", {}).items():
        lines.append(f"{precision}: {wrong['drawn though absent']} of {wrong['asked though absent']} absent structures drawn, "
                     f"{wrong['missed']} of {wrong['asked though present']} visible ones missed")  # fmt: skip
    for sentence in result["absent"]:
        lines.append(f"Not measured: {sentence}")
    lines.append(f"{result['seconds']} s on {result['date']}. Research use only.")
    return "\n".join(lines)


def _row(name: str, cells: list) -> str:
    return f"{name:34}" + "".join(f"{'–' if c is None else c if isinstance(c, str) else f'{c:.3f}':>12}" for c in cells)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    print(format_tables(run(options.data, options.output, options.quick, options.model)))


if __name__ == "__main__":
    main()

"""Measure the embedded model on images outside its training, compared with baselines and a published model.

    medfm bench-tiny --data DIR [--output DIR] [--quick] [--model DIR] [--unquantized DIR] [--pretrained DIR]

Runs the parts of the bench in order and shows them: tables on the terminal, `bench-tiny.json`, and one page with
pictures, `bench-tiny.html`. The measurements are in `bench_masks`, `bench_clinical`, `bench_organs`,
`bench_domain` and `bench_answers`; the images in `cases`.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ...errors import MedFMError
from ...measure.overlap import dice
from . import bench_answers, bench_clinical, bench_domain, bench_masks, bench_organs
from .baselines import majority_answers
from .bench_page import page
from .bench_runtime import (
    BARE,
    LoadedModel,
    file_sizes,
    open_model,
    shipped,
    switch_milliseconds,
    way_name,
    with_other_base,
)
from .bench_tables import BenchSection, SlicePicture, Table, as_text, mean
from .cases import Images, probes
from .meshnet import FOLDER

PER_KIND, PER_KIND_QUICK = 40, 4
"""Number of questions of each kind."""

Open = Callable[[Path, str], LoadedModel]


def run(
    data: Path,
    output: Path | None = None,
    quick: bool = False,
    model: Path | None = None,
    pretrained: Path | None = None,
    unquantized: Path | None = None,
    open_: Open = open_model,
    only: str = "",
    tell: Callable[[str], None] = lambda _: None,
) -> dict:
    """Measure; write `bench-tiny.json` and `bench-tiny.html` into `output` if given.

    Args:
        data: folder with the open test images.
        output: destination, or None.
        quick: fewer of everything and no published model, for a smoke test.
        model: folder of the model, the shipped one by default.
        pretrained: folder with the published model's weights; by default `pretrained` next to `data`.
        unquantized: folder with the unquantized base, to compare precisions.
        open_: loads a folder in a precision.
        only: measure only the part whose heading starts with this text, e.g. "brain".
        tell: receives a line when a part begins.

    Returns:
        {"tables", "summary", "absent", "date", "command", "seconds", …}; `format_tables` prints it.
    """
    began = time.time()
    data, folder = Path(data), Path(model) if model else shipped()
    images, absent = Images(data, quick), []
    baseline = _baseline(Path(pretrained) if pretrained else data.parent / "pretrained", quick, absent)
    shown = open_(folder, "nf4")
    sections: list[tuple[str, BenchSection]] = []

    def wanted(heading: str) -> bool:
        if not heading.lower().startswith(only.lower()):
            return False
        tell(f"{time.time() - began:5.0f} s  {heading}")
        return True

    def add(heading: str, make: Callable[[], BenchSection]) -> None:
        if not wanted(heading):
            return
        try:
            sections.append((heading, make()))
        except MedFMError as error:  # a missing folder or an unknown label must not stop the other parts
            absent.append(f"{heading.lower()}: {error}")

    add("Brain T1", lambda: bench_masks.brain(images, shown, baseline))
    if not quick:
        add("Robustness", lambda: bench_masks.robustness(images, shown, baseline))
    add("Invariance", lambda: bench_masks.invariance(images, shown))
    if not quick:
        add("Synthetic heads", lambda: bench_masks.synthetic(images, shown))
        add("Thick slices", lambda: bench_clinical.thick(images, shown))
    add("Clinical heads", lambda: bench_clinical.clinical(images, shown))
    add("Hippocampus", lambda: bench_organs.hippocampi(images, shown))
    add("CT of the head and neck", lambda: bench_organs.head_necks(images, shown))
    if not quick:
        add("Domain", lambda: bench_domain.domain(images, shown))
    asked = bench_answers.AnswerSet([])
    if wanted("Answers"):
        asked = _ask(images, shown, data, quick, absent, sections)
    if unquantized:
        add("Precision", lambda: _precisions(images, shown, folder, Path(unquantized), asked, open_))
    add("Speed and size", lambda: _speed(images, shown, folder, asked))
    command = shlex.join(["medfm", *sys.argv[1:]])
    result = {
        "tables": [asdict(table) for _, section in sections for table in section.tables],
        "summary": {name: value for _, section in sections for name, value in section.summary.items()},
        "worst": [{"dice": f.dice, "case": f.case, "structure": f.structure} for _, s in sections for f in s.failures],
        "absent": absent,
        "quick": quick,
        "command": command,
        "date": time.strftime("%Y-%m-%d"),
    }
    if output is not None:
        Path(output).mkdir(parents=True, exist_ok=True)
        wrong = _wrong(asked)
        html = page(sections, wrong, absent, result["date"], command, time.time() - began)
        (Path(output) / "bench-tiny.html").write_text(html, encoding="utf-8")
    result["seconds"] = round(time.time() - began, 1)
    result = json.loads(json.dumps(result, default=float))
    if output is not None:
        (Path(output) / "bench-tiny.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _baseline(pretrained: Path, quick: bool, absent: list[str]) -> bench_masks.MeshNetBaseline:
    folder = pretrained / FOLDER
    if quick or not (folder / "model.safetensors").is_file():
        why = "--quick skips it" if quick else f"its weights are not in '{pretrained.name}', see --pretrained"
        absent.append(f"the baseline MeshNet: {why}.")
        return bench_masks.MeshNetBaseline(None)
    return bench_masks.MeshNetBaseline(folder)


# -- answers -------------------------------------------------------------------------------------

SHIPPED = "as shipped"


def _ask(
    images: Images, model: LoadedModel, data: Path, quick: bool, absent: list[str], sections
) -> bench_answers.AnswerSet:
    cases, missing = images.for_questions()
    absent += missing
    asked = bench_answers.AnswerSet(bench_answers.choose_questions(cases, PER_KIND_QUICK if quick else PER_KIND))
    if not asked.exchanges:
        return asked
    if not quick:
        try:
            asked.written["majority"] = bench_answers.majority(majority_answers(data), asked.exchanges)
        except MedFMError as error:
            absent.append(f"the most common answers of training: {error}")
    model.use(BARE)
    asked.written["no picture"] = bench_answers.answer_all(model.runtime, asked.exchanges, with_picture=False)
    start = time.time()
    asked.written[SHIPPED] = bench_answers.answer_all(model.runtime, asked.exchanges)
    seconds = (time.time() - start) / len(asked.exchanges)
    table = bench_answers.table(asked, SHIPPED)
    kinds = table.rows[-1]
    column = table.columns.index
    sections.append(("Answers", BenchSection([table], summary={
        "answers right, mean of kinds": kinds[column(SHIPPED)],
        "the same without the picture": kinds[column("no picture")],
        "refused though answerable": kinds[-1],
        "seconds per answer": seconds,
    })))  # fmt: skip
    return asked


def _wrong(asked: bench_answers.AnswerSet) -> list[tuple[SlicePicture, str, str, str]]:
    if SHIPPED not in asked.written:
        return []
    return [
        (SlicePicture(probe.case.image, probe.view.plane, probe.view.number, f"{probe.case.name}, {probe.view.plane} slice "
              f"{probe.view.number}"), exchange.prompt.removeprefix("answer en "), exchange.answer, answer)
        for probe, exchange, answer in bench_answers.wrong_answers(asked, SHIPPED)
    ]  # fmt: skip


# -- precision -----------------------------------------------------------------------------------


def _precisions(images: Images, shown: LoadedModel, folder: Path, base: Path, asked, open_: Open) -> BenchSection:
    """Compare the unquantized base in fp32 and in int8, with the same adapters and heads, with the shipped model."""
    first, rows = bench_organs.key_masks(images, shown), []
    seen: dict[str, dict] = {}
    answers: dict[str, list[str]] = {}
    with ExitStack() as stack:
        other = stack.enter_context(with_other_base(folder, base))
        for precision in ("fp32", "int8"):
            model = open_(other, precision)
            seen[precision] = bench_organs.key_masks(images, model)
            model.use(BARE)
            answers[precision] = bench_answers.answer_all(model.runtime, asked.exchanges)
    for what, (masks, overlap) in first.items():
        row = [what, mean(overlap)]
        for there in seen.values():
            others, values = there[what]
            row += [mean(values), mean([dice(a == n, b == n) for a, b in zip(masks, others, strict=True)
                                        for n in np.union1d(a, b) if n])]  # fmt: skip
        rows.append(row)
    if asked.exchanges:
        row = ["answers", mean(_points(asked, asked.written[SHIPPED]))]
        for written in answers.values():
            same = [float(a == b) for a, b in zip(written, asked.written[SHIPPED], strict=True)]
            row += [mean(_points(asked, written)), mean(same)]
        rows.append(row)
    return BenchSection([Table(
        "Quantization", "The unquantized base with the shipped adapters and heads; images as above.",
        ("what", "nf4, as shipped", "fp32", "fp32 to nf4", "int8", "int8 to nf4"), rows,
        ("Masks: mean Dice against the truth; “to nf4”: mean Dice between the two results. Answers: share right; “to nf4”: "
         "share of the same answers, letter by letter.",))])  # fmt: skip


def _points(asked: bench_answers.AnswerSet, answers: list[str]) -> list[float]:
    return [
        bench_answers.points(exchange, answer) for (_, exchange), answer in zip(asked.exchanges, answers, strict=True)
    ]


# -- speed ---------------------------------------------------------------------------------------


def _speed(images: Images, model: LoadedModel, folder: Path, asked: bench_answers.AnswerSet) -> BenchSection:
    way = model.ways(bench_masks.BRAIN)[0]
    model.use(way)
    views = [probe.view for probe in probes(images.t1)]
    start = time.time()
    model.runtime.segment(views, model.drawable(images.t1.structures))
    rows = [["loading the model", model.seconds, "s"],
            [f"segmenting a slice ({len(views)} at once, {way_name(way)})", (time.time() - start) / len(views), "s"]]  # fmt: skip
    model.use(BARE)
    if asked.exchanges:
        some = asked.exchanges[:: max(1, len(asked.exchanges) // 12)]
        start = time.time()
        bench_answers.answer_all(model.runtime, some)
        rows.append([f"answering, per question ({len(some)} of all kinds)", (time.time() - start) / len(some), "s"])
    for name, took in switch_milliseconds(model).items():
        rows.append([f"switching to adapter {name}", took, "ms"])
    for name, megabytes in file_sizes(folder).items() if folder.is_dir() else ():
        rows.append([f"file size, {name}", megabytes, "MB"])
    import torch

    about = (
        f"On {torch.get_num_threads()} threads; seconds per brain volume and peak memory are with the brain T1 above."
    )
    table = Table("Speed and size", about, ("what", "value", "unit"), [[n, f"{v:.3g}" if v < 100 else f"{v:.0f}", u]
                                                                       for n, v, u in rows])  # fmt: skip
    return BenchSection([table], summary={"seconds to load": rows[0][1], "all files, MB": next(
        (r[1] for r in rows if r[0] == "file size, total"), None)})  # fmt: skip


# -- texts ---------------------------------------------------------------------------------------


def format_tables(result: dict) -> str:
    """Return the result as text: every table, what was not measured, and the notice."""
    lines = []
    for table in result["tables"]:
        lines += [as_text(Table(**table)), ""]
    lines += [f"Not measured: {sentence}" for sentence in result["absent"]]
    lines.append(f"{result['seconds']} s on {result['date']}: {result['command']}")
    lines.append("Research use only.")
    return "\n".join(lines)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    for option in ("--output", "--model", "--pretrained", "--unquantized"):
        parser.add_argument(option, type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="")
    o = parser.parse_args()
    print(format_tables(run(o.data, o.output, o.quick, o.model, o.pretrained, o.unquantized, only=o.only)))


if __name__ == "__main__":
    main()

"""Train the guard's intent models, measure them on held-out authors, and print the tables."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from ...guard import intent_model
from ...guard.deciding import Thresholds
from ...guard.intent_model import IntentModel
from ...storage import resources
from . import fitting, lines, measuring, pretrained, public
from .pretrained import Pretrained

OWN = "own_templates"
ALWAYS = ("answers", "other_languages")
"""Persona files that are no patient's questions in a known language, so that none is held out."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `train`, `folds` or `tables`."""
    parser = argparse.ArgumentParser(prog="python -m MedFMLib.training.guard", description=__doc__)
    parser.add_argument("what", choices=("train", "folds", "tables"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with patient_language")
    parser.add_argument("--weights", type=Path, default=Path("out/guard"), help="folder of the pretrained weights")
    parser.add_argument("--personas", type=Path, default=resources.path("training", "guard"))
    parser.add_argument("--work", type=Path, default=Path("out/guard"), help="where the folds are kept")
    parser.add_argument("--output", type=Path, default=resources.path("guard", "intents.safetensors"))
    parser.add_argument("--tests", type=Path, default=Path("Testing/guard"), help="items of the first guard")
    parser.add_argument("--only", nargs="*", default=(), help="authors to hold out; all by default")
    parser.add_argument("--together", type=int, default=1, help="personas that are held out at a time")
    parser.add_argument(
        "--again", action="store_true", help="judge again by the folds' models instead of training them"
    )
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args(arguments)
    {"train": _train, "folds": _folds, "tables": _tables}[chosen.what](chosen)


def _items(chosen: argparse.Namespace) -> list[lines.Item]:
    written = lines.read_folder(chosen.personas) + lines.approved()
    return public.read(chosen.data / "patient_language") + written


def _train(chosen: argparse.Namespace) -> None:
    from safetensors.numpy import save_file

    started = time.monotonic()
    tensors = fitting.train(_items(chosen), Pretrained(pretrained.fetch(chosen.weights)))
    save_file(tensors, chosen.output)
    size = chosen.output.stat().st_size / 1e6
    print(f"Wrote {chosen.output}, {size:.1f} MB, after {time.monotonic() - started:.0f} s.")


def _groups(chosen: argparse.Namespace) -> list[tuple[str, ...]]:
    """Return the authors that are held out together, one group a training."""
    written = [file.stem for file in sorted(chosen.personas.glob("*.txt")) if file.stem not in ALWAYS]
    count = -(-len(written) // chosen.together)
    groups = [(*measuring.SOURCES, OWN), *(tuple(written[n::count]) for n in range(count))]
    return [group for group in groups if not chosen.only or set(chosen.only) & set(group)]


def _folds(chosen: argparse.Namespace) -> None:
    groups = _groups(chosen)
    with ProcessPoolExecutor(chosen.processes) as pool:
        for names, seconds in pool.map(_fold, groups, [chosen] * len(groups)):
            print(f"{', '.join(names)}: {seconds:.0f} s", flush=True)


def _fold(names: Sequence[str], chosen: argparse.Namespace) -> tuple[Sequence[str], float]:
    import torch
    from safetensors.numpy import save_file

    torch.set_num_threads(1)
    started = time.monotonic()
    known, held = measuring.without(_items(chosen), names)
    kept = chosen.work / f"{'-'.join(names)}.safetensors"
    if not (chosen.again and kept.is_file()):
        chosen.work.mkdir(parents=True, exist_ok=True)
        save_file(fitting.train(known, Pretrained(pretrained.fetch(chosen.weights))), kept)
    model = IntentModel(intent_model.read(kept))
    for name in names:
        measuring.save(measuring.judge(model, [i for i in held if i.author == name]), chosen.work / f"{name}.jsonl")
    return names, time.monotonic() - started


def _tables(chosen: argparse.Namespace) -> None:
    limits = Thresholds()
    groups = {file.stem: measuring.saved(file) for file in sorted(chosen.work.glob("*.jsonl"))}
    personas = {n: g for n, g in groups.items() if n not in (OWN, *measuring.SOURCES)}
    english = {n: found for n, g in personas.items() if (found := [j for j in g if j.item.language == "en"])}
    every = [j for g in english.values() for j in g]
    print(
        f"Thresholds: {json.dumps(vars(limits))}\n\nEnglish, one author left out at a time; percent with 95 % intervals\n"
    )
    print(measuring.table(english | {"all": every}, limits))
    print(f"\nEmergencies, English\n\n{measuring.by_kind(every, limits)}\n\nOther languages, one author left out\n")
    others = [j for g in personas.values() for j in g if j.item.language != "en"]
    languages = {
        lang: [j for j in others if j.item.language == lang] for lang in sorted({j.item.language for j in others})
    }
    print(measuring.table(languages | {"all": others}, limits))
    sources = {n: g for n, g in groups.items() if n in (OWN, *measuring.SOURCES)}
    print(f"\nSources, each left out (the first four together)\n\n{measuring.table(sources, limits)}")
    written = {"English": [j.item for j in every], "other languages": [j.item for j in others]}
    print(f"\nThe first guard on the same questions\n\n{measuring.first_table(written)}")
    if chosen.output.is_file():
        model = IntentModel(intent_model.read(chosen.output))
        outside = measuring.outside(chosen.data / "patient_language", chosen.tests)
        judged = {name: measuring.judge(model, items) for name, items in outside.items()}
        print(f"\nThe shipped model on what is never trained on\n\n{measuring.table(judged, limits)}")
        exams = [j for name, found in judged.items() if name.startswith("exam") for j in found]
        print(f"\nEmergencies of the exams\n\n{measuring.by_kind(exams, limits)}\n\nThe exams, by language\n")
        spoken = sorted({j.item.language for j in exams})
        by_language = {lang: [j for j in exams if j.item.language == lang] for lang in spoken}
        print(measuring.table(by_language, limits))
        print(f"\n{measuring.first_table(outside)}")


if __name__ == "__main__":
    main()

"""Provide `medfm finetune` and `medfm eval`: train a site's own adapter, and evaluate it. Parses options and prints."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.request import DEFAULT_MODEL
from ..errors import InputError
from .model_store import out, say
from .options import Json
from .running import progress
from .tables import print_table

Data = Annotated[Path, typer.Argument(metavar="DATA", help="A data set, made by `medfm data build`.")]
Run = Annotated[Path, typer.Option("--output", "-o", help="Folder of the training.")]
Kinds = Annotated[list[str] | None, typer.Option("--kind", help="text, boxes or masks; repeat. Text if left out.")]
Categories = Annotated[list[str] | None, typer.Option("--category", help="Only this kind of question; repeat.")]
ModelOption = Annotated[str, typer.Option("--model", "-m", help="The base: id or folder.")]
Precision = Annotated[str, typer.Option(help="Of the frozen base; nf4 or int8 is QLoRA.")]
Most = Annotated[int, typer.Option(help="Number of held-out pairs to evaluate.", min=1)]
Seed = Annotated[int, typer.Option(help="Of everything.")]


def finetune(
    data: Data, output: Run, model: ModelOption = DEFAULT_MODEL, precision: Precision = "",
    name: Annotated[str, typer.Option(help="Installs it under this name, where the panel finds it.")] = "",
    targets: Annotated[str, typer.Option(help="text: the language model; all: the vision tower, too.")] = "text",
    rank: Annotated[int, typer.Option(help="Of the LoRA.")] = 8, alpha: Annotated[int, typer.Option(help="Of the LoRA.")] = 32,
    batch: Annotated[int, typer.Option(help="Pictures in one pass.")] = 4,
    accumulation: Annotated[int, typer.Option(help="Passes in one step.")] = 4,
    rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-4,
    clip: Annotated[float, typer.Option(help="Largest norm of the gradient; 0 for none.")] = 1.0,
    epochs: Annotated[float, typer.Option(help="Number of passes over the data.")] = 2.0,
    steps: Annotated[int, typer.Option(help="Largest number of steps; 0 for as many as epochs need.")] = 0,
    schedule: Annotated[str, typer.Option(help="cosine or constant.")] = "cosine",
    compute: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    checkpointing: Annotated[bool, typer.Option(help="Recompute activations to store fewer of them.")] = False,
    low_memory: Annotated[bool, typer.Option("--low-memory", help="On a CPU: lower peak memory, slower.")] = False,
    patience: Annotated[int, typer.Option(help="Evaluations without progress before it ends; 0: never.")] = 4,
    every: Annotated[int, typer.Option(help="Steps between evaluations, and between checkpoints.")] = 50,
    kinds: Kinds = None, categories: Categories = None, seed: Seed = 0, most: Most = 300,
    licence: Annotated[str, typer.Option(help="Of the adapter; that of the data if left out.")] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Continue where it was killed or stopped.")] = False,
    order: Annotated[str, typer.Option("--tell", help="Send a running training an order: pause, resume or stop.")] = "",
    estimate: Annotated[bool, typer.Option("--estimate", help="Print the required memory and time, and exit.")] = False,
    on_paper: Annotated[bool, typer.Option("--on-paper", help="The same from the model's config; no weights needed.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Logs for it, too; needs the package.")] = False,
    judge: Annotated[bool, typer.Option("--judge/--no-judge", help="Evaluate on held-out patients afterwards.")] = True,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Train a LoRA adapter on a site's data set; resumable, monitored, and evaluated on held-out patients."""
    from ..training.finetune import control
    from ..training.finetune.settings import TrainingSettings

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if order:
        control.order(output, order)
        return say(f"Sent: {order}; it takes effect after the current step.")
    settings = TrainingSettings(
        model=model, precision=precision, targets=targets, rank=rank, alpha=alpha, batch=batch, accumulation=accumulation,
        rate=rate, clip=clip, epochs=epochs, steps=steps, schedule=schedule, compute=compute, checkpointing=checkpointing,
        low_memory=low_memory, patience=patience, evaluate_every=every, save_every=every, kinds=tuple(kinds or ("text",)),
        categories=tuple(categories or ()), seed=seed,
    )  # fmt: skip
    if on_paper:
        return _on_paper(settings, as_json)
    if estimate:
        return _estimate(data, settings, as_json)
    if resume:
        control.order(output, "resume")
    from ..training.finetune import making, run

    with progress(as_json) as bar:
        if not judge:
            trained = run.train(data, output, settings, bar, resume, tensorboard)
            result: dict[str, Any] = {
                "folder": str(trained.adapter),
                "steps": trained.steps,
                "training": trained.watched,
            }
        elif int(os.environ.get("RANK", "0")):  # of several processes, the first one evaluates
            run.train(data, output, settings, bar, resume, tensorboard)
            return None
        else:
            result = making.finetune(data, output, settings, name=name, licence=licence, resume=resume, most=most,
                                     tensorboard=tensorboard, progress=bar)  # fmt: skip
    if as_json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
        return None
    if judge:
        _show(result["results"])
        say(making.sentence(result))
        for text in (*result["verdict"]["notes"], *result["training"]["watched"]["warnings"]):
            say(text)
    say(f"The adapter: {result['folder']}")
    return None


def _on_paper(settings, as_json: bool) -> None:
    from dataclasses import asdict

    from ..model_store.files import gigabytes
    from ..training.finetune import estimate

    parts, weights = estimate.on_paper(settings.model, settings)
    if as_json:
        print(json.dumps({"bytes": asdict(parts), "total": parts.total, "trained_weights": weights}, indent=2))
        return
    for name, size in asdict(parts).items():
        say(f"{name:12} {gigabytes(size):>9}  {size:>14,} bytes")
    learn = f"{weights:,} weights are trained (LoRA rank {settings.rank})"
    say(f"{'total':12} {gigabytes(parts.total):>9}  {parts.total:>14,} bytes; {learn}.")


def _estimate(data: Path, settings, as_json: bool) -> None:
    from ..training.data.dataset import Dataset
    from ..training.finetune import run

    with progress(as_json) as bar:
        found = run.estimated(Dataset.load(data), settings, bar)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    say(found["says"])
    if found["verified"]:
        say(found["verified"])
    say(f"{found['steps']} steps of {found['seconds_per_step']:.2f} s by a dry run: about {found['minutes']:.1f} minutes, "
        f"on {found['threads']} threads; the gradient's norm at the start is {found['norm']:.3g}.")  # fmt: skip


def evaluate(
    data: Data,
    adapter: Annotated[str, typer.Option("--adapter", help="Name of an installed adapter, or folder.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for adapter-eval.json and .html.")] = None,
    model: ModelOption = DEFAULT_MODEL, precision: Precision = "", kinds: Kinds = None, categories: Categories = None,
    split: Annotated[str, typer.Option(help="Whose patients: test, validation or train.")] = "test",
    seed: Seed = 0, most: Most = 300, as_json: Json = False,
) -> None:  # fmt: skip
    """Evaluate a base and its adapter on held-out patients: scores, safety, calibration, and dependence on the image."""
    from ..interfaces import registry
    from ..models.runtime.adapters import adapter_folder
    from ..storage import adapter_card
    from ..training.data.samples import SPLITS
    from ..training.finetune import judging, making, page
    from ..training.finetune.settings import TrainingSettings

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if split not in SPLITS:
        raise InputError(f"There is no split '{split}'; choose one of {', '.join(SPLITS)}.")
    settings = TrainingSettings(
        model=model, precision=precision, kinds=tuple(kinds or ("text",)), categories=tuple(categories or ()), seed=seed
    )
    with adapter_card.judging():
        folder = adapter_folder(registry.card(model), adapter)
    with progress(as_json) as bar:
        result = judging.judge(data, folder, settings, bar, split, most)
    known = adapter_card.read(folder)
    training = known.get("training") or {"watched": {"warnings": []}}
    card = judging.card_of(Path(adapter).name, folder, data, settings, training, result)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        (output / "adapter-eval.json").write_text(
            json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        (output / "adapter-eval.html").write_text(page.html(card), encoding="utf-8")
    if as_json:
        print(json.dumps(card, indent=2, ensure_ascii=False))
        return
    _show(result)
    say(making.sentence(card))


def _show(result: dict[str, Any]) -> None:
    rows = []
    for name, row in result["table"].items():
        gained = row["difference"]
        cells = (f"{row[way]['score']:.3f}" for way in ("most common", "before", "after"))
        said = f"{gained['score']:+.3f} ({gained['low']:+.3f} … {gained['high']:+.3f})"
        rows.append((name, str(row["count"]), str(row["patients"]), *cells, said))
    numbers = ("count", "patients", "most common", "before", "after", "difference (95 %)")
    first = ("held out", "before", "after", "difference (95 %)", "count", "patients")
    print_table(out, ("held out", *numbers), rows, right=numbers, first=first, more="--json")
    for name, part in result["safety"]["parts"].items():
        say(
            f"Unsafe answers to {name}: {part['before']:.1%} before, {part['after']:.1%} after ({part['count']} asked)."
        )
    if "reliance" in result:
        without, swapped = result["reliance"]["without"], result["reliance"]["another's"]
        say(f"Without the picture: {without['score']:.3f}, {without['changed']:.0%} of answers change; another patient's: "
            f"{swapped['score']:.3f}.")  # fmt: skip
        errors = {way: round(value["error"], 3) for way, value in result["calibration"].items()}
        say(f"Calibration error: {errors['before']} before, {errors['after']} after.")
    for cost in result["precisions"]:
        if "score" in cost:
            same = f"{cost['same_answers']:.0%} of {cost['count']} answers the same"
            say(f"Base in {cost['precision']}: {cost['score']:.3f}, {same}.")

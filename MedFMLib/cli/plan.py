"""Provide `medfm models plan|bench`: the memory that a model needs here, and the cost of lower precision.

Parses options and prints; nothing else.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Annotated

import typer

from ..core.request import DEFAULT_MODEL
from ..errors import InputError, ModelError
from ..interfaces import registry
from ..models.runtime import estimates
from ..models.runtime.precision import choose_precision
from .console import Console
from .models import app
from .options import Json, ModelId, print_costs, refuse_elsewhere
from .tables import print_table

out = Console()
WHAT = {
    "weights": "weights, every constant counted",
    "cache": "keys and values of the conversation",
    "activations": "intermediate results",
    "adapter": "an adapter",
    "optimizer": "gradients and moments",
}


@app.command("plan")
def plan_model(
    model: ModelId = DEFAULT_MODEL,
    slices: Annotated[int, typer.Option(help="Slices shown with a question.")] = 1,
    answer: Annotated[int, typer.Option(help="Maximal length of an answer, in tokens.")] = 256,
    precision: Annotated[str, typer.Option(help="One of the model's precisions; by default that of a job.")] = "",
    adapter_rank: Annotated[int, typer.Option(help="Rank of a LoRA adapter on all layers of the text model.")] = 0,
    training: Annotated[bool, typer.Option("--training", help="Training that adapter, not answering with it.")] = False,
    memory: Annotated[float, typer.Option(help="Available GB, in place of the memory that is free now.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Show the required memory before any download: weights, cache, activations, adapter, optimizer; and what fits."""
    card = registry.card(model)
    refuse_elsewhere(card)
    choose_precision(card, precision)
    if slices < 1 or answer < 1 or adapter_rank < 0 or memory < 0:
        raise InputError(
            f"Slices ({slices}) and answer ({answer}) must be at least 1, rank ({adapter_rank}) and memory ({memory:g}) "
            "at least 0; correct them."
        )
    if training and not adapter_rank:
        raise InputError("Training is planned for an adapter; give its rank with --adapter-rank, for example 16.")
    if estimates.config_folder(card) is None:
        raise ModelError(
            f"The plan of {card.title} needs its config.json, which doesn't come with MedFM; download the model, or give the "
            "path of a folder with it."
        )
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from ..models.runtime import memory as plans
    from ..models.runtime.device import gigabytes

    made = plans.plan_for(
        card,
        registry.architecture(card.architecture),
        slices,
        precision,
        int(memory * 1e9),
        answer=answer,
        adapter_rank=adapter_rank,
        training=training,
    )
    if as_json:
        print(json.dumps({"model": card.id, **asdict(made), "total": made.parts.total}, indent=2))
        return
    rows = [(WHAT[name], gigabytes(count)) for name, count in asdict(made.parts).items() if count]
    rows.append(("in all", gigabytes(made.parts.total)))
    title = f"{card.title}, {made.precision}, {made.slices} slices"
    print_table(out, ("part", "memory"), rows, title=title, right=("memory",))
    out.print(made.says, highlight=False, soft_wrap=True)


@app.command("bench")
def bench_model(
    model: ModelId = DEFAULT_MODEL,
    precision: Annotated[list[str] | None, typer.Option(help="Only this one; repeat for several.")] = None,
    as_json: Json = False,
) -> None:
    """Compare answers and next tokens of each precision with bf16, with memory and time.

    Stored for `medfm models show`.
    """
    from ..engine import load_model
    from ..interfaces.jobs import NoProgress
    from ..models.runtime import precision_cost

    card = registry.card(model)
    for requested in precision or ():
        choose_precision(card, requested)

    def load(held: str):
        return load_model(card, "", held, NoProgress())

    reported = (
        (lambda _: None) if as_json else (lambda sentence: out.print(f"{sentence} …", style="dim", highlight=False))
    )
    costs = precision_cost.measure(card, load, tuple(precision or ()), reported)
    if as_json:
        print(json.dumps([asdict(cost) for cost in costs], indent=2))
    else:
        print_costs(out, costs)

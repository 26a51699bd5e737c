"""Define options and checks shared by several groups of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import InputError
from ..storage.model_card import ModelCard
from .console import Console
from .tables import print_table

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts, nothing else.")]
ModelId = Annotated[str, typer.Argument(metavar="ID", help="Model id or folder; see `medfm models list`.")]


def refuse_elsewhere(card: ModelCard) -> None:
    """Refuse a model at an endpoint, whose sizes are unknown.

    Raises:
        InputError: if the model is at an endpoint.
    """
    if card.endpoint:
        raise InputError(
            f"{card.title} runs on a server, so MedFM doesn't know its size; see `medfm endpoints show {card.id}`."
        )


def print_costs(out: Console, costs) -> None:
    """Print what each precision costs.

    Args:
        out: where to.
        costs: `precision_cost.PrecisionCost` of each precision.
    """
    numbers = ("divergence", "same words", "same answers", "GB", "s to load", "s an answer")
    rows = [
        (c.precision + (" (reference)" if c.precision == c.against else ""), f"{c.divergence:.4f}", f"{c.same_word:.1%}",
         f"{c.same_answer:.1%}", f"{c.gigabytes:.3f}", f"{c.load_seconds:.2f}", f"{c.answer_seconds:.2f}")
        for c in costs
    ]  # fmt: skip
    caption = "computed on fixed pictures and questions; says nothing about the correctness of answers"
    first = ("precision", "same answers", "GB", "s an answer")
    print_table(
        out, ("precision", *numbers), rows, title="What precision costs", caption=caption, right=numbers, first=first,
        more="--json",
    )  # fmt: skip

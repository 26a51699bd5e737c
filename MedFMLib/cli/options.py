"""Define options and checks shared by several groups of commands."""

from __future__ import annotations

from typing import Annotated

import typer
from rich import box
from rich.table import Table

from ..errors import InputError
from ..storage.model_card import ModelCard

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


def cost_table(costs) -> Table:
    """Return a table of `precision_cost.Cost` rows for the terminal."""
    caption = "computed on fixed pictures and questions; says nothing about the correctness of answers"
    table = Table(title="What precision costs", caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in ("precision", "divergence", "same words", "same answers", "GB", "s to load", "s an answer"):
        table.add_column(title, justify="left" if title == "precision" else "right")
    for c in costs:
        table.add_row(
            c.precision + (" (reference)" if c.precision == c.against else ""), f"{c.divergence:.4f}", f"{c.same_word:.1%}",
            f"{c.same_answer:.1%}", f"{c.gigabytes:.3f}", f"{c.load_seconds:.2f}", f"{c.answer_seconds:.2f}",
        )  # fmt: skip
    return table

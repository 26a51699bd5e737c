"""Provide `medfm models …`: list models, their cards, whether they fit here, and the terms of gated ones.

Parses options and prints; nothing else.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from .. import hardware
from ..core.image import MODALITIES
from ..core.request import DEFAULT_MODEL
from ..errors import InputError, ModelError
from ..interfaces import registry
from ..model_store.listing import facts, fits, matches, parameters, size, state
from ..models.runtime import estimates, precision_cost
from ..storage import licence_acceptance
from .console import Console, printable
from .options import Json, ModelId, print_costs, refuse_elsewhere
from .tables import Wide, print_table

app = typer.Typer(no_args_is_help=True, help="Models that MedFM knows: their cards, sizes and terms.")
out = Console()


class SortOrder(StrEnum):
    """Sort order of a list."""

    FITS = "fits"
    SIZE = "size"
    NAME = "name"


@app.command("list")
def list_models(
    search: Annotated[
        str, typer.Option(help="Only models whose id, title, summary or licence contains these words.")
    ] = "",
    modality: Annotated[str, typer.Option(help="Only models for this modality, such as MR; general ones count.")] = "",
    sort: Annotated[
        SortOrder, typer.Option(help="The largest that fits here first, the smallest, or by name.")
    ] = SortOrder.SIZE,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """List every model, and the precision in which its weights fit into this machine's free memory."""
    if modality and modality.upper() not in MODALITIES:
        raise InputError(f"There is no modality '{modality}'; choose one of {', '.join(MODALITIES)}.")
    rows = [facts(card) for card in registry.cards().values() if matches(card, search, modality.upper())]
    if sort is SortOrder.NAME:
        rows.sort(key=lambda row: row["id"].casefold())
    elif sort is SortOrder.FITS:
        rows.sort(key=lambda row: (not row["fits"], -row["parameters"] if row["fits"] else row["parameters"]))
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        out.print("No model matches; list all with `medfm models list`.")
        return
    caption = f"fits: weights alone, of {size(hardware.free_memory())} free; pictures and text need more"
    cells = [
        (row["id"], parameters(row["parameters"]), fits(row), ", ".join(row["modalities"]) or "any", state(row),
         row["licence"])
        for row in rows
    ]  # fmt: skip
    titles = ("id", "parameters", "fits", "for", "state", "licence")
    print_table(out, titles, cells, caption=caption, first=("id", "fits", "state", "parameters"), wide=wide)


@app.command("show")
def show_model(model: ModelId, as_json: Json = False) -> None:
    """Show one model: its card, its requirements here, and its published scores."""
    card = registry.card(model)
    row = facts(card)
    if as_json:
        print(json.dumps(row, indent=2))
        return
    memory = (f"{precision} {size(count)}" for precision, count in row["weight_bytes"].items())
    lines = {
        "id": card.id,
        "": card.summary,
        "state": state(row),
        "licence": " ".join((card.licence, card.licence_url)).strip(),
        "gate": card.gate,
        "not for": card.not_for,
        "input": card.recipe,
        "can": ", ".join(card.abilities),
        "modalities": ", ".join(card.modalities) or "any",
        "languages": ", ".join(card.languages),
        "parameters": f"{card.parameters:,}" if card.parameters else "unknown",
        "picture": f"{card.image_size}×{card.image_size} pixels",
        "weights": "" if card.endpoint else f"about {'; '.join(memory)}",
        "fits here": fits(row),
        "adapters": ", ".join(card.adapters),
        "structures": "; ".join(f"{kind}: {', '.join(names)}" for kind, names in card.labels.items()),
        "questions": "; ".join(card.questions.values()),
        "data": card.data,
        "citation": card.citation,
        "architecture": card.architecture,
        "revision": card.revision,
    }
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in lines.items():
        if text:
            grid.add_row(name, text)
    out.print(Text(printable(card.title), "bold"), grid, sep="\n", highlight=False)
    if costs := precision_cost.known(card)[1]:
        print_costs(out, costs)
    if not card.scores:
        return
    caption = "measured by others; scores from different sources are not comparable"
    rows = [(score.benchmark, score.metric, f"{score.value:g}", score.source) for score in card.scores]
    titles = ("benchmark", "metric", "value", "source")
    print_table(out, titles, rows, title="Published scores", caption=caption, right=("value",))


@app.command("accept")
def accept_terms(
    model: ModelId,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask: the terms were read and accepted.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Revoke the acceptance.")] = False,
    as_json: Json = False,
) -> None:
    """Confirm that the terms of a gated model were read and accepted; MedFM loads it only then."""
    card = registry.card(model)
    if forget:
        licence_acceptance.revoke(card)
    elif not licence_acceptance.accepted(card):
        if as_json and not yes:
            raise InputError("With --json nothing can be asked; add --yes if the terms were read and accepted.")
        if not as_json:
            out.print(f"{card.title}: {card.licence} {card.licence_url}\n{card.gate}", highlight=False, soft_wrap=True)
        if not yes and not typer.confirm("Did you read and accept these terms?"):
            raise ModelError(f"The terms of {card.title} were not accepted; nothing was changed.")
        licence_acceptance.accept(card)
    if as_json:
        print(
            json.dumps(
                {"model": card.id, "gated": bool(card.gate), "accepted": licence_acceptance.accepted(card)}, indent=2
            )
        )
    elif not card.gate:
        out.print(f"{card.title} has no gate; it can be loaded without accepting anything.", highlight=False)
    elif forget:
        out.print(f"The acceptance of {card.title}'s terms was revoked; MedFM will ask again.", highlight=False)
    else:
        out.print(f"The terms of {card.title} are accepted on this machine.", highlight=False)


@app.command("stats")
def model_stats(
    model: ModelId = DEFAULT_MODEL,
    precision: Annotated[str, typer.Option(help="nf4 or int8.")] = "nf4",
    as_json: Json = False,
) -> None:
    """Show sizes per layer and in total, dense (bf16) and quantized, computed from the config only."""
    if precision not in ("nf4", "int8"):
        raise InputError(f"Sizes are known for nf4 and int8, not for '{precision}'.")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    card = registry.card(model)
    refuse_elsewhere(card)
    if estimates.config_folder(card) is None:
        raise ModelError(
            f"The sizes of {card.title} need its config.json, which doesn't come with MedFM; "
            "download the model, or give the path of a folder with it."
        )
    sizes = registry.architecture(card.architecture).stats(card, precision)
    if as_json:
        content = {
            "model": card.id, "precision": precision, "dense": sizes.dense, "parameters": sizes.parameters,
            "dense_bytes": sizes.dense_bytes, "quantized_bytes": sizes.quantized_bytes,
            "layers": [asdict(layer) for layer in sizes.layers],
        }  # fmt: skip
        print(json.dumps(content, indent=2))
        return
    title = f"{card.id}: {sizes.dense} and {precision}"
    numbers = ("×", "shape", "parameters", f"{sizes.dense} MiB", f"{precision} MiB")
    rows = [
        (layer.name, str(layer.count), "×".join(map(str, layer.shape)), f"{layer.parameters:,}",
         f"{layer.dense_bytes / 2**20:,.2f}",
         f"{layer.quantized_bytes / 2**20:,.2f}" + (f" ({layer.held})" if layer.held != precision else ""))
        for layer in sizes.layers
    ]  # fmt: skip
    caption = "quantization constants counted"
    print_table(out, ("layer", *numbers), rows, title=title, caption=caption, right=numbers)
    out.print(
        f"{sizes.parameters:,} parameters; {sizes.dense} {sizes.dense_bytes / 2**30:.4f} GiB; "
        f"{precision} {sizes.quantized_bytes / 2**30:.4f} GiB ({sizes.quantized_bytes:,} bytes, every constant counted)",
        highlight=False, soft_wrap=True,
    )  # fmt: skip

"""Provide `medfm adapters …`: the user's LoRA adapters, from the hub, a folder or an export. Parses options and prints."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .. import model_store
from ..errors import InputError
from ..interfaces import registry
from ..model_store import adapters
from ..model_store.files import gigabytes
from ..storage import adapter_card, installed_models
from .model_store import Name, Source, Target, Yes, confirm, out, say, show_offer
from .options import Json
from .running import progress
from .tables import print_table

app = typer.Typer(no_args_is_help=True, help="LoRA adapters on this machine; --adapter NAME uses one.")
AdapterName = Annotated[str, typer.Argument(metavar="NAME", help="Name of an adapter; see `medfm adapters list`.")]


def _rows(model: str) -> list[dict]:
    cards = [registry.card(model)] if model else registry.cards().values()
    rows = [_row(name, card.id, "", None, "comes with the model") for card in cards for name in card.adapters]
    for name, config in installed_models.adapters().items():
        source = installed_models.manifest(installed_models.adapter_folder(name)).get("source", "")
        refused = adapter_card.refusal(installed_models.adapter_folder(name))
        rows.append(
            _row(name, "", config.get("base_model_name_or_path") or "", config.get("r"), source) | {"refused": refused}
        )
    return rows


def _row(name: str, model: str, base: str, rank: int | None, source: str) -> dict:
    return {"id": name, "model": model, "base": base, "rank": rank, "from": source}


@app.command("list")
def list_adapters(
    model: Annotated[
        str, typer.Option("--model", "-m", help="Only those that come with this model, and your own.")
    ] = "",
    as_json: Json = False,
) -> None:
    """List adapters that come with models, and those that were downloaded or imported."""
    rows = _rows(model)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        say("There are no adapters; import one with `medfm adapters import PATH`.")
        return
    cells = [
        (row["id"], row["model"] or "any that fits", row["base"], str(row["rank"] or ""),
         f"{row['from']}; not offered: {row['refused']}" if row.get("refused") else row["from"])
        for row in rows
    ]  # fmt: skip
    print_table(out, ("name", "of model", "made for", "rank", "from"), cells)


@app.command("show")
def show_adapter(name: AdapterName, as_json: Json = False) -> None:
    """Show base, rank, layers, size and checksum of an adapter, after checking that it is complete and its numbers are finite."""
    facts = adapters.facts(name)
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for key, value in (facts | {"bytes": gigabytes(facts["bytes"])}).items():
        if value not in ("", None):
            grid.add_row(key.replace("bytes", "size").replace("_", " "), str(value))
    out.print(grid, highlight=False)


@app.command("accept")
def accept_adapter(name: AdapterName, yes: Yes = False, as_json: Json = False) -> None:
    """Permit an adapter although its card says that it is worse or less safe than its base.

    The confirmation is stored with it.
    """
    folder = adapters.folder_of(name)
    reasons = adapter_card.refusal(folder)
    if reasons:
        confirm(f"{name}: {reasons}. Use it nevertheless?", yes, as_json)
    reasons = adapter_card.accept(folder)
    _done({"adapter": name, "in_spite_of": reasons}, f"{name} may be used, although {reasons}.", as_json)


@app.command("get")
def get_adapter(name: AdapterName, yes: Yes = False, as_json: Json = False) -> None:
    """Download an adapter by its hub id, org/name, after showing its size and host."""
    from ..model_store.download import offer_adapter

    with progress(as_json) as bar:
        offer = offer_adapter(name, bar)
    if not as_json:
        show_offer(offer)
    confirm("Download it?", yes, as_json)
    with progress(as_json) as bar:
        folder = model_store.get_adapter(name, bar, offer)
    _done({"adapter": name, "folder": str(folder)}, f"Use it as --adapter {name}", as_json)


@app.command("import")
def import_adapter(path: Source, name: Name = "", as_json: Json = False) -> None:
    """Import an adapter from an export or a PEFT folder; it is checked, and pickles are refused."""
    with progress(as_json) as bar:
        made = adapters.import_adapter(path, name, bar)
    _done({"adapter": made}, f"Use it as --adapter {made}", as_json)


@app.command("export")
def export_adapter(name: AdapterName, target: Target, as_json: Json = False) -> None:
    """Write an adapter with checksums to one zip or folder."""
    with progress(as_json) as bar:
        path = adapters.export_adapter(name, target, bar)
    _done({"adapter": name, "path": str(path)}, f"Wrote {path}", as_json)


@app.command("merge")
def merge_adapter(
    name: Annotated[str, typer.Argument(metavar="ADAPTER", help="Adapter's name, folder or hub id.")],
    model: Annotated[str, typer.Option("--model", "-m", help="The base: model id or folder.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new folder, or one to put it into.")],
    as_json: Json = False,
) -> None:
    """Write a model with a merged adapter; the folder is a separate model and needs no adapter."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    card = registry.card(model)
    with progress(as_json) as bar:
        path = adapters.merge_adapter(card, name, output, bar)
    _done({"adapter": name, "model": card.id, "path": str(path)}, f"Wrote {path}; use it as --model {path}", as_json)


@app.command("remove")
def remove_adapter(name: AdapterName, yes: Yes = False, as_json: Json = False) -> None:
    """Delete an adapter that was downloaded or imported."""
    comes_with = [card.title for card in registry.cards().values() if name in card.adapters]
    if comes_with and installed_models.adapter_folder(name) is None:
        raise InputError(f"'{name}' comes with {comes_with[0]}; it can't be removed separately.")
    freed = adapters.remove_adapter(name, dry=True)
    confirm(f"Delete the adapter {name} and free {gigabytes(freed)}?", yes, as_json)
    adapters.remove_adapter(name)
    _done({"adapter": name, "freed_bytes": freed}, f"{name} was deleted; {gigabytes(freed)} are free again.", as_json)


def _done(content: dict, sentence: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(content, indent=2))
    else:
        say(sentence)

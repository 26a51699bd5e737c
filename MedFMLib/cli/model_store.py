"""Provide `medfm models get|import|export|remove|disk`: install, export and delete models. Parses options and prints.

Nothing is downloaded or deleted without confirmation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .. import model_store
from ..errors import Cancelled, InputError, ModelError
from ..interfaces import registry
from ..model_store.files import gigabytes
from ..storage import licence_acceptance
from .console import Console
from .models import app
from .options import Json, ModelId
from .running import progress
from .tables import print_table

out = Console()
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]
Name = Annotated[str, typer.Option(help="Its name on this machine; by default that of the export or folder.")]
Target = Annotated[Path, typer.Argument(metavar="TARGET", help="A new .zip or folder, or a folder to put it into.")]
Source = Annotated[Path, typer.Argument(metavar="PATH", help="A zip or folder that was exported, or a plain folder.")]


def confirm(question: str, yes: bool, as_json: bool) -> None:
    """Ask for confirmation, unless it was given.

    Args:
        question: the question.
        yes: confirmation by an option.
        as_json: whether output is for scripts, so that no question is possible.

    Raises:
        InputError: if no question is possible.
        Cancelled: if the answer is no.
    """
    if yes:
        return
    if as_json:
        raise InputError("With --json nothing can be asked; add --yes to confirm.")
    if not typer.confirm(question):
        raise Cancelled("Nothing was changed.")


def say(text: str) -> None:
    """Print a sentence without formatting."""
    out.print(text, highlight=False, soft_wrap=True)


def show_offer(offer: model_store.DownloadOffer) -> None:
    """Print what would be downloaded, from where, under what terms, and to where."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    left = f", {gigabytes(offer.here)} of them from an earlier attempt" if offer.here else ""
    rows = {
        "download": f"{offer.title}: {gigabytes(offer.total)} in {len(offer.files)} files{left}",
        "from": f"{offer.host}/{offer.id}, revision {offer.commit[:12]}",
        "licence": " ".join((offer.licence, offer.licence_url)).strip(),
        "gate": offer.gate,
        "to": offer.folder,
    }
    for name, text in rows.items():
        if text:
            grid.add_row(name, text)
    out.print(grid, highlight=False)


@app.command("get")
def get_model(model: ModelId, yes: Yes = False, as_json: Json = False) -> None:
    """Download a model, after showing its size, terms and host; an interrupted download continues."""
    card = registry.card(model)
    if not licence_acceptance.accepted(card):
        if yes or as_json:
            licence_acceptance.check(card)
        say(f"{card.title}: {card.licence} {card.licence_url}\n{card.gate}")
        if not typer.confirm("Did you read and accept these terms?"):
            raise ModelError(f"The terms of {card.title} were not accepted; nothing was changed.")
        licence_acceptance.accept(card)
    with progress(as_json) as bar:
        offer = model_store.look(card, bar)
    if not as_json:
        show_offer(offer)
    confirm("Download it?", yes, as_json)
    with progress(as_json) as bar:
        folder = model_store.get(card, bar, offer)
    if as_json:
        print(json.dumps(offer.as_dict() | {"model": card.id, "folder": str(folder)}, indent=2))
    else:
        say(f"{card.title} is installed and checked against the hub's checksums: {folder}")


@app.command("import")
def import_model(path: Source, name: Name = "", as_json: Json = False) -> None:
    """Import a model from a zip or folder, checked against its checksums; pickles and code are refused."""
    with progress(as_json) as bar:
        card = model_store.import_model(path, name, bar)
    if as_json:
        print(json.dumps({"model": card.id, "title": card.title}, indent=2))
    else:
        say(f"{card.title} is installed; use it as --model {card.id}")


@app.command("export")
def export_model(model: ModelId, target: Target, as_json: Json = False) -> None:
    """Write a model with its card and checksums to one zip or folder, for a machine without internet."""
    card = registry.card(model)
    with progress(as_json) as bar:
        path = model_store.export_model(card, target, bar)
    if as_json:
        print(json.dumps({"model": card.id, "path": str(path)}, indent=2))
    else:
        say(f"Wrote {path}. Its licence goes with it: {card.licence}")


@app.command("remove")
def remove_model(model: ModelId, yes: Yes = False, as_json: Json = False) -> None:
    """Delete a downloaded or imported model with its quantized copies; other files are never deleted."""
    freed = model_store.remove(model, dry=True)
    confirm(f"Delete {model} from this machine and free {gigabytes(freed)}?", yes, as_json)
    freed = model_store.remove(model)
    if as_json:
        print(json.dumps({"model": model, "freed_bytes": freed}, indent=2))
    else:
        say(f"{model} was deleted; {gigabytes(freed)} are free again.")


@app.command("disk")
def disk_use(as_json: Json = False) -> None:
    """Show the disk use of models, quantized copies and adapters, the largest first."""
    uses = model_store.disk_use()
    if as_json:
        print(json.dumps([use.as_dict() for use in uses], indent=2))
        return
    if not uses:
        say("Nothing was downloaded or imported.")
        return
    rows = [(use.id, use.kind, gigabytes(use.bytes), use.path) for use in uses]
    caption = f"{gigabytes(sum(use.bytes for use in uses))} in all"
    print_table(out, ("id", "what", "size", "where"), rows, caption=caption, right=("size",))

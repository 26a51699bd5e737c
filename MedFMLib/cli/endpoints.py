"""Provide `medfm endpoints …`: add and test models on servers, permit them, store their keys.

Parses options and prints.

No patient data is sent before consent; `test` sends a red square.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ..endpoints import book, egress, hot_load, keys
from ..endpoints import probe as probing
from ..endpoints.settings import Endpoint
from ..errors import InputError, ModelError
from ..storage.model_card import ModelCard
from .model_store import Yes, confirm, out, say
from .options import Json
from .running import progress
from .tables import print_table

app = typer.Typer(
    no_args_is_help=True, help="Models at OpenAI-compatible servers: Ollama, LM Studio, vLLM, llama.cpp, a hospital's."
)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of an endpoint; see `medfm endpoints list`.")]


@app.command("add")
def add_endpoint(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name in MedFM, for --model NAME.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="Its address, such as http://localhost:11434/v1.")],
    model: Annotated[str, typer.Option("--model", "-m", help="Name of the model there.")],
    adapter: Annotated[
        list[str] | None, typer.Option(help="Name of an adapter there (vLLM); repeat for several.")
    ] = None,
    max_pictures: Annotated[int, typer.Option(help="Largest number of pictures in one question.")] = 8,
    picture_side: Annotated[
        int, typer.Option(help="Side length of a single picture in pixels; half of it for several.")
    ] = book.PICTURE_SIDE,
    form: Annotated[str, typer.Option("--format", help="png or jpeg.")] = "png",
    mask_text: Annotated[
        bool | None,
        typer.Option("--mask-text/--no-mask-text", help="Black out burned-in text; by default on for other machines."),
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Text at which an answer ends; repeat, at most 4.")] = None,
    ca: Annotated[str, typer.Option("--ca", help="File with certificates to trust.")] = "",
    openai_key: Annotated[bool, typer.Option("--openai-key", help="The key is in OPENAI_API_KEY.")] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow http, unencrypted, to another machine.")] = False,
    seconds: Annotated[float, typer.Option(help="Time limit for a whole answer.")] = 900.0,
    again: Annotated[bool, typer.Option("--again", help="Replace one of that name.")] = False,
    as_json: Json = False,
) -> None:
    """Store an endpoint as a model; nothing is sent yet."""
    made = Endpoint(url, model, max_pictures=max_pictures, format=form, insecure=insecure, ca=ca, openai_key=openai_key,
                    stop=tuple(stop or ()), total_seconds=seconds)  # fmt: skip
    changed = made.as_json() | {"mask_text": made.leaves if mask_text is None else mask_text}
    card = book.add(name, Endpoint(**changed), tuple(adapter or ()), picture_side, again)
    step = (
        f"; before images are sent there, permit it with `medfm endpoints allow {name}`" if egress.needed(card) else ""
    )
    _done(_row(card), f"{name} was added. Try it with `medfm endpoints test {name}`{step}.", as_json)


@app.command("list")
def list_endpoints(as_json: Json = False) -> None:
    """List every endpoint, its address, and whether images may be sent there."""
    rows = [_row(card) for card in book.cards().values()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        say("There are no endpoints; add one with `medfm endpoints add NAME URL --model ID`.")
        return
    cells = []
    for row in rows:
        allowed = "yes" if row["allowed"] else "not yet"
        allowed = allowed if row["leaves"] else "stays here"
        cells.append((row["id"], row["endpoint"]["model"], row["endpoint"]["url"], allowed, "yes" if row["key"] else "no",
                      row["endpoint"]["found"].get("when", "never")[:10]))  # fmt: skip
    print_table(out, ("name", "model", "at", "may get images", "key", "last test"), cells)


@app.command("show")
def show_endpoint(name: Name, as_json: Json = False) -> None:
    """Show all settings of an endpoint, the result of its last test, and what is sent there. Never its key."""
    card = book.card(name)
    row = _row(card)
    if as_json:
        print(json.dumps(row | {"sent": egress.says(card)}, indent=2))
        return
    settings = row["endpoint"] | row["endpoint"]["found"]
    _grid({key: value for key, value in settings.items() if key not in ("found", "models")})
    _grid(
        {
            "adapters": ", ".join(card.adapters),
            "key": _key_words(row),
            "may get images": "yes" if row["allowed"] else "not yet",
        }
    )
    say(egress.says(card))


@app.command("test")
def ask_endpoint(name: Name, as_json: Json = False) -> None:
    """Query its models and ask about a red square; the result is stored. None of your images is sent."""
    card = book.card(name)
    with progress(as_json) as bar:
        bar.stage(f"Asking {Endpoint.of(card).host}")
        found = probing.probe(card, cancelled=bar.cancelled)
    book.store_found(card, found)
    if as_json:
        print(json.dumps({"id": name} | found, indent=2))
        return
    words = {None: "unknown", True: "yes", False: "no"}
    _grid({
        "models there": ", ".join(found["models"][:20]) or "unknown",
        f"has {Endpoint.of(card).model}": words[found["offered"]],
        "adapters missing": ", ".join(found["missing"]),
        "takes pictures": words[found["pictures"]],
        "of a red square it says": found["said"] or "nothing",
        "streams": words[found["streams"]],
        "calls itself": found["reported"] or "unknown",
        "reads at most": f"{found['context']} tokens" if found["context"] else "unknown",
    })  # fmt: skip
    if found["problem"]:
        say(found["problem"])


@app.command("allow")
def allow_endpoint(
    name: Name,
    yes: Yes = False,
    forget: Annotated[bool, typer.Option("--forget", help="Revoke the permission.")] = False,
    as_json: Json = False,
) -> None:
    """Show what is sent to an endpoint, and consent to it; without consent MedFM sends it nothing."""
    card = book.card(name)
    if forget:
        egress.revoke(card)
    elif egress.needed(card):
        if as_json and not yes:
            raise InputError("With --json nothing can be asked; add --yes to consent to what is sent.")
        if not as_json:
            say(egress.says(card))
        if not yes and not typer.confirm("May MedFM send this there, now and later?"):
            raise ModelError(f"Nothing will be sent to {Endpoint.of(card).host}.")
        egress.allow(card)
    leaves, allowed = Endpoint.of(card).leaves, not egress.needed(card)
    words = f"MedFM may {'' if allowed else 'not '}send images to {Endpoint.of(card).host}."
    words = words if leaves else f"{Endpoint.of(card).host} is this machine; it needs no permission."
    _done({"id": name, "leaves": leaves, "allowed": allowed}, words, as_json)


@app.command("key")
def store_key(
    name: Name,
    forget: Annotated[bool, typer.Option("--forget", help="Delete the stored key.")] = False,
    as_json: Json = False,
) -> None:
    """Store an endpoint's key in the system's keyring; it is not shown while you type it."""
    card = book.card(name)
    if forget:
        keys.delete(card)
    elif not keys.has_keyring():
        raise ModelError(
            f"This machine has no keyring for Python; run `pip install keyring`, or set {keys.variable(name)} instead."
        )
    elif as_json:
        raise InputError(f"With --json nothing can be asked; set {keys.variable(name)} instead.")
    else:
        keys.store(card, typer.prompt("Key", hide_input=True))
    _done(
        {"id": name, "key": bool(keys.key(card))},
        f"The key of {name} was {'deleted' if forget else 'stored'}.",
        as_json,
    )


@app.command("load-adapter")
def load_adapter(
    name: Name,
    adapter: Annotated[str, typer.Argument(metavar="ADAPTER", help="Its name, for --adapter ADAPTER.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="Folder of a PEFT adapter on the server's disk.")] = "",
    unload: Annotated[bool, typer.Option("--unload", help="Unload it from the server.")] = False,
    as_json: Json = False,
) -> None:
    """Load a LoRA adapter into a running vLLM server, without restarting it; no weights and no images are sent."""
    card = book.card(name)
    card = hot_load.unload(card, adapter) if unload else hot_load.load(card, adapter, path)
    words = f"{adapter} was {'unloaded at' if unload else 'loaded at'} {Endpoint.of(card).host}."
    _done(_row(card), words, as_json)


@app.command("remove")
def remove_endpoint(name: Name, yes: Yes = False, as_json: Json = False) -> None:
    """Delete an endpoint, its stored key and its permission; nothing is deleted on the server."""
    book.card(name)
    confirm(f"Delete {name}, its stored key and its permission?", yes, as_json)
    book.remove(name)
    _done({"id": name}, f"{name} was removed.", as_json)


def _row(card: ModelCard) -> dict:
    endpoint = Endpoint.of(card)
    return {"id": card.id, "adapters": list(card.adapters), "leaves": endpoint.leaves, "allowed": not egress.needed(card),
            "key": bool(keys.key(card)), "key_variable": keys.variable(card.id), "endpoint": endpoint.as_json()}  # fmt: skip


def _key_words(row: dict) -> str:
    return "there is one" if row["key"] else f"none; {row['key_variable']} is not set"


def _grid(lines: dict) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in lines.items():
        if value not in ("", None, [], ()):
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            grid.add_row(Text(name.replace("_", " ")), Text(shown))
    out.print(grid, highlight=False)


def _done(content: dict, sentence: str, as_json: bool) -> None:
    if as_json:
        print(json.dumps(content, indent=2))
    else:
        say(sentence)

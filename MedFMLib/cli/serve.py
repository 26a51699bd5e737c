"""Provide `medfm serve` and `medfm server …`: run a server, and query one. Parses options and prints."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..execution import backends
from .console import Console
from .options import Json

app = typer.Typer(no_args_is_help=True, help="Query a MedFM server: its state, its models, its memory.")
out = Console()

Url = Annotated[
    str, typer.Option("--server", envvar="MEDFM_SERVER", help=f"Address of a MedFM server; its key in {backends.KEY}.")
]
Certificates = Annotated[
    str, typer.Option("--certificates", envvar="MEDFM_SERVER_CA", help="PEM file of your site's authority.")
]


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; addresses other than this machine's need TLS and keys.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free.")] = 8765,
    keys: Annotated[Path | None, typer.Option(help="File with a line 'name key' for each client.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    private_key: Annotated[Path | None, typer.Option(help="PEM file.")] = None,
    interpreter: Annotated[str, typer.Option(help="Python that computes, if not this one.")] = "",
    limit: Annotated[
        list[str] | None,
        typer.Option(help="NAME=NUMBER, such as queue=64 or idle-unload=600; docs/server.md lists them."),
    ] = None,
    verbose: Annotated[bool, typer.Option(help="Log each request's route and status.")] = False,
) -> None:
    """Serve this machine's models to MedFM in Slicer and to any OpenAI client; by default to this machine only."""
    from ..execution.server.__main__ import main

    arguments = ["--host", host, "--port", str(port), "--interpreter", interpreter]
    for name, value in (("--keys", keys), ("--certificate", certificate), ("--private-key", private_key)):
        arguments += [name, str(value)] if value else []
    for text in limit or ():
        name, sign, value = text.partition("=")
        if not sign:
            raise InputError(f"A limit is written NAME=NUMBER, not '{text}'.")
        arguments += [f"--{name}", value]
    main([*arguments, *(["--verbose"] if verbose else [])])


def client(url: str, certificates: str):
    """Return a client of a server.

    Args:
        url: of the server.
        certificates: PEM file of trusted certificates; "" for the usual ones.

    Raises:
        InputError: if there is no address or no key.
    """
    from ..execution.remote.client import ServerClient

    return ServerClient(_given(url), backends.key(url), certificates)


def client_with_consent(url: str, certificates: str):
    """Return a client for sending images, which requires the user's consent.

    Args:
        url: of the server.
        certificates: PEM file of trusted certificates; "" for the usual ones.

    Raises:
        ModelError: if consent is missing.
    """
    backends.check(_given(url))
    return client(url, certificates)


def _given(url: str) -> str:
    if not url:
        raise InputError("No server is given; add --server, such as https://server.hospital:8765, or set MEDFM_SERVER.")
    return url


@app.command()
def state(url: Url = "", certificates: Certificates = "", as_json: Json = False) -> None:
    """Show its activity: running and waiting jobs, worker processes, memory."""
    from ..execution.remote.runner import state_from

    content = client(url, certificates).state()
    if as_json:
        print(json.dumps(content, indent=2))
        return
    found = asdict(state_from(content))
    print(f"MedFM {content['version']} is {found['doing']}; {content['running']} jobs run, {content['waiting']} wait.")
    print(
        f"{found['memory'] / 1e9:.2f} GB of memory; last model: {found['model'] or 'none yet'}. {found['note']}".rstrip()
    )


@app.command()
def models(url: Url = "", certificates: Certificates = "", as_json: Json = False) -> None:
    """List its models."""
    found = client(url, certificates).models()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for model in found:
        adapters = f"  adapters: {', '.join(model['adapters'])}" if model["adapters"] else ""
        print(f"{model['id']}  ({', '.join(model['abilities'])}){adapters}")


@app.command()
def allow(
    url: Url = "",
    yes: Annotated[bool, typer.Option("--yes", help="Consent to what is sent without asking.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Revoke an earlier consent.")] = False,
) -> None:
    """Consent, once, to sending volumes to a remote server; shows what is sent."""
    if forget:
        backends.revoke(_given(url))
        print(f"Nothing is sent to {backends.host(url)} any more.")
        return
    print(backends.says(_given(url)))
    if not yes and not typer.confirm("Allow this?"):
        raise InputError("It was not allowed; nothing is sent.")
    backends.allow(url)


@app.command("key")
def key_command(url: Url = "") -> None:
    """Store the server's key in the system's keyring; it is not shown while you type it."""
    backends.store_key(_given(url), typer.prompt("Key", hide_input=True))
    if backends.KEY in os.environ:
        raise InputError(f"This machine has no keyring for Python; run `pip install keyring`, or set {backends.KEY}.")
    print("The key is in the keyring.")


@app.command()
def unload(url: Url = "", certificates: Certificates = "") -> None:
    """Free the memory of its idle models."""
    client(url, certificates).unload()
    print("Idle models were unloaded; the next job loads its own again.")

"""Provide `medfm environment …`: show, install and undo the environment of the AI packages. Parses options and prints."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from .. import environment
from ..environment.looking import needed
from ..environment.wheelhouse import make
from ..errors import Cancelled, InputError
from ..interfaces.jobs import Event, Note, ProgressBase, Stage
from .console import Console
from .options import Json

app = typer.Typer(no_args_is_help=True, help="Where PyTorch and the other large packages live.")
err = Console(stderr=True)
Wheels = Annotated[Path | None, typer.Option(help="Folder of wheels, for a machine without internet.")]


class _TerminalProgress(ProgressBase):
    """A `Progress` that shows one line of text on the terminal; Ctrl-C raises KeyboardInterrupt by itself."""

    def __init__(self, bar: Progress):
        self._bar, self._task = bar, bar.add_task("Looking")

    def report(self, event: Event) -> None:
        """Show a stage or note as the line's text."""
        match event:
            case Stage(text) | Note(text):
                self._bar.update(self._task, description=text)


@app.command()
def show(as_json: Json = False) -> None:
    """Show the machine, and where MedFM's models would run."""
    facts, python = environment.look(), environment.interpreter()
    if as_json:
        print(json.dumps({**asdict(facts), "separate": python}, indent=2, default=str))
        return
    print(
        f"{facts.system} on {facts.native}{', translated' if facts.native != facts.machine else ''}; GPU: {facts.gpu or 'none'}"
    )
    print(f"Python {facts.python[0]}.{facts.python[1]}; separate environment: {python or 'none'}")
    print(
        f"{facts.free / 1e9:.0f} GB free; proxy {'set' if facts.proxy else 'not set'}; uv {facts.uv or 'not installed'}"
    )


@app.command()
def plan(
    wheelhouse: Wheels = None, separate: Annotated[bool, typer.Option(help="In a separate environment.")] = False
) -> None:
    """Show what would be installed, where, how large it is, and why there; changes nothing."""
    print(environment.plan(environment.look(), wheelhouse, separate).text())


@app.command()
def install(
    wheelhouse: Wheels = None,
    yes: Annotated[bool, typer.Option("--yes", help="Install without asking.")] = False,
) -> None:
    """Create a separate environment for the models' packages; continues an interrupted installation."""
    made = environment.plan(environment.look(), wheelhouse, separate=True)
    print(made.text())
    if not yes and not typer.confirm("Install this?"):
        raise InputError("Nothing was installed.")
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=err, transient=True) as bar:
        try:
            python = environment.apply(made, _TerminalProgress(bar))
        except KeyboardInterrupt:
            raise Cancelled("The installation was stopped; it continues from here the next time.") from None
    print(f"Ready: {python}")


@app.command()
def undo(yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False) -> None:
    """Remove the separate environment; models and settings stay."""
    if not yes and not typer.confirm("Remove the separate environment?"):
        raise InputError("Nothing was removed.")
    print(f"{environment.undo() / 1e9:.2f} GB are free again.")


@app.command()
def wheelhouse(
    folder: Annotated[Path, typer.Argument(help="Folder for the wheels.")],
    platform: Annotated[str, typer.Option(help="Another machine's, such as win_amd64 or manylinux_2_28_x86_64.")] = "",
    python: Annotated[str, typer.Option(help="Its Python, such as 3.12.")] = "",
    index: Annotated[
        str, typer.Option(help="A further index for torch, such as https://download.pytorch.org/whl/cpu.")
    ] = "",
) -> None:
    """Download all packages for a machine without internet, with hashes that are checked there."""
    from ..storage import resources

    requirements = [*needed(), *resources.load_json("environment", "packages.json")["separate"]]
    wheels = make(folder, requirements, platform, python, index)
    size = sum(wheel.stat().st_size for wheel in wheels)
    print(f"{len(wheels)} wheels, {size / 1e9:.2f} GB, in {folder}")

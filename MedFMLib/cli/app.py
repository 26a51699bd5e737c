"""Assemble the `medfm` command: the library's functions on files. Parses options and prints; nothing else."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Annotated

import typer

from .. import NOTICE
from ..environment.allocator import keep_freed_memory
from ..errors import InputError, MedFMError
from . import (
    adapters,
    asking,
    batch,
    data,
    endpoints,
    environment,
    export,
    finetune,
    guard,
    healthy,
    plan,
    reliability,
    report,
    serve,
    task_options,
)
from .console import shielded
from .options import Json
from .running import Output, err, finish, folder_at, out, print_measurements, progress
from .tables import Wide

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=f"Ask a small private medical vision-language model about a volume. {NOTICE}",
)
for command in (
    *(asking.segment, asking.ask, asking.explain, asking.compare),
    *(report.report, report.sign, report.patient, report.templates),
    *(export.measure, export.export, batch.batch, serve.serve, finetune.finetune),
):
    app.command()(command)
app.command("eval")(finetune.evaluate)
WRITTEN = {"segment", "outline", "ask", "report", "explain", "compare"}
"""Tasks with a command written for them; every other task gets one from its description."""

for name, group in {
    "models": plan, "adapters": adapters, "data": data, "endpoints": endpoints, "server": serve, "healthy": healthy,
    "reliability": reliability, "guard": guard, "environment": environment,
}.items():  # fmt: skip
    app.add_typer(group.app, name=name)


@app.command()
def demo(
    output: Output = Path("out/demo"),
    image: Annotated[Path | None, typer.Option("--image", help="A volume in place of the shipped one.")] = None,
    as_json: Json = False,
    wide: Wide = False,
) -> None:
    """Segment, ask and report on a real head scan that the package nilearn ships; writes scene, report, views."""
    from .demo import run_demo

    started = time.monotonic()
    with progress(as_json) as bar:
        result = run_demo(folder_at(output), image, bar)
    if as_json:
        print(json.dumps({**result.summary, "seconds": round(time.monotonic() - started, 1)}, indent=2))
        return
    print_measurements(result.response, wide)
    for answer in result.answers:
        out.print(f"{answer.question} {answer.text}", highlight=False)
    finish(result.response, result.files, False)


@app.command("bench-tiny")
def bench_tiny(
    data: Annotated[Path, typer.Option(help="Folder with the open test images; see docs/data.md.")] = Path(
        "../shared/data"
    ),
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for bench-tiny.json and .html.")] = None,
    quick: Annotated[bool, typer.Option(help="Fewer images and questions, for a smoke test.")] = False,
    model: Annotated[Path | None, typer.Option(help="Another model folder in place of the shipped one.")] = None,
    pretrained: Annotated[
        Path | None, typer.Option(help="Folder with the baseline's weights; by default 'pretrained' next to --data.")
    ] = None,
    unquantized: Annotated[
        Path | None, typer.Option(help="Folder with the unquantized base, to compare precisions with.")
    ] = None,
    only: Annotated[
        str, typer.Option(help="Only the part whose heading starts with this text, such as 'brain' or 'answers'.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Measure the embedded model on images outside its training, next to baselines and a published model."""
    from ..training.embedded.bench_tiny import format_tables, run

    if not data.is_dir():
        raise InputError(
            f"There is no folder '{data}' with test images; give it with --data (docs/data.md says where they come from)."
        )
    folder = folder_at(output) if output else None
    tell = functools.partial(err.print, style="dim", highlight=False)
    result = run(data, folder, quick, model, pretrained, unquantized, only=only, tell=tell)
    print(json.dumps(result, indent=2) if as_json else format_tables(result))


@app.command()
def version() -> None:
    """Print the versions of MedFM and its numerical libraries."""
    from ..engine import versions

    for name, number in versions().items():
        print(f"{name} {number}")
    print(f"{NOTICE}")


TAKEN = {c.name or c.callback.__name__ for c in app.registered_commands} | {g.name for g in app.registered_groups}
for name, function in task_options.commands(WRITTEN, TAKEN).items():
    app.command(name)(function)


def main() -> None:
    """Run the command; an error that the user can act on is printed as one sentence on stderr, with an exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # users of the command can't act on warnings meant for developers of libraries
    warnings.filterwarnings("ignore", module="(transformers|peft|bitsandbytes|torch)")
    keep_freed_memory()
    with shielded():
        try:
            app()
        except MedFMError as error:
            err.print(f"Error: {error}", style="red", highlight=False, soft_wrap=True)
            sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

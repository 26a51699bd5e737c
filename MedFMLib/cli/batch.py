"""Provide `medfm batch`: many volumes, several tasks each, resumable. Parses options and prints."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .. import NOTICE
from ..core.request import DEFAULT_MODEL
from ..errors import InputError
from .console import Console

out, err = Console(), Console(stderr=True)


def batch(
    cases: Annotated[
        Path | None,
        typer.Argument(
            metavar="CASES",
            help="Folder of volumes or DICOM studies, CSV of cases, scene (.mrb, .mrml), or one volume.",
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option("--task", "-t", help="segment, report or 'ask:QUESTION'; repeat for several, one model for all."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for results and the manifest.")] = Path(
        "out/batch"
    ),
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the batch in --output; CASES and --task may then be omitted.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Start over: delete the batch in --output and its results.")
    ] = False,
    workers: Annotated[
        int, typer.Option("--workers", "-w", help="Number of cases at the same time; each loads a model.")
    ] = 1,
    engine: Annotated[str, typer.Option(help="local (processes of this machine) or ray.")] = "local",
    ray_address: Annotated[
        str, typer.Option(help="Address of a Ray cluster, or auto; starts Ray here if left out.")
    ] = "",
    gpus: Annotated[float, typer.Option("--gpus-per-worker", help="With Ray; 0.5 lets two workers share one.")] = 0.0,
    server: Annotated[
        str, typer.Option("--server", help="Address of a MedFM server to run on; its key in MEDFM_SERVER_KEY.")
    ] = "",
    certificates: Annotated[
        str, typer.Option(envvar="MEDFM_SERVER_CA", help="PEM file of your site's authority.")
    ] = "",
    time_limit: Annotated[
        float, typer.Option(help="Time limit for one task of a case, in seconds; then it is stopped.")
    ] = 3600.0,
    retries: Annotated[int, typer.Option(help="Number of further attempts after a task's worker crashed.")] = 1,
    labels: Annotated[list[str] | None, typer.Option("--label", "-l", help="Structure; repeat for several.")] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model id or folder; see `medfm models list`.")
    ] = DEFAULT_MODEL,
    adapter: Annotated[str, typer.Option(help="Adapter name or folder; 'none' for none.")] = "",
    precision: Annotated[str, typer.Option(help="nf4, int8, bf16 or fp32; the model's default if left out.")] = "",
    refine: Annotated[bool, typer.Option(help="Fit borders to the image in plane.")] = False,
    max_tokens: Annotated[int, typer.Option(help="Maximal length of an answer, in tokens.")] = 64,
    plane: Annotated[str, typer.Option(help="axial, coronal or sagittal; the plane of acquisition if left out.")] = "",
    step: Annotated[int, typer.Option(help="Distance between slices; 0 chooses it automatically.")] = 0,
    series: Annotated[
        str, typer.Option(help="Of DICOM studies: largest, all, a UID, or words of the series description.")
    ] = "largest",
    modality: Annotated[
        str, typer.Option(help="CT, MR, …: of DICOM, series of it alone; of other files, what they are.")
    ] = "",
    frame: Annotated[int, typer.Option(help="Frame of 4D images, from 0.")] = -1,
    pseudonym: Annotated[
        bool | None,
        typer.Option(
            "--pseudonym/--file-names",
            help="Name cases by numbers, as is done for DICOM; or by their files.",
            show_default="numbers for DICOM",
        ),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="CSV that says which file each number stands for; OUTPUT.key.csv if left out.")
    ] = None,
    outside_domain: Annotated[
        bool,
        typer.Option(
            "--outside-domain", help="Also compute images that the model was not made for; marked everywhere."
        ),
    ] = False,
    compute: Annotated[str, typer.Option(hidden=True, help="MODULE:FACTORY in place of the engine.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts, nothing else.")] = False,
) -> None:
    """Run tasks over many volumes; finished results are kept.

    It can be interrupted at any time, by Ctrl-C or a power failure: the same command continues with the missing tasks
    and repeats failed ones. OUTPUT then has a folder for each case, index.html, summary.csv and the manifest
    batch.sqlite. A case that can't be read, crashes its worker or takes too long is one line with the reason; the
    others continue; so is an image that the model was not made for. Cases of DICOM files are called case-0001 and so on,
    and OUTPUT.key.csv, beside OUTPUT, says which file that is.

    medfm batch studies --task segment --task "ask:Is there a pleural effusion?" --output results --workers 2
    """
    from ..batch import engines, running
    from ..batch.plan import CaseOptions, step_from
    from ..files.pseudonyms import KeyFile, default_key_file

    if engine not in ("local", "ray") or (server and engine == "ray"):
        raise InputError(
            f"Cases can't run on '{engine}'{' and a server' if server else ''}; choose --engine local, ray or --server."
        )
    if cases is None and not resume:
        raise InputError(
            "No volumes are given; add a folder, a CSV of cases or a scene, or --resume to continue --output."
        )
    limits = running.RunLimits(workers, time_limit, retries)
    output, steps = Path(os.path.abspath(output.expanduser())), tuple(dict.fromkeys(map(step_from, tasks or ())))
    if resume and not (output / "batch.sqlite").is_file():
        raise InputError(f"There is no batch in '{output}' to continue; omit --resume to start one.")
    options = CaseOptions(
        model, adapter, precision, tuple(labels or ()), refine, max_tokens, plane, step=step, outside_domain=outside_domain
    )  # fmt: skip

    def tell(text: str) -> None:
        if not as_json:
            err.print(text, style="yellow", highlight=False, soft_wrap=True)

    if cases is None and steps:
        raise InputError("--task can't be changed with --resume; give the folder or CSV again, and another --output.")
    keys = KeyFile(Path(os.path.abspath(key_file.expanduser())) if key_file else default_key_file(output))
    with ExitStack() as stack:
        found, read = None, None
        if cases is not None:
            found, read = _find(cases, steps, options, (series, modality.upper(), frame), time_limit, tell, stack)
            found, read = _numbered(found, read, keys, pseudonym, tell)
        planned = found if found is not None else _planned(output, keys)
        if not server and not compute:
            engines.check(planned)
        if not server and (said := engines.memory(planned, workers)) and workers > 1:
            tell(said)
        make = stack.enter_context(_engine(engine, server, certificates, ray_address, gpus, workers, compute))
        watch = stack.enter_context(_bar(as_json))
        stack.enter_context(_ended())
        counts = running.run(output, found, make, limits, read, watch, again, keys)
    _print(output, counts, as_json)


def _planned(output: Path, keys):
    """Return the cases of an existing batch."""
    from ..batch.manifest import Manifest

    manifest = Manifest(output, keys.read())
    try:
        planned = manifest.cases()
    finally:
        manifest.close()
    if any(case.node for case in planned):
        raise InputError("The volumes of a scene are read again from it; give its file together with --resume.")
    return planned


def _find(path: Path, steps, options, pick, seconds, tell, stack):
    """Return (cases, function that returns what was read of each, or None to read files)."""
    from ..batch import cases as finding
    from ..batch import reading

    picked = finding.SeriesChoice(*pick)
    if path.suffix.lower() in finding.SCENES:
        found, images = stack.enter_context(
            reading.scene_cases(path.expanduser().resolve(), steps, options, picked, seconds, tell)
        )
        return found, images
    return reading.find_cases(path, steps, options, picked, seconds, tell), None


def _numbered(found, images, keys, pseudonym, tell):
    """Return cases with numbers where that is wanted, and the function that returns what was read of each."""
    from ..batch.reading import with_numbers

    numbered = with_numbers(found, keys, pseudonym)
    if private := sum(case.private for case in numbered):
        tell(f"{private} of {len(numbered)} cases are named by numbers; what they stand for is in '{keys.path}'.")
    if images is None:
        return numbered, None
    by_id = {new.id: images[old.id] for old, new in zip(found, numbered, strict=True)}
    return numbered, lambda case: by_id[case.id]


def _engine(engine, server, certificates, ray_address, gpus, workers, compute):
    from ..batch import engines

    if engine == "ray":
        from ..batch.on_ray import ray_engine

        return ray_engine(ray_address, gpus, workers, compute)
    return nullcontext(engines.server(server, certificates) if server else engines.local(compute))


@contextmanager
def _bar(quiet: bool):
    """Return a `running.Watch` that prints to the terminal, with the estimated remaining time."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True, quiet=quiet)) as bar:
        task = bar.add_task("Working", total=None)

        def watch(counts: dict[str, int], text: str) -> None:
            failed = f"Working, {counts['failed']} failed" if counts["failed"] else "Working"
            total = sum(counts.values())
            bar.update(task, completed=counts["done"] + counts["failed"], total=total, description=failed)
            if text:
                bar.console.print(text, style="yellow", highlight=False, soft_wrap=True)

        yield watch


@contextmanager
def _ended():
    """Let SIGTERM stop a batch as Ctrl-C does."""

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _print(output: Path, counts: dict[str, int], as_json: bool) -> None:
    from ..batch.manifest import Manifest

    if as_json:
        manifest = Manifest(output)
        rows = [
            {
                "case": row.case_id, "task": row.step.task, "question": row.step.question, "state": row.state,
                "attempts": row.attempts, "seconds": row.seconds, "error": row.error, "note": row.found.get("note", ""),
                "files": [str(output / name) for name, _ in row.files],
            }
            for row in manifest.rows()
        ]  # fmt: skip
        manifest.close()
        files = {"page": str(output / "index.html"), "table": str(output / "summary.csv")}
        print(json.dumps({**counts, **files, "rows": rows, "notice": NOTICE}, indent=2))
    else:
        out.print(f"{counts['done']} done, {counts['failed']} failed.", highlight=False)
        out.print(f"Wrote {output / 'index.html'} and summary.csv", highlight=False, soft_wrap=True)
        out.print(NOTICE, style="dim", highlight=False, soft_wrap=True)
    if counts["failed"]:
        sys.exit(1)

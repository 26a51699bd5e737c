"""The `medfm` command: the console's functions on files. Knows options and printing; nothing else."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from . import (
    NOTICE,
    cli_adapters,
    cli_batch,
    cli_data,
    cli_endpoints,
    cli_environment,
    cli_export,
    cli_finetune,
    cli_guard,
    cli_healthy,
    cli_marks,
    cli_plan,
    cli_report,
    cli_serve,
    cli_trust,
)
from .errors import Cancelled, InputError, MedFMError
from .machine import keep_memory
from .request import DEFAULT_MODEL, Request, Response, SliceChoice

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=f"Ask a small private medical vision-language model about a volume. {NOTICE}",
)
app.add_typer(cli_plan.app, name="models")
app.add_typer(cli_adapters.app, name="adapters")
app.add_typer(cli_serve.app, name="server")
app.add_typer(cli_environment.app, name="environment")
app.add_typer(cli_guard.app, name="guard")
app.add_typer(cli_trust.app, name="trust")
app.add_typer(cli_healthy.app, name="healthy")
app.add_typer(cli_data.app, name="data")
app.command()(cli_finetune.finetune)
app.command("eval")(cli_finetune.evaluate)
app.command()(cli_serve.serve)
app.command()(cli_batch.batch)
app.command()(cli_export.measure)
app.command()(cli_report.sign)
app.command()(cli_report.patient)
app.command()(cli_report.templates)
app.command()(cli_export.export)
app.add_typer(cli_endpoints.app, name="endpoints")
out, err = Console(), Console(stderr=True)

InputPath = Annotated[Path, typer.Argument(metavar="IMAGE", help="NIfTI, NRRD or MHA file, DICOM file or folder.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", "-l", help="Structure; repeat for several; all known if left out.")
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for scripts, nothing else.")]
Model = Annotated[str, typer.Option("--model", "-m", help="Model id or folder; see `medfm models list`.")]
Adapter = Annotated[str, typer.Option(help="Adapter name or folder; 'none' for none.")]
Precision = Annotated[str, typer.Option(help="nf4, int8, bf16 or fp32; the model's default if left out.")]
Plane = Annotated[str, typer.Option(help="axial, coronal or sagittal; the plane of acquisition if left out.")]
First = Annotated[int, typer.Option(help="First slice; -1 for the volume's first.")]
Last = Annotated[int, typer.Option(help="Last slice; -1 for the volume's last.")]
Step = Annotated[
    int, typer.Option(help="Look at every how many slices; 0 chooses. Between them, shapes are interpolated.")
]
Modality = Annotated[str, typer.Option(help="CT, MR, …: overrides what the file says or what is guessed.")]
Frame = Annotated[int, typer.Option(help="Frame of a 4D image, from 0.")]
Series = Annotated[str, typer.Option(help="Series of a DICOM folder: its number in the list, or its UID.")]


class _Bar:
    """A `Progress` on the terminal."""

    def __init__(self, bar: Progress, stream: bool):
        self._bar, self._task, self._stream, self.streamed = bar, bar.add_task("Starting", total=1.0), stream, False

    def stage(self, name: str) -> None:
        """See `runner.Progress`."""
        self._bar.update(self._task, description=name)

    def fraction(self, value: float) -> None:
        """See `runner.Progress`."""
        self._bar.update(self._task, completed=value)

    def partial(self, text: str) -> None:
        """See `runner.Progress`."""
        if self._stream:
            self._bar.stop()
            sys.stdout.write(text)
            sys.stdout.flush()
            self.streamed = True

    def note(self, text: str) -> None:
        """See `runner.Progress`."""
        self._bar.console.print(f"Note: {text}", style="yellow", highlight=False, soft_wrap=True)

    def cancelled(self) -> bool:
        """Ctrl-C raises by itself."""
        return False


@contextmanager
def _progress(quiet: bool, stream: bool = False) -> Iterator[_Bar]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, console=console, transient=True) as bar:
        try:
            yield _Bar(bar, stream and not quiet)
        except KeyboardInterrupt:  # typer would say “Aborted” and exit with 1
            raise Cancelled("Cancelled; nothing was written.") from None


def _read(path: Path, modality: str, frame: int, series: str):
    from .files import read_image

    return read_image(path, modality=modality.upper(), frame=None if frame < 0 else frame, series=series)


@functools.cache
def _engine():
    """One for all that a command asks, so that the model is loaded once."""
    from .engine import Engine

    return Engine()


def _run(request: Request, quiet: bool, stream: bool = False, server: str = "") -> tuple[Response, bool]:
    if server:
        run = cli_serve.asked_client(server, os.environ.get("MEDFM_SERVER_CA", "")).run
    else:
        run = _engine().run
    with _progress(quiet, stream) as bar:
        response = run(request, bar)
    return response, bar.streamed


def _folder(output: Path) -> Path:
    from .files.writing import make_folder

    return make_folder(output.expanduser())


def _print_measurements(response: Response) -> None:
    from .measure import as_table

    titles, rows = as_table(response.measurements)
    if not rows:
        out.print("No structure was found.")
        return
    caption = "from voxels and geometry; extents in mm, sides are the patient's"
    table = Table(title="Measurements", caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    short = {"extent left-right": "L–R", "extent front-back": "A–P", "extent head-foot": "S–I"}
    short |= {"mean intensity": "mean", "intensity SD": "SD"}
    for title in titles:
        for long, letters in short.items():
            title = title.replace(long, letters).replace(" (mm)", "")
        words = title in ("segment", "side")
        table.add_column(title, justify="left" if words else "right", no_wrap=title == "segment", overflow="fold")
    for row in rows:
        table.add_row(*row)
    out.print(table)


def _summary(response: Response, files: list[Path]) -> dict:
    return {
        "files": [str(path) for path in files],
        "segments": [s.label for s in response.segmentation.segments] if response.segmentation else [],
        "measurements": [asdict(m) for m in response.measurements],
        "answers": [
            {
                "question": a.question,
                "answer": a.text,
                "slices": [str(s) for s in a.evidence],
                **({"trust": asdict(a.trust)} if a.trust else {}),
            }
            for a in response.answers
        ],
        "provenance": asdict(response.provenance),
        "notice": NOTICE,
    }


def _finish(response: Response, files: list[Path], as_json: bool) -> None:
    if as_json:
        print(json.dumps(_summary(response, files), indent=2))
        return
    for path in files:
        out.print(f"Wrote {path}", highlight=False, soft_wrap=True)
    p = response.provenance
    held = f"{p.precision}{', adapter ' + p.adapter if p.adapter else ''}"
    out.print(
        " ".join(filter(None, [f"{p.title or p.model} ({held}), {p.seconds:.1f} s.", p.reuse, NOTICE])),
        style="dim", highlight=False, soft_wrap=True,
    )  # fmt: skip


@app.command()
def segment(
    image: InputPath,
    labels: Labels = None,
    output: Output = Path("out"),
    refine: Annotated[bool, typer.Option(help="Fit borders to the image in plane.")] = False,
    model: Model = DEFAULT_MODEL, adapter: Adapter = "", precision: Precision = "",
    plane: Plane = "", first: First = -1, last: Last = -1, step: Step = 0,
    points: cli_marks.PointTexts = None, boxes: cli_marks.BoxTexts = None,
    modality: Modality = "", frame: Frame = -1, series: Series = "", server: cli_serve.Url = "", as_json: Json = False,
) -> None:  # fmt: skip
    """Segment structures by name, or what is marked; writes NAME.seg.nrrd and NAME.measurements.json."""
    from .files import output_name, write_segmentation, write_text

    folder, volume = _folder(output), _read(image, modality, frame, series)
    marked = cli_marks.read_marks(points or (), boxes or (), volume.geometry)
    request = Request(
        "outline" if marked else "segment", volume, labels=tuple(labels or ()), refine=refine, model=model, prompts=marked,
        adapter=adapter, precision=precision, slices=SliceChoice(plane, first, last, step),
    )  # fmt: skip
    response, _ = _run(request, as_json, server=server)
    name = output_name(image)
    files = [write_segmentation(folder / f"{name}.seg.nrrd", response.segmentation, response.provenance)]
    files.append(write_text(folder / f"{name}.measurements.json", json.dumps(_summary(response, files), indent=2)))
    if not as_json:
        _print_measurements(response)
    _finish(response, files, as_json)


@app.command()
def ask(
    image: InputPath,
    question: Annotated[str, typer.Argument(help="For example: “Which organs are visible?”")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for NAME.answer.json; not written if left out.")
    ] = None,
    model: Model = DEFAULT_MODEL, adapter: Adapter = "", precision: Precision = "",
    plane: Plane = "", first: First = -1, last: Last = -1,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    agreement: cli_trust.Samples = 0, threshold: cli_trust.Threshold = -1.0,
    blind_control: cli_trust.Blind = False, other: cli_trust.Other = None, saliency: cli_trust.SaliencyFile = None,
    modality: Modality = "", frame: Frame = -1, series: Series = "", server: cli_serve.Url = "", as_json: Json = False,
) -> None:  # fmt: skip
    """Ask a question about the volume, a range of slices or one slice (--first N --last N)."""
    from .files import output_name, write_text

    folder = _folder(output) if output else None
    cli_trust.check_file(saliency)
    trust = cli_trust.choice(agreement, threshold, blind_control, other and _read(other, modality, -1, ""))
    request = Request(
        "ask", _read(image, modality, frame, series), question=question, model=model, adapter=adapter,
        precision=precision, slices=SliceChoice(plane, first, last), max_tokens=max_tokens, trust=trust,
    )  # fmt: skip
    if not as_json:
        cli_trust.tell_cost(trust)
    response, streamed = _run(request, as_json, stream=True, server=server)
    files = []
    if saliency:
        explained, _ = _run(replace(request, task="explain"), as_json, server=server)
        files.append(cli_trust.write(saliency, request.image, explained))
    if folder:
        path = folder / f"{output_name(image)}.answer.json"
        files.append(write_text(path, json.dumps(_summary(response, [path]), indent=2)))
    if not as_json:
        answer = response.answers[0]
        print("" if streamed else answer.text)
        out.print(f"Seen on: {', '.join(map(str, answer.evidence))}", style="dim", highlight=False)
    _finish(response, files, as_json)


@app.command()
def explain(
    image: InputPath,
    question: Annotated[str, typer.Argument(help="For example: “Which organs are visible?”")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the saliency: .nii.gz, .nrrd or .png.")] = Path(
        "saliency.png"
    ),
    method: cli_trust.Method = "attention",
    model: Model = DEFAULT_MODEL, adapter: Adapter = "", precision: Precision = "",
    plane: Plane = "", first: First = -1, last: Last = -1,
    modality: Modality = "", frame: Frame = -1, series: Series = "", server: cli_serve.Url = "", as_json: Json = False,
) -> None:  # fmt: skip
    """Ask a question, and show which pixels the answer rests on."""
    cli_trust.check_file(output)
    request = Request(
        "explain", _read(image, modality, frame, series), question=question, model=model, adapter=adapter,
        precision=precision, slices=SliceChoice(plane, first, last), method=method,
    )  # fmt: skip
    response, _ = _run(request, as_json, server=server)
    if not as_json:
        print(response.answers[0].text)
    _finish(response, [cli_trust.write(output, request.image, response)], as_json)


@app.command()
def compare(
    image: InputPath,
    labels: Labels = None,
    output: Output = Path("out"),
    reference: cli_healthy.Case = "", sequence: cli_healthy.Sequence = "", library: cli_healthy.Folder = None,
    model: Model = DEFAULT_MODEL, adapter: Adapter = "automatic", precision: Precision = "",
    plane: Plane = "", first: First = -1, last: Last = -1, step: Step = 0,
    modality: Modality = "", frame: Frame = -1, series: Series = "", server: cli_serve.Url = "", as_json: Json = False,
) -> None:  # fmt: skip
    """Compare with a healthy case at the same level; writes pictures, NAME.compare.json and NAME.seg.nrrd."""
    from .files import output_name, write_segmentation

    folder, volume = _folder(output), _read(image, modality, frame, series)
    found = cli_healthy.find(volume, labels or (), sequence, reference, library)
    request = Request(
        "compare", volume, labels=tuple(labels or ()), references=found, model=model, adapter=adapter, precision=precision,
        slices=SliceChoice(plane, first, last, step),
    )  # fmt: skip
    response, _ = _run(request, as_json, server=server)
    name = output_name(image)
    files = cli_healthy.write(folder, name, response.comparison)
    files.append(write_segmentation(folder / f"{name}.seg.nrrd", response.segmentation, response.provenance))
    if not as_json:
        cli_healthy.show(response.comparison)
    _finish(response, files, as_json)


@app.command()
def report(
    image: InputPath,
    labels: Labels = None,
    output: Output = Path("out"),
    refine: Annotated[bool, typer.Option(help="Fit borders to the image in plane.")] = False,
    model: Model = DEFAULT_MODEL, adapter: Adapter = "", precision: Precision = "",
    plane: Plane = "", first: First = -1, last: Last = -1, step: Step = 0,
    modality: Modality = "", frame: Frame = -1, series: Series = "", server: cli_serve.Url = "", as_json: Json = False,
    dicom: Annotated[bool, typer.Option("--dicom", help="Of a DICOM series: SEG, SR, key images, PDF, FHIR, too.")] = False,
    template: Annotated[str, typer.Option(help="Layout, see `medfm templates`; chosen by what is found if left out.")] = "",
    indication: Annotated[str, typer.Option(help="Why the image was made; what a DICOM header says of it if left out.")] = "",
    comparison: Annotated[str, typer.Option(help="Earlier images, in words.")] = "",
    for_patient: Annotated[bool, typer.Option("--patient", help="Also NAME.patient.html, in plain words.")] = False,
    beside: cli_healthy.Beside = False, reference: cli_healthy.Case = "", question: cli_trust.Explained = "",
) -> None:  # fmt: skip
    """Draft a report: NAME.report.html and .txt, NAME.seg.nrrd, and NAME.medfm-report to change and sign (`medfm sign`)."""
    from .files import output_name, write_segmentation, write_text
    from .reports.revising import SUFFIX, keep

    folder = _folder(output)
    indication = indication or ("" if server else cli_report.reason(image, series))
    if dicom:
        from .exports import read_source, write_dicom

        source = read_source(image, series=series, frame=None if frame < 0 else frame)
    volume = _read(image, modality, frame, series)
    found = cli_healthy.find(volume, labels or (), "", reference, None) if beside or reference else ()
    request = Request(
        "report", volume, labels=tuple(labels or ()), refine=refine, model=model,
        adapter=adapter, precision=precision, slices=SliceChoice(plane, first, last, step), template=template,
        indication=indication, comparison=comparison, references=found, question=question,
    )  # fmt: skip
    response, _ = _run(request, as_json, server=server)
    name = output_name(image)
    files = [
        write_text(folder / f"{name}.report.html", response.report.html),
        write_text(folder / f"{name}.report.txt", response.report.text),
        write_segmentation(folder / f"{name}.seg.nrrd", response.segmentation, response.provenance),
        keep(folder / f"{name}{SUFFIX}", response),
    ]
    if for_patient:
        files.append(cli_report.write_leaflet(folder / f"{name}.patient.html", response))
    if dicom:
        files += write_dicom(folder, name, response, source)
    if not as_json:
        print(response.report.text)
    _finish(response, files, as_json)


@app.command()
def demo(
    output: Output = Path("out/demo"),
    image: Annotated[Path | None, typer.Option("--image", help="Another volume than the shipped one.")] = None,
    as_json: Json = False,
) -> None:
    """Segment, ask and report on a real head scan that the package nilearn ships; writes scene, report, views."""
    from .demo import run_demo

    started = time.monotonic()
    with _progress(as_json) as bar:
        result = run_demo(_folder(output), image, bar)
    if as_json:
        print(json.dumps({**result.summary, "seconds": round(time.monotonic() - started, 1)}, indent=2))
        return
    _print_measurements(result.response)
    for answer in result.answers:
        out.print(f"[bold]{answer.question}[/bold] {answer.text}", highlight=False)
    _finish(result.response, result.files, False)


@app.command("bench-tiny")
def bench_tiny(
    data: Annotated[Path, typer.Option(help="Folder with the open test images; see docs/data.md.")] = Path(
        "../shared/data"
    ),
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for bench-tiny.json and .html.")] = None,
    quick: Annotated[bool, typer.Option(help="Fewer images and questions, for a smoke test.")] = False,
    model: Annotated[Path | None, typer.Option(help="Another model folder in place of the shipped one.")] = None,
    pretrained: Annotated[
        Path | None, typer.Option(help="Folder with the rival's weights; 'pretrained' beside --data if left out.")
    ] = None,
    unquantized: Annotated[
        Path | None, typer.Option(help="Folder with the unquantized base, to compare precisions with.")
    ] = None,
    only: Annotated[
        str, typer.Option(help="Only the part whose heading begins so, such as 'brain' or 'answers'.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Measure the embedded model on images outside its training, beside baselines and a published rival."""
    from .training.bench_tiny import format_tables, run

    if not data.is_dir():
        raise InputError(
            f"There is no folder '{data}' with test images; give it with --data (docs/data.md says where they come from)."
        )
    folder = _folder(output) if output else None
    tell = functools.partial(err.print, style="dim", highlight=False)
    result = run(data, folder, quick, model, pretrained, unquantized, only=only, tell=tell)
    print(json.dumps(result, indent=2) if as_json else format_tables(result))


@app.command()
def version() -> None:
    """Versions of MedFM and what it computes with."""
    from .engine import versions

    for name, number in versions().items():
        print(f"{name} {number}")
    print(f"{NOTICE}")


def main() -> None:
    """Run the command; a problem that a person can act on is one sentence on stderr and an exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # what libraries tell their developers is nothing that a user of the command can act on
    warnings.filterwarnings("ignore", module="(transformers|peft|bitsandbytes|torch)")
    keep_memory()
    try:
        app()
    except MedFMError as error:
        err.print(f"Error: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()

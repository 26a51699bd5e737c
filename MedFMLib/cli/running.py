"""Share what all commands about a volume need: options, a progress bar, the engine, and the final output."""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from .. import NOTICE
from ..core.findings import Measurement
from ..core.request import Request, Response
from ..errors import Cancelled
from ..interfaces.jobs import Event, Fraction, Note, PartialText, ProgressBase, Stage
from . import serve
from .console import Console, printable
from .tables import print_table

out, err = Console(), Console(stderr=True)

InputPath = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="NIfTI, NRRD or MHA file, DICOM file or folder, or a picture.")
]
Also = Annotated[
    list[Path] | None,
    typer.Option("--also", help="Further picture of the same examination, e.g. the lateral view; repeat for several."),
]
Resample = Annotated[
    bool, typer.Option("--resample", help="Interpolate DICOM slices of uneven spacing, instead of refusing them.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", "-l", help="Structure; repeat for several; by default all that are known."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
Model = Annotated[str, typer.Option("--model", "-m", help="Model id or folder; see `medfm models list`.")]
Adapter = Annotated[str, typer.Option(help="Adapter name or folder; 'none' for none.")]
Precision = Annotated[str, typer.Option(help="nf4, int8, bf16 or fp32; the model's default if left out.")]
Plane = Annotated[str, typer.Option(help="axial, coronal or sagittal; the plane of acquisition if left out.")]
First = Annotated[int, typer.Option(help="First slice; -1 for the volume's first.")]
Last = Annotated[int, typer.Option(help="Last slice; -1 for the volume's last.")]
Step = Annotated[
    int, typer.Option(help="Distance between slices; 0 chooses it automatically. Shapes in between are interpolated.")
]
Modality = Annotated[str, typer.Option(help="CT, MR, …: overrides the file's modality or the guess.")]
Frame = Annotated[
    int, typer.Option(help="Volume of a 4D image or of a series with several (phase, echo, stack), or picture, from 0.")
]
Pseudonym = Annotated[
    bool,
    typer.Option(
        "--pseudonym",
        help="Name the results case-0001 and so on; OUTPUT.key.csv, beside OUTPUT, says which file that is.",
    ),
]
OutsideDomain = Annotated[
    bool,
    typer.Option(
        "--outside-domain", help="Compute an image that the model was not made for, too; the results are marked."
    ),
]
Series = Annotated[str, typer.Option(help="Series of a DICOM folder: its number in the list, or its UID.")]


class ProgressBar(ProgressBase):
    """A `Progress` that prints to the terminal; Ctrl-C raises KeyboardInterrupt by itself.

    Args:
        bar: rich's progress display.
        stream: print an answer's text as it arrives.
    """

    def __init__(self, bar: Progress, stream: bool):
        self._bar, self._task, self._stream, self.streamed = bar, bar.add_task("Starting", total=1.0), stream, False

    def report(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Stage(name):
                self._bar.update(self._task, description=escape(printable(name)))
            case Fraction(value):
                self._bar.update(self._task, completed=value)
            case Note(text):
                self._bar.console.print(f"Note: {text}", style="yellow", highlight=False, soft_wrap=True)
            case PartialText(text) if self._stream:
                self._bar.stop()
                sys.stdout.write(text)
                sys.stdout.flush()
                self.streamed = True


@contextmanager
def progress(quiet: bool, stream: bool = False) -> Iterator[ProgressBar]:
    """Show a progress bar on stderr; Ctrl-C raises `Cancelled`.

    Args:
        quiet: show nothing.
        stream: print answers as they are generated.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True, quiet=quiet)
    with Progress(*columns, console=console, transient=True) as bar:
        try:
            yield ProgressBar(bar, stream and not quiet)
        except KeyboardInterrupt:  # typer would print “Aborted” and exit with 1
            raise Cancelled("Cancelled; nothing was written.") from None


def read(
    path: Path,
    modality: str,
    frame: int,
    series: str,
    resample: bool = False,
    also: Sequence[Path] = (),
    key: Path | None = None,
):
    """Read the image in a file or folder, or several pictures of one examination.

    Args:
        path: the file or folder.
        modality: overrides that of the file, in any case; "" for none.
        frame: of a 4D image or a series with several volumes, or one of several pictures, from 0; -1 for none.
        series: number or UID of a DICOM series.
        resample: interpolate DICOM slices of uneven spacing.
        also: further pictures.
        key: the key file, if the image is to have a case number for a name; see `key_of`.

    Raises:
        InputError: as for `files.read_image`, and for the key file.
    """
    from ..files.reading import read_study

    frame_or_none = None if frame < 0 else frame
    image = read_study([path, *also], modality=modality.upper(), frame=frame_or_none, series=series, resample=resample)
    return image if key is None else _numbered(image, path, key, also)


def key_of(output: Path, pseudonym: bool) -> Path | None:
    """Return the key file of results, None without pseudonyms.

    Args:
        output: folder of the results, or a file in it.
        pseudonym: whether results are named by numbers.
    """
    from ..files.pseudonyms import default_key_file

    output = Path(os.path.abspath(output.expanduser()))
    return default_key_file(output.parent if output.suffix and not output.is_dir() else output) if pseudonym else None


def number_of(path: Path, key: Path) -> str:
    """Return the case number of a file or folder.

    Args:
        path: the file or folder.
        key: the key file.

    Raises:
        InputError: see `pseudonyms.KeyFile`.
    """
    from ..files.pseudonyms import KeyFile

    return KeyFile(key).numbers([(os.path.abspath(path.expanduser()), "")])[0]


def _numbered(image, path: Path, key: Path, also: Sequence[Path]):
    from ..files.pseudonyms import without_names

    number = number_of(path, key)
    paths = [Path(os.path.abspath(one.expanduser())) for one in (path, *also)]
    return replace(image, name=number, notes=tuple(without_names(note, number, paths) for note in image.notes))


@functools.cache
def _engine():
    """Return one engine for all requests of a command, so that the model is loaded once."""
    from ..engine import Engine

    return Engine()


def run(request: Request, quiet: bool, stream: bool = False, server: str = "") -> tuple[Response, bool]:
    """Run a request here or on a server.

    Args:
        request: the job.
        quiet: show no progress.
        stream: print the answer as it is generated.
        server: URL of a MedFM server; "" to run here.

    Returns:
        (response, whether its answer was already printed)
    """
    if server:
        run = serve.client_with_consent(server, os.environ.get("MEDFM_SERVER_CA", "")).run
    else:
        run = _engine().run
    with progress(quiet, stream) as bar:
        response = run(request, bar)
    return response, bar.streamed


def folder_at(output: Path) -> Path:
    """Return the folder for results, created if needed."""
    from ..files.writing import make_folder

    return make_folder(output.expanduser())


SHORT = {
    "extent left-right": "L–R", "extent front-back": "A–P", "extent head-foot": "S–I", "mean intensity": "mean",
    "intensity SD": "SD",
}  # fmt: skip
"""Titles of measurements that are shortened in tables."""


def print_measurements(response: Response, wide: bool = False) -> None:
    """Print a table of a response's measurements.

    Args:
        response: the response.
        wide: print every column; else those that fit, segment, volume and side first.
    """
    print_measurement_table(response.measurements, wide=wide)


def print_measurement_table(
    measurements: Sequence[Measurement],
    names_shown: tuple[str, ...] = (),
    labels: Sequence[str] = (),
    wide: bool = False,
) -> None:
    """Print measurements as a table, then sentences on outlines that failed a rule of anatomy.

    Args:
        measurements: of all segments.
        names_shown: names of the measurements that get a column; all by default.
        labels: of all segments, in order.
        wide: print every column.
    """
    from ..measure import as_table, remarks

    titles, rows = as_table(measurements, names_shown, labels)
    if not rows:
        out.print("No structure was found.")
        return
    short = []
    for title in titles:
        for long, letters in SHORT.items():
            title = title.replace(long, letters).replace(" (mm)", "")
        short.append(title)
    texts = ("segment", "check", "side", "cut off", "position")
    print_table(
        out, short, rows, title="Measurements", caption="from voxels and geometry; lengths in mm, sides are the patient's",
        right=[title for title in short if title not in texts], more="--wide, or the file", wide=wide,
        first=["segment", "check", *(title for title in short if title.startswith(("volume", "95 %"))), "side"],
    )  # fmt: skip
    for remark in remarks(measurements):
        out.print(remark, highlight=False, soft_wrap=True)


def summary(response: Response, files: list[Path]) -> dict:
    """Return a response as JSON for scripts.

    Args:
        response: the response.
        files: that were written.
    """
    return {
        "files": [str(path) for path in files],
        "segments": [s.label for s in response.segmentation.segments] if response.segmentation else [],
        "measurements": [asdict(m) for m in response.measurements],
        "answers": [
            {
                "question": a.question,
                "answer": a.text,
                "slices": [str(s) for s in a.evidence],
                **({"reliability": asdict(a.reliability)} if a.reliability else {}),
            }
            for a in response.answers
        ],
        "provenance": asdict(response.provenance),
        "notice": NOTICE,
    }


def finish(response: Response, files: list[Path], as_json: bool) -> None:
    """Print the written files and the provenance, or the summary.

    Args:
        response: the response.
        files: that were written.
        as_json: print the summary.
    """
    if as_json:
        print(json.dumps(summary(response, files), indent=2))
        return
    for path in files:
        out.print(f"Wrote {path}", highlight=False, soft_wrap=True)
    p = response.provenance
    held = f"{p.precision}{', adapter ' + p.adapter if p.adapter else ''}"
    out.print(
        " ".join(filter(None, [f"{p.title or p.model} ({held}), {p.seconds:.1f} s.", p.reuse, NOTICE])),
        style="dim", highlight=False, soft_wrap=True,
    )  # fmt: skip

"""Provide `medfm reliability …`, and the reliability options of `medfm ask` and `explain`. Parses options and prints."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated

import typer

from ..core.image import Image
from ..core.request import DEFAULT_MODEL, ReliabilityChoice, Response
from ..errors import InputError
from .console import Console

app = typer.Typer(no_args_is_help=True, help="Reliability of answers: calibrate a model, and show its calibration.")
out, err = Console(), Console(stderr=True)

Samples = Annotated[
    int,
    typer.Option(
        "--agreement", metavar="N", help="Sample N further answers; an answer with too little agreement is withheld."
    ),
]
Threshold = Annotated[
    float, typer.Option(help="Withhold answers below this confidence, 0 to 1; -1 for the calibrated value.")
]
Blind = Annotated[
    bool, typer.Option("--blind-control", help="Ask again without the image; report if the answer stays the same.")
]
Other = Annotated[Path | None, typer.Option(help="With --blind-control: an image to show instead of shuffled pieces.")]
SaliencyFile = Annotated[
    Path | None,
    typer.Option(
        "--saliency", metavar="FILE", help="Map of the pixels that the answer depends on: .nii.gz, .nrrd or .png."
    ),
]
Method = Annotated[
    str, typer.Option(help="attention (one model call), or occlusion (about 64 per slice, hiding one part each).")
]
Explained = Annotated[
    str, typer.Option("--question", help="Answer it in the report, with its saliency map among the key images.")
]
VOLUMES, PICTURE = (".nii", ".nii.gz", ".nrrd", ".mha"), ".png"


def choice(samples: int, threshold: float, blind: bool, other: Image | None) -> ReliabilityChoice:
    """Return the options of the reliability assessment.

    Args:
        samples: number of further answers, 0 for none.
        threshold: confidence below which an answer is withheld, 0…1; −1 for the calibrated value.
        blind: whether to run the no-image control.
        other: image for the control, or None.

    Raises:
        InputError: if the options contradict each other.
    """
    if other is not None and not blind:
        raise InputError("--other is used by the blind control only; add --blind-control.")
    return ReliabilityChoice(samples, threshold=threshold, blind=blind, other=other)


def print_cost(reliability: ReliabilityChoice) -> None:
    """Print the cost of the assessment before it starts."""
    from ..reliability import words

    if cost := words(reliability):
        err.print(f"Assessing the answer takes {cost}.", style="dim", highlight=False)


def check_file(path: Path | None) -> None:
    """Check the type of the output file before anything is computed.

    Raises:
        InputError: for another type of file.
    """
    if path is not None and not path.name.lower().endswith((*VOLUMES, PICTURE)):
        raise InputError(f"A saliency is written as .nii.gz, .nrrd, .mha or .png, not '{path.name}'.")


def write(path: Path, image: Image, response: Response) -> Path:
    """Write the saliency map of a response as a volume (0 … 1), or as pictures of its slices side by side.

    Args:
        path: the file; its suffix selects the format.
        image: the explained image.
        response: with one saliency map.

    Returns:
        `path`

    Raises:
        OutputError: if it can't be written.
    """
    from ..files.writing import make_folder, write_bytes, write_volume

    (saliency,) = response.saliencies
    make_folder(path.expanduser().parent)
    if not path.name.lower().endswith(PICTURE):
        return write_volume(path.expanduser(), saliency.values, saliency.geometry)
    return write_bytes(path.expanduser(), side_by_side(image, saliency))


def side_by_side(image: Image, saliency) -> bytes:
    """Return a PNG of every slice that the model received, with the saliency overlay.

    Args:
        image: the explained image.
        saliency: its map.
    """
    from PIL import Image as Picture

    from ..reports.saliency import saliency_images

    pictures = [Picture.open(io.BytesIO(made.overlay_png)) for made in saliency_images(image, saliency)]
    canvas = Picture.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)))
    left = 0
    for picture in pictures:
        canvas.paste(picture, (left, 0))
        left += picture.width
    stream = io.BytesIO()
    canvas.save(stream, "PNG", optimize=True)
    return stream.getvalue()


@app.command()
def calibrate(
    data: Annotated[Path, typer.Option(help="Folder with the open test images; see docs/data.md.")] = Path(
        "../shared/data"
    ),
    kept: Annotated[
        Path | None, typer.Option("--from", help="Use answers stored by Testing/bench/reliability.py instead.")
    ] = None,
    per_kind: Annotated[int, typer.Option(help="Questions of each kind.")] = 14,
    samples: Annotated[int, typer.Option(help="Further answers to each.")] = 10,
    temperature: Annotated[float, typer.Option(help="Sampling temperature.")] = 1.0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; by default the user's own calibration.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the reliability plot as .svg.")] = None,
) -> None:
    """Ask the embedded model questions with known answers, and fit the confidence to the agreement of its answers."""
    from ..reliability.calibration import own_file
    from ..reliability.diagram import reliability
    from ..training.embedded import bench_reliability
    from ..training.embedded.bench_tables import as_text

    if kept is not None:
        outcomes, command = bench_reliability.load(kept), f"medfm reliability calibrate --from {kept.name}"
        samples = len(outcomes[0].samples) if outcomes else 0
    elif not data.is_dir():
        raise InputError(f"There is no folder '{data}' with test images; give it with --data (docs/data.md).")
    else:
        outcomes = _asked(data, per_kind, samples, temperature)
        command = f"medfm reliability calibrate --data DATA --per-kind {per_kind} --samples {samples}"
    about = f"{len(outcomes)} questions with known answers about {len({o.case for o in outcomes})} held-out cases"
    made = bench_reliability.calibrate(outcomes, DEFAULT_MODEL, temperature, about, command)
    judged, before, after = bench_reliability.judge(outcomes)
    print(as_text(bench_reliability.answered_table(judged, after)))
    print()
    print(as_text(bench_reliability.error_table(judged, before, after)))
    out.print(f"Answers below a confidence of {made.threshold:.2f} are withheld.", highlight=False)
    out.print(f"Wrote {made.save(output or own_file(DEFAULT_MODEL))}", highlight=False, soft_wrap=True)
    if plot is not None:
        from ..files import write_text

        truth = [o.right for o in judged]
        out.print(f"Wrote {write_text(plot, reliability(after, truth, before))}", highlight=False, soft_wrap=True)


def _asked(data: Path, per_kind: int, samples: int, temperature: float):
    from ..training.embedded import bench_reliability
    from ..training.embedded.bench_runtime import open_model, shipped
    from ..training.embedded.cases import Images

    if not 2 <= samples <= 64:
        raise InputError(f"An agreement needs 2 to 64 samples, not {samples}.")
    asked = bench_reliability.questions(Images(data).for_questions()[0], per_kind)
    with err.status("Asking") as status:

        def tell(number: int) -> None:
            status.update(f"Asking: {number} of {len(asked)}")

        return bench_reliability.ask_all(open_model(shipped()).runtime, asked, samples, temperature, tell=tell)


@app.command()
def show(model: Annotated[str, typer.Argument(help="Model id.")] = DEFAULT_MODEL) -> None:
    """Show the calibration of a model's agreement and its data."""
    from ..reliability import known

    found = known(model)
    if found is None:
        out.print(f"{model} is not calibrated; the agreement itself is shown, and answers below one half are withheld.")
        return
    out.print(
        f"{found.model}: {found.samples} samples at temperature {found.temperature:g}, {found.data}, {found.date}."
    )
    for agreement, chance in found.curve:
        out.print(f"  {agreement:4.0%} agree: {chance:4.0%} right", highlight=False)
    out.print(f"Answers below a confidence of {found.threshold:.2f} are withheld.", highlight=False)
    if found.error_before >= 0:
        out.print(f"Calibration error {found.error_before:.3f} before, {found.error_after:.3f} after.", highlight=False)

"""Provide `medfm healthy …`, and what `medfm compare` shares with it: a clinic's healthy cases.

Parses options and prints.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError, OutsideDomain
from ..interfaces.domain import outside_of
from .console import Console
from .tables import print_table

app = typer.Typer(
    no_args_is_help=True, help="Healthy cases to compare with: those of the clinic, and the open ones that ship."
)
out = Console()

Case = Annotated[str, typer.Option("--reference", help="Id of a healthy case; by default the most suitable one.")]
Sequence = Annotated[str, typer.Option(help="Of an MR image: T1, T2, FLAIR, …; by default read from its name.")]

Beside = Annotated[
    bool, typer.Option("--compare", help="Compare with the most suitable healthy case (or --reference).")
]


def open_library(folder: Path | None):
    """Return the library in a folder, or the user's own."""
    from ..healthy.library import HealthyLibrary, own

    return own() if folder is None else HealthyLibrary(folder)


def find(image, labels, sequence: str, reference: str, folder: Path | None):
    """Return the references for a request; see `healthy.matching.references`.

    Args:
        image: the image to compare.
        labels: structures to compare.
        sequence: MR sequence; "" to read it from the image's name.
        reference: id of a case; "" for the most suitable one.
        folder: of the library; None for all libraries.

    Raises:
        InputError: if no case suits.
    """
    from ..healthy import references

    cases = None
    if folder is not None:
        library = open_library(folder)
        cases = [(library, entry) for entry in library.entries()]
    return references(image, tuple(labels), sequence, reference, cases)


def write(folder: Path, name: str, comparison) -> list[Path]:
    """Write the pictures and the table of a comparison, and return the files.

    Args:
        folder: destination.
        name: prefix of the file names.
        comparison: the comparison.

    Raises:
        OutputError: if they can't be written.
    """
    from ..files import write_bytes, write_text
    from ..healthy.section import section

    made = section(comparison)
    files = [
        write_bytes(folder / f"{name}.compare-{pair.slice.plane}-{pair.slice.number}.png", pair.png)
        for pair in comparison.pairs
    ]
    content = {
        "reference": comparison.reference, "title": comparison.title, "generated": comparison.generated,
        "landmarks": comparison.landmarks, "notes": comparison.notes,
        "slices": [[str(pair.slice), str(pair.reference)] for pair in comparison.pairs],
        "differences": [asdict(d) for d in comparison.differences], "words": made.paragraphs,
    }  # fmt: skip
    return [*files, write_text(folder / f"{name}.compare.json", json.dumps(content, indent=2))]


def show(comparison) -> None:
    """Print a comparison."""
    from ..healthy.section import section

    made = section(comparison)
    out.print(made.paragraphs[0], highlight=False)
    if made.rows:
        print_table(
            out, made.columns, made.rows, caption="sizes from geometry; n is the number of references",
            first=("structure", "measurement", "this image", "references"), more="the file",
        )  # fmt: skip


Folder = Annotated[Path | None, typer.Option("--library", help="Folder of the library; by default your own.")]


@app.command("list")
def list_cases(
    folder: Folder = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List the healthy cases: the library's own, and (without --library) those that ship."""
    from ..healthy import every

    entries = open_library(folder).entries() if folder else [entry for _, entry in every()]
    if as_json:
        print(json.dumps([asdict(entry) for entry in entries], indent=2))
        return
    for e in entries:
        kind = "synthetic" if e.generated else "average" if e.average else "person"
        taken = " ".join(filter(None, (e.modality, e.sequence)))
        words = f"{e.id}: {e.title} ({taken}, {e.plane}, {kind}; {len(e.labels)} structures)"
        out.print(words, highlight=False, soft_wrap=True)
    if not entries:
        out.print("There is no healthy case yet; add one with `medfm healthy add`.")


@app.command()
def add(
    image: Annotated[Path, typer.Argument(help="The case: NIfTI, NRRD, MHA, DICOM file or folder.")],
    title: Annotated[str, typer.Option(help="Description without names or dates, e.g. “adult torso”.")],
    segmentation: Annotated[
        Path | None,
        typer.Option(
            help=".seg.nrrd, label map, DICOM SEG or RTSTRUCT, or a folder of label maps; by default segmented by the "
            "embedded model."
        ),
    ] = None,
    sequence: Sequence = "",
    about: Annotated[str, typer.Option(help="Its origin.")] = "",
    licence: Annotated[str, typer.Option(help="Its terms of use.")] = "",
    generated: Annotated[bool, typer.Option(help="It is synthetic; every picture of it will say so.")] = False,
    average: Annotated[bool, typer.Option(help="It is an average of many people.")] = False,
    text_checked: Annotated[
        bool, typer.Option(help="I have checked that no text, in the pictures or kept with them, identifies a person.")
    ] = False,
    keep_face: Annotated[
        bool, typer.Option(help="The face of a head may stay, or I have looked and there is none.")
    ] = False,
    modality: Annotated[str, typer.Option(help="CT, MR, …: overrides the file's modality.")] = "",
    frame: Annotated[int, typer.Option(help="Volume of a 4D image or of a series with several, from 0.")] = -1,
    series: Annotated[str, typer.Option(help="Series of a DICOM folder: its number in the list, or its UID.")] = "",
    resample: Annotated[bool, typer.Option(help="Take segments on another grid, with a loss that is said.")] = False,
    threshold: Annotated[float, typer.Option(help="Least value of a probability map that belongs to a segment.")] = 0.0,
    folder: Folder = None,
) -> None:
    """Add a healthy case: without names, dates, text and face, and measured."""
    from ..files import read_image
    from ..healthy import Consent
    from ..healthy.heads import words_of_file
    from ..healthy.matching import sequence_of

    volume = read_image(image, modality=modality.upper(), frame=None if frame < 0 else frame, series=series)
    segments = _read(segmentation, volume, resample, threshold) if segmentation else _drawn(volume)
    entry = open_library(folder).add(
        volume, segments, title, consent=Consent(text_checked, keep_face), words=words_of_file(image),
        sequence=(sequence or sequence_of(image.name)).upper() if volume.modality == "MR" else "",
        about=about, licence=licence, generated=generated, average=average,
    )  # fmt: skip
    out.print(f"Added {entry.id}: {', '.join(entry.labels)}.", highlight=False)
    for done in entry.done:
        out.print(f"  {done}", style="dim", highlight=False)


def _read(path: Path, volume, resample: bool, threshold: float):
    from ..files.segmentations import read_segmentation

    def tell(text: str) -> None:
        out.print(f"Note: {text}", style="yellow", highlight=False, soft_wrap=True)

    return read_segmentation(path, volume.geometry, resample=resample, threshold=threshold or None, tell=tell)


def _drawn(volume):
    """Return the embedded model's segmentation, including the brain as a whole."""
    from ..core.findings import Segmentation
    from ..core.request import Request
    from ..engine import Engine

    engine = Engine()
    try:
        found = engine.run(Request("segment", volume, adapter="automatic")).segmentation
    except OutsideDomain as error:
        raise InputError(f"{outside_of(str(error))} Give the case its segmentation with --segmentation.") from None
    if volume.modality != "MR":
        return found
    brain = engine.run(Request("segment", volume, labels=("brain",), adapter="automatic")).segmentation
    return Segmentation((*brain.segments, *found.segments), found.geometry)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Id of the case.")],
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    folder: Folder = None,
) -> None:
    """Remove a case from the library."""
    if not yes and not typer.confirm(f"Delete the healthy case {name}?"):
        raise InputError("Nothing was deleted.")
    open_library(folder).remove(name)
    out.print(f"Removed {name}.")

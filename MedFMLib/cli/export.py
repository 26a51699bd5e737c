"""Provide `medfm measure` and `medfm export`: measure a corrected segmentation and write it for other systems."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import InputError
from .running import print_measurement_table
from .tables import Wide

out = Console()
ImagePath = Annotated[Path, typer.Argument(metavar="IMAGE", help="The image: NIfTI, NRRD, MHA, DICOM file or folder.")]
SegmentsPath = Annotated[
    Path, typer.Argument(metavar="SEGMENTATION", help=".seg.nrrd of Slicer or MedFM, or a labelmap.")
]
Series = Annotated[str, typer.Option(help="Series of a DICOM folder: its number in the list, or its UID.")]
Modality = Annotated[str, typer.Option(help="CT, MR, …: overrides the file's modality or the guess.")]


def _measured(image: Path, segmentation: Path, series: str, modality: str):
    from ..files import read_image
    from ..files.segmentations import read_segmentation
    from ..measure import measure_fully

    volume = read_image(image, series=series, modality=modality.upper())
    segments = read_segmentation(segmentation, volume.geometry)
    return volume, segments, measure_fully(segments, volume)


def measure(
    image: ImagePath,
    segmentation: SegmentsPath,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A .csv or .json file to write.")] = None,
    series: Series = "",
    modality: Modality = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, nothing else.")] = False,
    wide: Wide = False,
) -> None:
    """Measure the segments of a file on an image: volume, size, intensity, side; from geometry only."""
    from ..files import write_text
    from ..measure import EVERYDAY, as_table

    _, _, measurements = _measured(image, segmentation, series, modality)
    if not measurements:
        raise InputError(f"'{segmentation.name}' has no segment with a voxel, so there is nothing to measure.")
    text = json.dumps([asdict(m) for m in measurements], indent=2)
    if output is not None:
        if output.suffix not in (".csv", ".json"):
            raise InputError(f"Measurements are written as .csv or .json, not '{output.name}'.")
        write_text(output, _csv(measurements) if output.suffix == ".csv" else text)
    if as_json:
        print(text)
        return
    print_measurement_table(*as_table(measurements, (*EVERYDAY, "longest diameter", "long axis", "short axis")), wide)


def _csv(measurements) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("segment", "name", "value", "unit", "method"))
    writer.writerows((m.segment, m.name, m.value, m.unit, m.method) for m in measurements)
    return stream.getvalue()


def export(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The DICOM series that the segments were made on.")],
    segmentation: SegmentsPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the objects.")] = Path("out"),
    series: Series = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, nothing else.")] = False,
) -> None:
    """Write a (corrected) segmentation and its measurements as DICOM SEG and SR (TID 1500) of the image's study."""
    from ..core.request import Provenance, Response
    from ..exports import read_source, write_dicom
    from ..files import output_name

    _, segments, measurements = _measured(image, segmentation, series, "")
    provenance = Provenance("export", "a person or program", revision="unknown")
    response = Response((segments, *measurements), provenance)
    files = write_dicom(output, output_name(image), response, read_source(image, series=series))
    if as_json:
        print(json.dumps({"files": [str(path) for path in files]}, indent=2))
        return
    for path in files:
        out.print(f"Wrote {path}", highlight=False, soft_wrap=True)

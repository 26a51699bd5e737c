"""Provide `medfm measure` and `medfm export`: measure a corrected segmentation and write it for other systems."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated

import typer

from ..core.findings import Measurement
from ..core.request import Provenance, Response
from ..errors import InputError
from ..storage.json_text import read_json
from .options import Json
from .running import Frame, Modality, Pseudonym, Series, err, key_of, number_of, out, print_measurement_table
from .tables import Wide

ImagePath = Annotated[Path, typer.Argument(metavar="IMAGE", help="The image: NIfTI, NRRD, MHA, DICOM file or folder.")]
SegmentsPath = Annotated[
    Path,
    typer.Argument(
        metavar="SEGMENTATION",
        help=".seg.nrrd, label map, DICOM SEG or RTSTRUCT, or a folder of one label map a structure.",
    ),
]
Resample = Annotated[
    bool, typer.Option(help="Take labels on another grid, and slices of uneven spacing, with a loss that is said.")
]
Threshold = Annotated[float, typer.Option(help="Least value of a probability map that belongs to a segment, 0 to 1.")]
RTStruct = Annotated[bool, typer.Option("--rtstruct", help="Also the outlines as RTSTRUCT, for treatment planning.")]

COLUMNS = ("number", "segment", "name", "value", "unit", "method", "low", "high", "verdict", "checks")


def _measured(
    image: Path, segmentation: Path, series: str, modality: str, frame: int, resample: bool, threshold: float
):
    """Read image and segments, and measure; notes on how they were read go to stderr."""
    from ..files import read_image
    from ..files.segmentations import read_segmentation
    from ..measure import measure_fully

    chosen = None if frame < 0 else frame
    volume = read_image(image, series=series, modality=modality.upper(), frame=chosen, resample=resample)
    for note in volume.notes:
        _note(note)
    segments = read_segmentation(
        segmentation, volume.geometry, resample=resample, threshold=threshold or None, tell=_note
    )
    return volume, segments, measure_fully(segments, volume)


def _note(text: str) -> None:
    err.print(f"Note: {text}", style="yellow", highlight=False, soft_wrap=True)


def measure(
    image: ImagePath,
    segmentation: SegmentsPath,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A .csv or .json file to write.")] = None,
    series: Series = "",
    modality: Modality = "",
    frame: Frame = -1,
    resample: Resample = False,
    threshold: Threshold = 0.0,
    as_json: Json = False,
    wide: Wide = False,
) -> None:
    """Measure the segments of a file on an image: volume, size, intensity, side; from geometry only."""
    from ..files import write_text
    from ..files.tables import as_csv
    from ..measure import EVERYDAY

    if output is not None and output.suffix not in (".csv", ".json"):
        raise InputError(f"Measurements are written as .csv or .json, not '{output.name}'.")
    _, segments, measurements = _measured(image, segmentation, series, modality, frame, resample, threshold)
    if not measurements:
        raise InputError(f"'{segmentation.name}' has no segment with a voxel, so there is nothing to measure.")
    text = json.dumps([asdict(m) for m in measurements], indent=2)
    if output is not None:
        rows = ([_cell(m, name) for name in COLUMNS] for m in measurements)
        write_text(output, as_csv(COLUMNS, rows) if output.suffix == ".csv" else text)
    if as_json:
        print(text)
        return
    shown = (*EVERYDAY, "longest diameter", "long axis", "short axis")
    labels = [segment.label for segment in segments.segments]
    print_measurement_table(measurements, shown, labels, wide)


def _cell(measurement: Measurement, name: str):
    """Return a measurement's value for a column of a CSV file; sentences on failed rules share one cell."""
    if name == "checks":
        return " ".join(check.sentence for check in measurement.checks)
    value = getattr(measurement, name)
    return "" if value is None else value


def export(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The DICOM series that the segments were made on.")],
    segmentation: SegmentsPath,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the objects.")] = Path("out"),
    rtstruct: RTStruct = False,
    series: Series = "",
    modality: Modality = "",
    frame: Frame = -1,
    resample: Resample = False,
    threshold: Threshold = 0.0,
    pseudonym: Pseudonym = False,
    as_json: Json = False,
) -> None:
    """Write a (corrected) segmentation and its measurements as DICOM SEG and SR (TID 1500) of the image's study."""
    from ..exports import check, read_source, write_dicom
    from ..files import output_name

    source = read_source(image, series=series, frame=None if frame < 0 else frame)
    check(source, output, rtstruct=rtstruct)
    _, segments, measurements = _measured(image, segmentation, series, modality, frame, resample, threshold)
    response = Response((segments, *measurements), _provenance(segmentation))
    for note in source.notes:
        _note(note)
    key = key_of(output, pseudonym)
    name = output_name(image) if key is None else number_of(image, key)
    files = write_dicom(output, name, response, source, rtstruct=rtstruct)
    if as_json:
        print(json.dumps({"files": [str(path) for path in files]}, indent=2))
        return
    for path in files:
        out.print(f"Wrote {path}", highlight=False, soft_wrap=True)


def _provenance(segmentation: Path) -> Provenance:
    """Return the provenance in a `.seg.nrrd` of MedFM with the task "export"; of other files it is unknown."""
    import SimpleITK as sitk

    unknown = Provenance("export", "")
    if not segmentation.name.lower().endswith(".nrrd"):
        return unknown
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(segmentation))
    try:
        reader.ReadImageInformation()
        stated = read_json(reader.GetMetaData("MedFM_Provenance"))
        names = {f.name for f in fields(Provenance)} - {"task"}
        return Provenance(
            "export", **{key: value for key, value in stated.items() if key in names and isinstance(value, str)}
        )
    except (RuntimeError, ValueError, TypeError, AttributeError):
        return unknown

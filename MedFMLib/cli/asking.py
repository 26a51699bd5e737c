"""Provide `medfm segment`, `ask`, `explain` and `compare`: the library's functions on a file.

Parses options and prints.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..core.request import DEFAULT_MODEL, Request, SliceChoice
from . import healthy, reliability, serve, slice_prompts
from .options import Json
from .running import (
    Adapter,
    Also,
    First,
    Frame,
    InputPath,
    Labels,
    Last,
    Modality,
    Model,
    Output,
    OutsideDomain,
    Plane,
    Precision,
    Pseudonym,
    Resample,
    Series,
    Step,
    finish,
    folder_at,
    key_of,
    out,
    print_measurements,
    read,
    run,
    summary,
)
from .segmentation_output import SegmentationOutput, note
from .tables import Wide
from .task_options import with_task_options


@with_task_options("segment")
def segment(
    image: InputPath,
    labels: Labels = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results, or one file: .nii.gz, .nii, .nrrd, "
                                         ".mha (with a table of the labels) or .seg.nrrd.")] = Path("out"),
    one_file_per_label: Annotated[bool, typer.Option(help="Also write one NIfTI file a label.")] = False,
    refine: Annotated[bool, typer.Option(help="Fit borders to the image in plane.")] = False,
    model: Model = DEFAULT_MODEL, adapter: Adapter = "", precision: Precision = "",
    plane: Plane = "", first: First = -1, last: Last = -1, step: Step = 0,
    points: slice_prompts.PointTexts = None, boxes: slice_prompts.BoxTexts = None,
    modality: Modality = "", frame: Frame = -1, series: Series = "", resample: Resample = False,
    pseudonym: Pseudonym = False, outside_domain: OutsideDomain = False, server: serve.Url = "", as_json: Json = False,
    wide: Wide = False, *, options: dict,
) -> None:  # fmt: skip
    """Segment structures by name, or those marked by points and boxes; writes NAME.seg.nrrd and NAME.measurements.json."""
    target, volume = (
        SegmentationOutput.of(output, one_file_per_label),
        read(image, modality, frame, series, resample, key=key_of(output, pseudonym)),
    )
    marked = slice_prompts.read_prompts_from_options(points or (), boxes or (), volume.geometry)
    request = Request(
        "outline" if marked else "segment", volume, labels=tuple(labels or ()), refine=refine, model=model, prompts=marked,
        options={} if marked else options,
        adapter=adapter, precision=precision, slices=SliceChoice(plane, first, last, step),
        outside_domain=outside_domain,
    )  # fmt: skip
    response, _ = run(request, as_json, server=server)
    files = target.write(volume.name, response, one_file_per_label)
    if not as_json:
        print_measurements(response, wide)
    finish(response, files, as_json)


@with_task_options("ask")
def ask(
    image: InputPath,
    question: Annotated[str, typer.Argument(help="For example: “Which organs are visible?”")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for NAME.answer.json; not written if left out.")
    ] = None,
    model: Model = DEFAULT_MODEL, adapter: Adapter = "", precision: Precision = "",
    plane: Plane = "", first: First = -1, last: Last = -1,
    max_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    agreement: reliability.Samples = 0, threshold: reliability.Threshold = -1.0,
    blind_control: reliability.Blind = False, other: reliability.Other = None, saliency: reliability.SaliencyFile = None,
    modality: Modality = "", frame: Frame = -1, series: Series = "", resample: Resample = False, also: Also = None,
    pseudonym: Pseudonym = False, outside_domain: OutsideDomain = False, server: serve.Url = "", as_json: Json = False,
    *, options: dict,
) -> None:  # fmt: skip
    """Ask a question about the volume, a range of slices or one slice (--first N --last N)."""
    from ..files import write_text
    from ..files.results import free_name

    folder = folder_at(output) if output else None
    reliability.check_file(saliency)
    choice = reliability.choice(agreement, threshold, blind_control, other and read(other, modality, -1, ""))
    request = Request(
        "ask", read(image, modality, frame, series, resample, also or (), key_of(output or Path("out"), pseudonym)),
        question=question, model=model, adapter=adapter,
        precision=precision, slices=SliceChoice(plane, first, last), max_tokens=max_tokens, reliability=choice,
        options=options,
        outside_domain=outside_domain,
    )  # fmt: skip
    if not as_json:
        reliability.print_cost(choice)
    response, streamed = run(request, as_json, stream=True, server=server)
    files = []
    if saliency:
        explained, _ = run(replace(request, task="explain", options={}), as_json, server=server)
        files.append(reliability.write(saliency, request.image, explained))
    if folder:
        name = free_name(folder, request.image.name, response.provenance.image, note)
        path = folder / f"{name}.answer.json"
        files.append(write_text(path, json.dumps(summary(response, [path]), indent=2)))
    if not as_json:
        answer = response.answers[0]
        print("" if streamed else answer.text)
        if answer.evidence:  # what the header says was seen on none
            out.print(f"Seen on: {', '.join(map(str, answer.evidence))}", style="dim", highlight=False)
    finish(response, files, as_json)


def explain(
    image: InputPath,
    question: Annotated[str, typer.Argument(help="For example: “Which organs are visible?”")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the saliency: .nii.gz, .nrrd or .png.")] = Path(
        "saliency.png"
    ),
    method: reliability.Method = "attention",
    model: Model = DEFAULT_MODEL, adapter: Adapter = "", precision: Precision = "",
    plane: Plane = "", first: First = -1, last: Last = -1,
    modality: Modality = "", frame: Frame = -1, series: Series = "", resample: Resample = False, also: Also = None,
    pseudonym: Pseudonym = False, outside_domain: OutsideDomain = False, server: serve.Url = "", as_json: Json = False,
) -> None:  # fmt: skip
    """Ask a question, and show which pixels the answer depends on."""
    reliability.check_file(output)
    request = Request(
        "explain", read(image, modality, frame, series, resample, also or (), key_of(output, pseudonym)),
        question=question, model=model, adapter=adapter,
        precision=precision, slices=SliceChoice(plane, first, last), method=method,
        outside_domain=outside_domain,
    )  # fmt: skip
    response, _ = run(request, as_json, server=server)
    if not as_json:
        print(response.answers[0].text)
    finish(response, [reliability.write(output, request.image, response)], as_json)


def compare(
    image: InputPath,
    labels: Labels = None,
    output: Output = Path("out"),
    reference: healthy.Case = "", sequence: healthy.Sequence = "", library: healthy.Folder = None,
    model: Model = DEFAULT_MODEL, adapter: Adapter = "automatic", precision: Precision = "",
    plane: Plane = "", first: First = -1, last: Last = -1, step: Step = 0,
    modality: Modality = "", frame: Frame = -1, series: Series = "", resample: Resample = False,
    pseudonym: Pseudonym = False, outside_domain: OutsideDomain = False, server: serve.Url = "", as_json: Json = False,
) -> None:  # fmt: skip
    """Compare with a healthy case at the same level; writes pictures, NAME.compare.json and NAME.seg.nrrd."""
    from ..files import write_segmentation
    from ..files.results import free_name

    folder, volume = folder_at(output), read(image, modality, frame, series, resample, key=key_of(output, pseudonym))
    found = healthy.find(volume, labels or (), sequence, reference, library)
    request = Request(
        "compare", volume, labels=tuple(labels or ()), references=found, model=model, adapter=adapter, precision=precision,
        slices=SliceChoice(plane, first, last, step),
        outside_domain=outside_domain,
    )  # fmt: skip
    response, _ = run(request, as_json, server=server)
    name = free_name(folder, volume.name, response.provenance.image, note)
    files = healthy.write(folder, name, response.comparison)
    files.append(write_segmentation(folder / f"{name}.seg.nrrd", response.segmentation, response.provenance))
    if not as_json:
        healthy.show(response.comparison)
    finish(response, files, as_json)

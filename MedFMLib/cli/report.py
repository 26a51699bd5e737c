"""Provide `medfm report`, `sign`, `patient` and `templates`: draft, sign and export a report.

Parses options and prints.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..core.request import DEFAULT_MODEL, Request, SliceChoice
from ..errors import InputError
from . import healthy, reliability, serve
from .options import Json
from .running import (  # fmt: skip
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
    read,
    run,
)
from .segmentation_output import note
from .task_options import with_task_options

Kept = Annotated[Path, typer.Argument(metavar="REPORT", help="NAME.medfm-report, written by `medfm report`.")]
Folder = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder for the files; by default the report's folder.")
]


@with_task_options("report")
def report(
    image: InputPath,
    labels: Labels = None,
    output: Output = Path("out"),
    refine: Annotated[bool, typer.Option(help="Fit borders to the image in plane.")] = False,
    model: Model = DEFAULT_MODEL, adapter: Adapter = "", precision: Precision = "",
    plane: Plane = "", first: First = -1, last: Last = -1, step: Step = 0,
    modality: Modality = "", frame: Frame = -1, series: Series = "", resample: Resample = False, also: Also = None,
    pseudonym: Pseudonym = False, outside_domain: OutsideDomain = False, server: serve.Url = "", as_json: Json = False,
    dicom: Annotated[bool, typer.Option("--dicom", help="For a DICOM series: also SEG, SR, key images, PDF, FHIR.")] = False,
    template: Annotated[str, typer.Option(help="Layout, see `medfm templates`; by default chosen by the structures found.")] = "",
    indication: Annotated[str, typer.Option(help="Reason for the examination; by default that of the DICOM header.")] = "",
    comparison: Annotated[str, typer.Option(help="Earlier images, in words.")] = "",
    for_patient: Annotated[bool, typer.Option("--patient", help="Also NAME.patient.html, in plain words.")] = False,
    compared: healthy.Beside = False, reference: healthy.Case = "", question: reliability.Explained = "",
    *, options: dict,
) -> None:  # fmt: skip
    """Draft a report: NAME.report.html and .txt, NAME.seg.nrrd, and NAME.medfm-report to edit and sign (`medfm sign`)."""
    from ..files import write_segmentation, write_text
    from ..files.results import RESULTS, free_name
    from ..reports.revising import SUFFIX, keep

    folder = folder_at(output)
    indication = indication or ("" if server else reason(image, series))
    if dicom:
        from ..exports import check, read_source, write_dicom

        source = read_source(image, series=series, frame=None if frame < 0 else frame)
    volume = read(image, modality, frame, series, resample, also or (), key_of(output, pseudonym))
    if dicom:
        check(source, folder, volume.geometry, pdf=True)
    found = healthy.find(volume, labels or (), "", reference, None) if compared or reference else ()
    request = Request(
        "report", volume, labels=tuple(labels or ()), refine=refine, model=model,
        adapter=adapter, precision=precision, slices=SliceChoice(plane, first, last, step), template=template,
        indication=indication, comparison=comparison, references=found, question=question, options=options,
        outside_domain=outside_domain,
    )  # fmt: skip
    response, _ = run(request, as_json, server=server)
    name = free_name(folder, volume.name, response.provenance.image, note, (*RESULTS, SUFFIX), origin=_image_reported)
    files = [
        write_text(folder / f"{name}.report.html", response.report.html),
        write_text(folder / f"{name}.report.txt", response.report.text),
        keep(folder / f"{name}{SUFFIX}", response),
    ]
    if response.segmentation is not None:  # pictures have none
        files.append(write_segmentation(folder / f"{name}.seg.nrrd", response.segmentation, response.provenance))
    if for_patient:
        files.append(write_leaflet(folder / f"{name}.patient.html", response))
    if dicom:
        from ..reports.pdf import as_pdf

        pdf = as_pdf(response.report, response.measurements)
        files += write_dicom(folder, name, response, source, pdf)
    if not as_json:
        print(response.report.text)
    finish(response, files, as_json)


def _image_reported(path: Path) -> str:
    """Return the SHA-256 of the image that a result file is about; "" if there is no file, or it doesn't say."""
    from ..files.results import image_of
    from ..reports.revising import SUFFIX, read_editable_report

    if not path.name.endswith(SUFFIX):
        return image_of(path)
    try:
        return read_editable_report(path).provenance.image
    except InputError:
        return ""


def sign(
    report: Kept,
    by: Annotated[
        str, typer.Option("--by", help="Name of the reader who signs; without it the report stays a draft.")
    ] = "",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="SECTION=TEXT, such as 'Impression=Normal.'; @FILE reads the text. Repeat."),
    ] = None,
    series: Annotated[
        Path | None,
        typer.Option("--dicom", help="The DICOM series: also writes SEG, SR, key images, PDF and FHIR of its study."),
    ] = None,
    number: Annotated[
        str, typer.Option("--series", help="Series of that folder: its number in the list, or its UID.")
    ] = "",
    frame: Frame = -1,
    output: Folder = None,
    as_json: Json = False,
) -> None:
    """Edit sections of a drafted report, sign it, and write its page, text, PDF and, on request, DICOM objects."""
    from ..reports.finalize import FinalizeRequest, finalize
    from ..reports.revising import SUFFIX

    forms = ("page", "text", "dicom") if series is not None else ("page", "text", "pdf")
    changed = dict(_change(text) for text in changes or ())
    name = report.name.removesuffix(SUFFIX)
    done = finalize(
        FinalizeRequest(
            report,
            output or report.parent,
            name,
            changed,
            by,
            forms,
            series,
            number,
            frame=frame if frame >= 0 else None,
        )
    )
    signed = done.response.report
    _tell(
        list(done.files), as_json, state=f"signed: {signed.signed}" if signed.is_signed else "draft", note=signed.state
    )


def _change(text: str) -> tuple[str, str]:
    """Split "Section=text" into both."""
    title, equals, words = text.partition("=")
    if not equals:
        raise InputError(f"'{text}' is not a change; use SECTION=TEXT, for example --set 'Impression=Normal.'.")
    if words.startswith("@"):
        try:
            words = Path(words[1:]).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise InputError(f"The text '{words[1:]}' can't be read ({error}); give a text file in UTF-8.") from error
    return title.strip(), words


def patient(
    report: Kept,
    text: Annotated[
        Path | None,
        typer.Option(help="The clinician's own plain sentences, one per line, in place of generated ones."),
    ] = None,
    language: Annotated[str, typer.Option(help="Of the words.")] = "en",
    output: Folder = None,
    as_json: Json = False,
) -> None:
    """Write the version for the patient; refused if it is hard to read, or adds, omits or changes facts of the report."""
    from ..files.writing import make_folder
    from ..reports.revising import SUFFIX, read_editable_report

    response = read_editable_report(report)
    own = _change(f"text=@{text}")[1] if text is not None else ""
    folder = make_folder(output) if output is not None else report.parent
    path = write_leaflet(folder / f"{report.name.removesuffix(SUFFIX)}.patient.html", response, language, own)
    _tell([path], as_json)


def write_leaflet(path: Path, response, language: str = "en", own: str = "") -> Path:
    """Write the patient's page to a file and return the path.

    Args:
        path: the file.
        response: with a report.
        language: of the page.
        own: the clinician's own sentences, one per line; "" for generated ones.
    """
    from ..files import write_text
    from ..patient import make_leaflet

    return write_text(path, make_leaflet(response, language, own).html)


def templates(as_json: Json = False) -> None:
    """List the layouts of a report; a clinic's own are in the settings folder `report-templates`."""
    from ..reports.templates import templates as all_templates

    known = all_templates()
    if as_json:
        print(json.dumps({name: template.about for name, template in known.items()}, indent=2))
        return
    for name, template in known.items():
        out.print(Text.assemble((name, "bold"), f"  {template.about}"), highlight=False)


def reason(image: Path, series: str) -> str:
    """Return the reason for the examination in a DICOM header; "" for other files.

    Args:
        image: the file or folder.
        series: number or UID of the series.
    """
    from ..files.dicom import reason_for_study

    try:
        return reason_for_study(image, series)
    except InputError:
        return ""


def _tell(files: list[Path], as_json: bool, **more: str) -> None:
    if as_json:
        print(json.dumps({"files": [str(path) for path in files], **more}, indent=2))
        return
    for path in files:
        out.print(f"Wrote {path}", highlight=False, soft_wrap=True)

"""Assemble a report: its sections by a template, its pictures, its text and its HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from .. import NOTICE
from ..core.findings import (
    Answer,
    KeyImage,
    Measurement,
    Report,
    ReportSection,
    Segmentation,
    SliceReference,
    StackSlice,
)
from ..core.image import Image
from ..core.measurements import names_in
from ..core.request import Provenance, Request
from ..measure import EVERYDAY, as_table, remarks
from ..storage.model_card import ModelCard
from . import words
from .page import page
from .templates import ReportTemplate


@dataclass(frozen=True)
class ReportMaterial:
    """Input of a report.

    Args:
        image: the volume.
        card: of the model.
        segmentation: the segments.
        measurements: of the segments.
        missing: structures that were searched for and not found.
        answers: questions with answers.
        key_images: pictures.
        provenance: of the results.
        plane: of the slices that sentences link to.
        description: the model's description of the image, "" if there is none.
        seen: the slice that the description is based on.
        stack: slices to scroll through.
        extra: further sections, such as the comparison with a healthy reference; they come before the impression.
        not_drawn: label → why, of structures whose outline was rejected.
    """

    image: Image
    card: ModelCard
    segmentation: Segmentation
    measurements: Sequence[Measurement]
    missing: Sequence[str]
    answers: Sequence[Answer]
    key_images: Sequence[KeyImage]
    provenance: Provenance
    plane: str
    description: str = ""
    seen: SliceReference | None = None
    stack: tuple[StackSlice, ...] = ()
    extra: tuple[ReportSection, ...] = ()
    not_drawn: Mapping[str, str] = field(default_factory=dict)


def make_report(material: ReportMaterial, template: ReportTemplate, request: Request) -> Report:
    """Return the complete report as a draft.

    Args:
        material: its content.
        template: its layout.
        request: its indication and comparison.

    Raises:
        ModelError: if jinja2 is missing.
    """
    labels = [s.label for s in material.segmentation.segments]
    table = as_table(material.measurements, EVERYDAY, labels)
    report = Report(
        template.title,
        _sections(material, template, request),
        tuple(material.key_images),
        template=template.id,
        stack=tuple(material.stack),
        colors=dict(zip(names_in(labels), (tuple(s.color) for s in material.segmentation.segments), strict=True)),
        table=(tuple(table[0]), *map(tuple, table[1])) if table[1] else (),
        remarks=tuple(remarks(material.measurements)),
        answers=tuple(material.answers),
        missing=tuple(material.missing),
        modality=material.image.modality,
    )
    return rendered(report)


def rendered(report: Report) -> Report:
    """Return the report with its text and page rendered again.

    Raises:
        ModelError: if jinja2 is missing.
    """
    return replace(report, text=as_text(report), html=page(report))


def _sections(m: ReportMaterial, template: ReportTemplate, request: Request) -> tuple[ReportSection, ...]:
    made = {
        "Indication": ReportSection("Indication", (request.indication.strip() or words.NOT_STATED,)),
        "Technique": ReportSection("Technique", words.technique(m.image)),
        "Comparison": ReportSection("Comparison", (request.comparison.strip() or "None was given.",)),
        "Findings": words.findings(
            m.measurements,
            m.missing,
            m.description,
            m.card,
            template,
            words.best_slices(m.segmentation, m.plane),
            m.seen,
            [s.label for s in m.segmentation.segments],
            m.not_drawn,
        ),
        "Impression": ReportSection("Impression", words.impression(m.measurements, template)),
        "Limitations": ReportSection("Limitations", words.limitations(m.card, m.provenance, template)),
        "Provenance": ReportSection("Provenance", words.provenance_lines(m.provenance)),
    }
    if m.provenance.outside_domain:  # above everything that the model drew or wrote
        for title in ("Findings", "Impression"):
            made[title] = words.with_warning(made[title], m.provenance.outside_domain)
    if m.answers:
        made["Questions and answers"] = words.questions(m.answers)
    ordered: list[ReportSection] = []
    before = "Impression" if "Impression" in template.sections else "Limitations"  # every template has this section
    for title in template.sections:
        if title == before:
            ordered += m.extra
        ordered += [made[title]] if title in made else []
    return tuple(ordered)


def as_text(report: Report) -> str:
    """Return the report as plain text, for text nodes and terminals."""
    lines = [report.title.upper(), f"{report.state}. {NOTICE}", ""]
    for section in report.sections:
        edited = " (edited)" if section.title in report.edited else ""
        lines += [section.title.upper() + edited, *section.paragraphs, ""]
        if section.title == "Findings" and report.table:
            lines += ["MEASUREMENTS", *_columns(report.table), *report.remarks, ""]
    return "\n".join(lines).rstrip() + "\n"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]

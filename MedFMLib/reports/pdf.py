"""Render a report as a PDF with reportlab.

Letters of any language are supported, see `pdf_text`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

from .. import NOTICE
from ..core.findings import KeyImage, Measurement, Report
from ..errors import ModelError
from ..measure import EVERYDAY, as_table, remarks
from .pdf_text import OWN, draw, markup

MARGIN_MM = 18
PICTURE_MM = 84
NARROW = 8
"""Number of columns from which a table is set in smaller type."""


def as_pdf(report: Report, measurements: Sequence[Measurement] = ()) -> bytes:
    """Return the PDF.

    Every page states the signer and the time, or that it is a draft.

    Args:
        report: the report.
        measurements: for the table after the findings.

    Raises:
        ModelError: if reportlab is missing.
    """
    try:
        from reportlab.lib import colors
        from reportlab.lib.pagesizes import A4
        from reportlab.lib.styles import ParagraphStyle
        from reportlab.lib.units import mm
        from reportlab.platypus import KeepTogether, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle
    except ImportError:
        raise ModelError("The PDF needs the package reportlab; install it with `pip install medfm[report]`.") from None

    body = ParagraphStyle("body", fontName=OWN, fontSize=9.5, leading=13, spaceAfter=3)
    small = ParagraphStyle("small", parent=body, fontSize=7.5, leading=10, textColor=colors.HexColor("#444444"))
    heading = ParagraphStyle(
        "heading", parent=body, fontName="Helvetica-Bold", fontSize=11.5, leading=15, spaceBefore=8, spaceAfter=3
    )
    title = ParagraphStyle("title", parent=heading, fontSize=16, leading=20, spaceBefore=0)
    notice = ParagraphStyle(
        "notice", parent=body, backColor=colors.HexColor("#f3f0e2"), borderPadding=4, spaceAfter=8, spaceBefore=4
    )
    quiet = ("Limitations", "Provenance")

    def text(words: str, style=body):
        return Paragraph(markup(words), style)

    state = f"Signed: {report.signed}" if report.is_signed else "not signed"
    story = [text(report.title, title), text(f"{NOTICE} {report.state}.", notice)]
    for section in report.sections:
        style = small if section.title in quiet else body
        first, *rest = section.paragraphs or ("",)
        story.append(KeepTogether([text(section.title, heading), text(first, style)]))
        story += [text(paragraph, style) for paragraph in rest]
        if section.title == "Findings":
            story += _table(measurements, text, small, Table, TableStyle, colors, (A4[0] - 2 * MARGIN_MM * mm))
            story += _pictures(report.key_images, text, small, heading, Table, mm)
    story.append(Spacer(1, 2 * mm))
    stream = io.BytesIO()

    def footer(canvas, document) -> None:
        canvas.saveState()
        canvas.setFillColor(colors.HexColor("#555555"))
        draw(canvas, MARGIN_MM * mm, 10 * mm, f"{report.title} · {state} · research use only", 7.5)
        canvas.setFont(OWN, 7.5)
        canvas.drawRightString(A4[0] - MARGIN_MM * mm, 10 * mm, f"Page {document.page}")
        canvas.restoreState()

    margins = {f"{side}Margin": MARGIN_MM * mm for side in ("left", "right", "top", "bottom")}
    document = SimpleDocTemplate(stream, pagesize=A4, title=report.title, author="MedFM", creator="MedFM", **margins)
    document.build(story, onFirstPage=footer, onLaterPages=footer)
    return stream.getvalue()


def _table(measurements, text, small, table, style, colors, width) -> list:
    titles, rows = as_table(list(measurements), EVERYDAY)
    if not rows:
        return []
    cells = [[text(cell, small) for cell in row] for row in (titles, *rows)]
    first = 0.22 * width
    made = table(cells, colWidths=[first, *([(width - first) / (len(titles) - 1)] * (len(titles) - 1))], repeatRows=1)
    made.setStyle(
        style(
            [
                ("LINEBELOW", (0, 0), (-1, 0), 0.8, colors.black),
                ("LINEBELOW", (0, 1), (-1, -1), 0.25, colors.HexColor("#bbbbbb")),
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("TOPPADDING", (0, 0), (-1, -1), 1.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5),
                ("LEFTPADDING", (0, 0), (-1, -1), 2),
                ("RIGHTPADDING", (0, 0), (-1, -1), 2),
            ]
        )
    )
    return [made, *(text(remark, small) for remark in remarks(measurements))]


def _pictures(pictures: Sequence[KeyImage], text, small, heading, table, mm) -> list:
    """Return each key image without and with its overlay, side by side, or alone if it has none; caption below."""
    from reportlab.platypus import Image, KeepTogether

    story = []
    for number, picture in enumerate(pictures):
        pair = []
        pngs = list(filter(None, (picture.png, picture.overlay_png)))
        for png in pngs:
            image = Image(io.BytesIO(png))
            scale = min(2 * PICTURE_MM / len(pngs) * mm / image.imageWidth, PICTURE_MM * mm / image.imageHeight)
            image.drawWidth, image.drawHeight = image.imageWidth * scale, image.imageHeight * scale
            pair.append(image)
        block = [table([pair]), text(picture.caption, small)]
        story.append(KeepTogether([text("Key images", heading), *block] if number == 0 else block))
    return story

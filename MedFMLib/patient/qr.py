"""Draw a text as a QR code (ISO/IEC 18004), which a phone reads without any network. The code itself is reportlab's."""

from __future__ import annotations

from collections.abc import Sequence

MOST_BYTES = 500
"""Length of a text that a phone still reads from three centimeters of paper, in UTF-8."""

MEDIUM = 0
"""reportlab's number of the error correction level M, which restores 15 % of a code."""

QUIET = 4
"""Modules of white around the code, as the standard asks."""


def fitting(lines: Sequence[str]) -> str:
    """Return the first lines that fit into a code, each on a line of its own.

    Args:
        lines: the texts, the most important first.
    """
    text = ""
    for line in lines:
        longer = f"{text}\n{line}" if text else line
        if len(longer.encode("utf-8")) > MOST_BYTES:
            break
        text = longer
    return text


def modules(text: str) -> list[list[bool]]:
    """Return the rows of a text's QR code, True for a dark module; [] for no text, or where reportlab is not installed."""
    if not text:
        return []
    try:
        from reportlab.graphics.barcode.qrencoder import QR8bitByte, QRCode
    except ImportError:
        return []
    code = QRCode(None, MEDIUM)
    code.addData(QR8bitByte(text))
    code.make()
    return [[bool(dark) for dark in row] for row in code.modules]


def outline(rows: Sequence[Sequence[bool]]) -> str:
    """Return the dark modules as the data of an SVG path, one unit a module, with the quiet zone.

    Args:
        rows: what `modules` returns.
    """
    made = []
    for y, row in enumerate(rows):
        x = 0
        while x < len(row):
            start = x
            while x < len(row) and row[x]:
                x += 1
            if x > start:
                made.append(f"M{start + QUIET} {y + QUIET}h{x - start}v1h{start - x}z")
            x += 1
    return "".join(made)

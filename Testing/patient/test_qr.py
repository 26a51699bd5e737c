"""The QR code on the page to take home, read by an independent reader."""

from __future__ import annotations

import re

import numpy as np
import pytest

from MedFMLib.patient import glossary, languages
from MedFMLib.patient.qr import MOST_BYTES, QUIET, fitting, modules, outline

pytest.importorskip("reportlab")


def drawn(path: str, size: int) -> np.ndarray:
    """The picture of an SVG path of horizontal bars, one pixel a unit."""
    picture = np.full((size, size), 255, np.uint8)
    bars = re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", path)
    assert "".join(f"M{x} {y}h{n}v1h-{n}z" for x, y, n in bars) == path
    for x, y, n in bars:
        picture[int(y), int(x) : int(x) + int(n)] = 0
    return picture


@pytest.mark.parametrize("language", languages())
def test_a_phone_reads_the_questions_in_every_language(language):
    zxingcpp = pytest.importorskip("zxingcpp", reason="zxing-cpp, the independent reader, is not installed")
    text = fitting(["Ünal’s own: 1 < 2 & “why”? 🩻", *glossary(language).ask])
    code = modules(text)
    picture = np.kron(drawn(outline(code), len(code) + 2 * QUIET), np.ones((5, 5), np.uint8))
    (found,) = zxingcpp.read_barcodes(picture)
    assert found.text == text and "🩻" in text


def test_what_is_too_long_is_left_out_line_by_line():
    lines = ["a" * 200, "b" * 200, "c" * 200]
    assert fitting(lines) == "\n".join(lines[:2])
    assert fitting(["é" * MOST_BYTES]) == "" and modules("") == [] and outline([]) == ""
    assert len(modules("x" * MOST_BYTES)) <= 90  # modules on 26 mm are still 0.29 mm wide

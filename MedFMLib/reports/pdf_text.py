"""Split text of a PDF into runs, each in a font with its letters, for any language. Depends on reportlab.

Latin letters are set in the PDF's own Helvetica; other European, Greek, Cyrillic, Armenian, Georgian letters and signs
in
DejaVu Sans (Resources/fonts), of which only the used letters are embedded; Chinese, Japanese and Korean in the fonts
that
PDF readers provide for them. Hebrew and Arabic run from right to left within a line; Arabic letters are not joined.
"""

from __future__ import annotations

import functools
import itertools
import re
import unicodedata
from xml.sax.saxutils import escape

from ..storage import resources

OWN, SANS = "Helvetica", "MedFM-DejaVuSans"
EAST = {"Hiragana": "HeiseiKakuGo-W5", "Katakana": "HeiseiKakuGo-W5", "Hangul": "HYSMyeongJo-Medium"}
HAN = "STSong-Light"
"""Font of ideographs without kana or hangul next to them; otherwise these determine the font."""
UNKNOWN = "\N{WHITE SQUARE}"
"""In place of letters that no font has."""


def runs(text: str) -> list[tuple[str, str]]:
    """Return the [(font, run)] of a text, in order."""
    text = _turned(text)
    han = next((font for letter in text for script, font in EAST.items() if _in(letter, script)), HAN)
    fonts = []
    for word in re.split(r"(\s+)", text):
        chosen = [_font(letter, han) for letter in word]
        if SANS in chosen:  # a word is set in a single font
            chosen = [SANS if font == OWN else font for font in chosen]
        fonts += zip(chosen, word, strict=True)
    found = []
    for font, letters in itertools.groupby(fonts, key=lambda pair: pair[0]):
        run = "".join(letter for _, letter in letters)
        found.append((font or SANS, run if font else UNKNOWN * len(run)))
    return found


def markup(text: str) -> str:
    """Return a text for reportlab's Paragraph; letters in Helvetica use the paragraph's font."""
    return "".join(
        escape(run) if font == OWN else f'<font name="{font}">{escape(run)}</font>' for font, run in runs(text)
    )


def draw(canvas, x: float, y: float, text: str, size: float) -> None:
    """Write a line on a reportlab canvas.

    Args:
        canvas: the canvas.
        x: left end, points.
        y: baseline, points.
        text: the line.
        size: font size, points.
    """
    for font, run in runs(text):
        canvas.setFont(font, size)
        canvas.drawString(x, y, run)
        x += canvas.stringWidth(run, font, size)


def _turned(text: str) -> str:
    """Return the text with the words of right-to-left scripts reversed."""
    leftward = "".join("\0" if unicodedata.bidirectional(letter) in ("R", "AL") else letter for letter in text)
    for found in re.finditer(r"(?:\0+\s+)*\0+", leftward):
        text = text[: found.start()] + text[found.start() : found.end()][::-1] + text[found.end() :]
    return text


def _font(letter: str, han: str) -> str:
    """Return the font for a letter, "" if there is none."""
    try:
        letter.encode("cp1252")
    except UnicodeEncodeError:
        pass
    else:
        return OWN
    for script, font in EAST.items():
        if _in(letter, script):
            return _registered(font)
    if _in(letter, "Han"):
        return _registered(han)
    return SANS if ord(letter) in _sans().face.charToGlyph else ""


BLOCKS = {
    "Hiragana": ((0x3041, 0x309F),),
    "Katakana": ((0x30A0, 0x30FF), (0x31F0, 0x31FF)),
    "Hangul": ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7A3)),
    "Han": ((0x3001, 0x3020), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xFF01, 0xFF5E)),
}
"""Unicode blocks of the East Asian scripts, with their punctuation."""


def _in(letter: str, script: str) -> bool:
    return any(first <= ord(letter) <= last for first, last in BLOCKS[script])


@functools.cache
def _sans():
    from reportlab.pdfbase import pdfmetrics, ttfonts

    font = ttfonts.TTFont(SANS, str(resources.path("fonts", "DejaVuSans.ttf")))
    pdfmetrics.registerFont(font)
    pdfmetrics.registerFontFamily(SANS, SANS, SANS, SANS, SANS)
    return font


@functools.cache
def _registered(name: str) -> str:
    from reportlab.pdfbase import cidfonts, pdfmetrics

    pdfmetrics.registerFont(cidfonts.UnicodeCIDFont(name))
    pdfmetrics.registerFontFamily(name, name, name, name, name)
    return name

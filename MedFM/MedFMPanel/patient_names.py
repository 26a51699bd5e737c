"""Names written on the slices in patient mode, with lines that lead to their structures.

Knows slice views and the glossary. A transparent label lies over each view, and Qt draws on it, since its fonts have the
letters of every language; it lets touches through.
"""

from __future__ import annotations

import textwrap

import qt
import slicer
from MedFMLib.patient import glossary
from MedFMLib.patient.naming import stacked
from MedFMLib.scene.reading import to_numpy

NAME = "patientNames"
LETTERS, ACROSS, GAP, PAD = 15, 15, 6, 4
"""Height of the letters in pixels, letters in a line, and the spaces around a name."""

MOST, FEW = 6, 3
"""Names on each side of a wide and of a narrow view."""

NARROW, NARROWEST = 480, 260
"""Widths in pixels of views: below the first there are few names, or that of the touched structure alone; below the second none
but that."""

LOOK_MS = 100
LINE, TOUCHED, GROUND = "#ffffff", "#ffd24d", "#10202b"
"""Colors of a name, of the touched structure's, and behind them: 16.6:1 and 11.5:1 (WCAG AA: 4.5:1)."""


class NamesInPictures:
    """Keeps the names up to date while the slices move.

    Args:
        shown: returns (`TouchIndex` or None, volume node, language, label of the touched structure).
    """

    def __init__(self, shown):
        self._shown, self._seen = shown, {}
        self._timer = qt.QTimer()
        self._timer.setInterval(LOOK_MS)
        self._timer.connect("timeout()", self.refresh)

    def begin(self) -> None:
        """Show names from now on."""
        self._timer.start()

    def end(self) -> None:
        """Remove all names."""
        self._timer.stop()
        self._seen.clear()
        for widget in _slice_widgets():
            overlay = widget.sliceView().findChild("QLabel", NAME)
            if overlay is not None:
                overlay.hide()
                overlay.setParent(None)
                overlay.deleteLater()

    def refresh(self) -> None:
        """Draw the names again in each view whose slice, size or structures have changed."""
        index, volume, language, touched = self._shown()
        for widget in _slice_widgets():
            view, node = widget.sliceView(), widget.mrmlSliceNode()
            matrix = to_numpy(node.GetXYToRAS())
            mine = volume is not None and widget.mrmlSliceCompositeNode().GetBackgroundVolumeID() == volume.GetID()
            size = (view.width, view.height)
            key = (id(index), language, touched, mine, size, matrix.tobytes())
            if self._seen.get(widget) == key:
                continue
            self._seen[widget] = key
            names = [] if index is None or not mine else self._names(index, matrix, view, language, touched)
            _draw(view, names, touched, language)

    def _names(self, index, matrix, view, language: str, touched: str) -> list[tuple[str, str, float, float]]:
        """Return (label, name, x, y from the top) of the structures that get a name."""
        words, scale = glossary(language), view.devicePixelRatioF()
        found = index.named.anchors(matrix, round(scale * view.width), round(scale * view.height))
        found = [anchor for anchor in found if words.knows(anchor.label)]
        alone = any(anchor.label == touched for anchor in found)
        if view.width < NARROWEST or (view.width < NARROW and alone):
            found = [anchor for anchor in found if anchor.label == touched]
        return [(a.label, words.plain(a.label), a.x / scale, view.height - 1 - a.y / scale) for a in found]


def _draw(view, names, touched: str, language: str) -> None:
    """Write names on a view, in a column on either side.

    Args:
        view: the slice view.
        names: (label, name, x, y) of each, the most important first.
        touched: label of the structure that was touched.
        language: of the names.
    """
    overlay = view.findChild("QLabel", NAME)
    if overlay is None:
        if not names:
            return
        overlay = qt.QLabel(view)
        overlay.objectName = NAME
        overlay.setAttribute(qt.Qt.WA_TransparentForMouseEvents, True)
        overlay.setStyleSheet("background: transparent;")
    width, height = view.width, view.height
    overlay.setGeometry(0, 0, width, height)
    picture = qt.QPixmap(width, height)
    picture.fill(qt.QColor(0, 0, 0, 0))
    painter, font = qt.QPainter(), qt.QFont()
    font.setPixelSize(LETTERS)
    written = []
    painter.begin(picture)
    painter.setRenderHint(qt.QPainter.Antialiasing, True)
    painter.setFont(font)
    for on_left in (True, False):
        side = [entry for entry in names if (entry[2] < width / 2) == on_left]
        side = sorted(side, key=lambda entry: entry[0] != touched)
        side = side[: MOST if width >= NARROW else FEW]
        written += _column(painter, font, side, width, height, on_left, touched)
    painter.end()
    overlay.setPixmap(picture)
    overlay.accessibleName = glossary(language).parts["comma"].join(written)
    overlay.visible = bool(written)


def _column(painter, font, side, width: int, height: int, on_left: bool, touched: str) -> list[str]:
    """Draw the names of one side, and return those that had room."""
    metrics = qt.QFontMetrics(font)
    line, boxes, room = LETTERS + 3, [], height - 2 * GAP
    for label, name, x, y in side:
        lines = textwrap.wrap(name, ACROSS, break_long_words=False) or [name]
        tall = line * len(lines) + 2 * PAD + GAP
        if tall <= room:
            room -= tall
            boxes.append((y, x, label, name, lines, tall))
    boxes.sort(key=lambda box: box[0])
    tops = stacked([y - tall / 2 for y, _, _, _, _, tall in boxes], [box[5] for box in boxes], height - GAP)
    for top, (y, x, label, _, lines, tall) in zip(tops, boxes, strict=True):
        across = max(metrics.horizontalAdvance(text) for text in lines) + 2 * PAD
        left = GAP if on_left else width - GAP - across
        top, tall = round(top) + GAP // 2, tall - GAP
        color = qt.QColor(TOUCHED if label == touched else LINE)
        end = left + across if on_left else left
        for shade, thick in ((qt.QColor(GROUND), 4), (color, 2)):
            pen = qt.QPen(shade)
            pen.setWidth(thick)
            painter.setPen(pen)
            painter.drawLine(int(end), int(top + tall / 2), int(x), int(y))
        painter.setPen(qt.QPen(color))
        painter.setBrush(qt.QBrush(color))
        painter.drawEllipse(int(x) - 3, int(y) - 3, 6, 6)
        ground = qt.QColor(GROUND)
        ground.setAlpha(225)
        painter.setBrush(qt.QBrush(ground))
        painter.drawRoundedRect(int(left), int(top), int(across), int(tall), 4, 4)
        for n, text in enumerate(lines):
            painter.drawText(int(left) + PAD, int(top) + PAD + LETTERS - 2 + n * line, text)
    return [box[3] for box in boxes]


def _slice_widgets() -> list:
    layout = slicer.app.layoutManager()
    return [layout.sliceWidget(name) for name in layout.sliceViewNames()] if layout is not None else []

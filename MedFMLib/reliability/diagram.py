"""Draw a reliability plot as SVG: fraction of right answers against stated confidence. Knows numbers only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIDE, MARGIN, BINS = 300, 46, 10


def reliability(
    chances: Sequence[float], right: Sequence[float], before: Sequence[float] = (), title: str = "Reliability"
) -> str:
    """Return an SVG document; the area of a point grows with its number of answers.

    The diagonal is perfect calibration.

    Args:
        chances: stated confidence of each answer, 0…1.
        right: whether each answer was right, 0…1.
        before: another stated confidence of the same answers, drawn hollow.
        title: heading of the plot.
    """
    parts = [f'<path d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}" stroke="#888" stroke-dasharray="4 4"/>']
    for share in np.linspace(0, 1, 6):
        parts.append(f'<path d="M{_x(share)} {_y(0)}V{_y(1)}M{_x(0)} {_y(share)}H{_x(1)}" stroke="#ddd"/>')
        parts.append(f'<text x="{_x(share)}" y="{_y(0) + 16}" text-anchor="middle">{share:.1f}</text>')
        parts.append(f'<text x="{_x(0) - 6}" y="{_y(share) + 4}" text-anchor="end">{share:.1f}</text>')
    for values, style, name in (
        (before, 'fill="none" stroke="#b5651d" stroke-width="2"', "agreement as it is"),
        (chances, 'fill="#1f6fb2" fill-opacity="0.8"', "calibrated confidence"),
    ):
        for stated, came_true, count in points(values, right):
            radius = 3 + 12 * (count / len(right)) ** 0.5
            words = f"{name}: {stated:.2f} stated, {came_true:.2f} right, {count} answers"
            parts.append(
                f'<circle cx="{_x(stated)}" cy="{_y(came_true)}" r="{radius:.1f}" {style}><title>{words}</title></circle>'
            )
    middle, size = MARGIN + SIDE / 2, SIDE + 2 * MARGIN
    parts.append(f'<text x="{middle}" y="{size - 8}" text-anchor="middle">stated confidence</text>')
    parts.append(
        f'<text x="12" y="{middle}" text-anchor="middle" transform="rotate(-90 12 {middle})">share that was right</text>'
    )
    parts.append(f'<text x="{middle}" y="20" text-anchor="middle" font-weight="bold">{_escaped(title)}</text>')
    parts.append(
        f'<text x="{middle}" y="36" text-anchor="middle">filled: calibrated · hollow: agreement as it is</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" width="{size}" height="{size}" role="img" '
        f'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def points(chances: Sequence[float], right: Sequence[float]) -> list[tuple[float, float, int]]:
    """Return (mean stated confidence, fraction right, number of answers) of each of ten bins that has answers.

    Args:
        chances: stated confidence of each answer, 0…1.
        right: whether each answer was right, 0…1.
    """
    values, truth = np.asarray(chances, float), np.asarray(right, float)
    if not len(values):
        return []
    number = np.minimum((values * BINS).astype(int), BINS - 1)
    return [
        (float(values[number == b].mean()), float(truth[number == b].mean()), int((number == b).sum()))
        for b in np.unique(number)
    ]


def _x(share: float) -> float:
    return round(MARGIN + share * SIDE, 1)


def _y(share: float) -> float:
    return round(MARGIN + (1 - share) * SIDE, 1)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")

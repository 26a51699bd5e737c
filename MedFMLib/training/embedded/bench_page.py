"""Render the bench as one self-contained HTML page.

Key numbers, tables, pictures with outlines, failures, wrong answers.

Depends on tables, slice pictures and the report's key images; no models or measures. Pictures are in radiological
convention: the
patient's right is on the picture's left; in sagittal slices the front is.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from ... import NOTICE
from ...core.findings import Segment
from ...core.terminology import structure
from ...imaging.key_images import key_image
from .bench_tables import BenchSection, Failure, Figure, SlicePicture, Table, cell

PICTURE = 320
"""Pixels along the longer side of a slice."""

GALLERY = 12

_STYLE = """
:root { color-scheme: light; --ink: #1b2430; --soft: #53606f; --line: #d9dfe6; --accent: #17627a; --warn: #fdf3d8; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: var(--ink);
       max-width: 74rem; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; background: #fff; }
header { border-bottom: 3px solid var(--accent); padding-bottom: .5rem; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.25rem; color: var(--accent); margin: 2.4rem 0 .4rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .2rem; }
p { margin: .3rem 0; max-width: 56rem; }
.notice { background: var(--warn); border-left: 4px solid #d99a00; padding: .6rem .9rem; margin: 1rem 0; max-width: none; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .7rem; margin: 1rem 0; padding: 0; }
.cards div { border: 1px solid var(--line); border-radius: 6px; padding: .5rem .8rem; }
.cards dt { color: var(--soft); font-size: .92rem; line-height: 1.3; }
.cards dd { margin: 0; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .95rem; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .8rem; text-align: right; font-variant-numeric: tabular-nums;
         white-space: nowrap; }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; max-width: 11rem; }
th:first-child, td:first-child { text-align: left; padding-left: .2rem; }
tr.total td { font-weight: 600; border-top: 2px solid var(--line); }
.about, .note, figcaption { color: var(--soft); font-size: .95rem; }
.swatch { display: inline-block; width: .85em; height: .85em; border-radius: 2px; margin-right: .4em; border: 1px solid #0005; }
.legend { display: flex; flex-wrap: wrap; gap: .15rem 1.1rem; list-style: none; padding: 0; margin: .5rem 0; font-size: .95rem; }
.pictures { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .8rem; margin: .6rem 0 1.2rem;
            max-width: 66rem; }
.answers { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1rem; }
figure { margin: 0; }
figure img { display: block; width: 100%; background: #000; border-radius: 4px; }
.pictures img { aspect-ratio: 1; object-fit: contain; }
.answers img { aspect-ratio: 1; object-fit: contain; }
b.wrong { color: #a3261b; }
footer { margin-top: 3rem; border-top: 3px solid var(--accent); padding-top: .6rem; }
code { background: #f1f4f7; padding: .1rem .3rem; border-radius: 3px; overflow-wrap: anywhere; }
@media (max-width: 40rem) { .pictures { grid-template-columns: 1fr; } }
@media print { body { font-size: 11pt; padding: 0; } figure, tr { break-inside: avoid; } }
"""


def page(
    sections: Sequence[tuple[str, BenchSection]],
    wrong: Sequence[tuple[SlicePicture, str, str, str]],
    absent: Sequence[str],
    date: str,
    command: str,
    seconds: float,
) -> str:
    """Return the whole page.

    Args:
        sections: (heading, results).
        wrong: (slice, question, right answer, the model's answer).
        absent: sentences about what was not measured.
        date: of the measurement.
        command: that was run.
        seconds: duration.
    """
    summary = {name: value for _, section in sections for name, value in section.summary.items()}
    failures = gallery(f for _, section in sections for f in section.failures)
    body = [
        "<header><h1>MedFM-tiny, measured</h1></header>",
        f'<p class="notice" role="note"><strong>Research use only.</strong> {escape(NOTICE)}</p>',
        f'<dl class="cards">{"".join(_card(name, value) for name, value in summary.items() if value is not None)}</dl>',
        "<p>Pictures are in radiological convention: the patient's right (R) is on the left of axial and coronal slices; in "
        "sagittal slices front (A) is on the left. Outlines have the colours of the legend below each set.</p>",
        *(f'<p class="note">Not measured: {escape(sentence)}</p>' for sentence in absent),
    ]
    for heading, section in sections:
        body.append(f"<h2>{escape(heading)}</h2>")
        body += [_table(table) for table in section.tables]
        body += [_figure(figure) for figure in section.figures]
    if failures:
        body += [
            "<h2>Worst slices</h2>",
            "<p class='about'>The slices with the lowest Dice of a structure that is well visible there, over all cases; one "
            "slice a structure and at most three a case. Each row: the slice, the truth, the model's result.</p>",
            *(_failure(failure) for failure in failures),
        ]
    if wrong:
        body += ["<h2>Wrong answers</h2>", "<p class='about'>One of each kind of question in turn.</p>",
                 f'<div class="answers">{"".join(_wrong(*one) for one in wrong)}</div>']  # fmt: skip
    body.append(
        f"<footer><p><strong>Research use only.</strong> Measured on {escape(date)} in {seconds:.0f} s by "
        f"<code>{escape(command)}</code></p></footer>"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>MedFM-tiny, measured</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def gallery(
    failures: Iterable[Failure], most: int = GALLERY, per_structure: int = 1, per_case: int = 3
) -> list[Failure]:
    """Return the worst failures, with limits per structure and per case.

    Args:
        failures: all failures.
        most: largest number in all.
        per_structure: largest number per structure.
        per_case: largest number per case.
    """
    chosen: list[Failure] = []
    for failure in sorted(failures, key=lambda f: f.dice):
        same = sum(f.structure == failure.structure for f in chosen) < per_structure
        if same and sum(f.case == failure.case for f in chosen) < per_case:
            chosen.append(failure)
    return chosen[:most]


def _card(name: str, value: float) -> str:
    if name.endswith(", MB") or "seconds" in name:
        text = f"{value:.0f}" if value >= 10 else f"{value:.2f}"
    else:
        text = cell(value, name)
    return f"<div><dt>{escape(name)}</dt><dd>{text}</dd></div>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(column.strip())}</th>' for column in table.columns)
    rows = []
    for row in table.rows:
        total = str(row[0]).startswith("mean") or str(row[0]).endswith(": mean")
        cells = "".join(
            f"<td>{escape(cell(value, column))}</td>" for value, column in zip(row, table.columns, strict=True)
        )
        rows.append(f"<tr{' class=total' if total else ''}>{cells}</tr>")
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return (
        f'<h3>{escape(table.title)}</h3><p class="about">{escape(table.about)}</p>'
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{notes}'
    )


def _figure(figure: Figure) -> str:
    pictures = "".join(_picture(shot) for shot in figure.shots)
    names = dict.fromkeys(name for shot in figure.shots for name in shot.values)
    return (
        f'<h3>{escape(figure.title)}</h3><p class="about">{escape(figure.about)}</p>'
        f'<div class="pictures">{pictures}</div>{_legend(names)}'
    )


def _legend(names: Iterable[str]) -> str:
    items = "".join(
        f'<li><span class="swatch" style="background:{_hex(name)}"></span>{escape(name)}</li>' for name in names
    )
    return f'<ul class="legend">{items}</ul>' if items else ""


def _hex(name: str) -> str:
    return "#" + "".join(f"{round(255 * c):02x}" for c in structure(name).color)


def _failure(failure: Failure) -> str:
    shot = failure.shot
    plain = shot.bare(f"{shot.plane} slice {shot.number}")
    truth = SlicePicture(shot.image, shot.plane, shot.number, "truth", shot.values, shot.truth)
    found = SlicePicture(shot.image, shot.plane, shot.number, "MedFM-tiny", shot.values, None, shot.found)
    pictures = "".join(_picture(one) for one in (plain, truth, found))
    return f'<h3>{escape(shot.caption)}</h3><div class="pictures">{pictures}</div>{_legend(shot.values)}'


def _wrong(shot: SlicePicture, question: str, wanted: str, got: str) -> str:
    return (
        f"<figure>{_image(shot)}<figcaption>{escape(shot.caption)}<br>{escape(question)}<br>right: <b>{escape(wanted)}</b><br>"
        f'MedFM-tiny: <b class="wrong">{escape(got) or "(nothing)"}</b></figcaption></figure>'
    )


def _picture(shot: SlicePicture) -> str:
    return f"<figure>{_image(shot)}<figcaption>{escape(shot.caption)}</figcaption></figure>"


def _image(shot: SlicePicture) -> str:
    return f'<img alt="{escape(shot.caption)}" src="data:image/png;base64,{base64.b64encode(picture(shot)).decode()}">'


def picture(shot: SlicePicture) -> bytes:
    """Return a PNG of a slice with the outlines of its truth or of its result; plain if it has neither."""
    parts = shot.truth if shot.found is None else shot.found
    segments = []
    if parts is not None:
        seen = set(np.unique(parts.take(shot.number, shot.image.geometry.index_axis(shot.plane))).tolist())
        for name, numbers in shot.values.items():
            if seen & set(numbers):
                segments.append(Segment(name, np.isin(parts, numbers), structure(name).color))
    made = key_image(shot.image, shot.plane, shot.number, segments, PICTURE)
    return made.overlay_png if segments and not shot.plain else made.png

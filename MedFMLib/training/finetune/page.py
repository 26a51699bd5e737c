"""Render the adapter's card as one HTML page with embedded plots, readable offline. Knows the card's fields."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from typing import Any

from ...models.runtime.device import gigabytes
from .monitor import ClipMonitor
from .plots import _figure, plot_steps

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.15rem .7rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child{text-align:left}.good{color:#176117}.bad{color:#a11}img{max-width:100%}h1{margin-bottom:0}"""


def html(card: dict[str, Any], clip_monitor: ClipMonitor | None = None) -> str:
    """Return the page.

    Args:
        card: result of `judging.card_of`.
        clip_monitor: steps of the training, for its plot; None for none.
    """
    result, verdict = card["results"], card["verdict"]
    said = "may be used" if verdict["offered"] else "is not offered for use"
    color, reasons = "good" if verdict["offered"] else "bad", escape("; ".join(verdict["reasons"]))
    head = f'<p class="{color}"><b>This adapter {said}.</b> {reasons}</p>'
    parts = [
        f"<h1>{escape(card['name'])}</h1><p>LoRA adapter of {escape(card['base']['title'])}, made {card['made']}. "
        f"{escape(card['note'])}</p>",
        head,
        *(f"<p>{escape(note)}</p>" for note in (*verdict["notes"], *card["training"]["watched"]["warnings"])),
        f"<h2>Held-out patients ({result['patients']} patients, {result['pairs']} pairs)</h2>",
        _scores(result["table"]),
        _image(_bars(result["table"])),
        "<h2>Safety drift</h2>",
        _rows(("asked", "count", "unsafe before", "unsafe after", "95 % interval of the difference"),
              [(name, p["count"], f"{p['before']:.1%}", f"{p['after']:.1%}", f"{p['low']:+.3f} … {p['high']:+.3f}")
               for name, p in result["safety"]["parts"].items()]),
    ]  # fmt: skip
    if "reliance" in result:
        found = result["reliance"]
        parts += ["<h2>Reliance on the picture</h2>", _rows(("picture", "score", "answers changed"), [
            ("as it is", f"{found['with']:.3f}", ""),
            *((name, f"{found[key]['score']:.3f}", f"{found[key]['changed']:.1%}")
              for name, key in (("none", "without"), ("another patient's", "another's"))),
        ])]  # fmt: skip
    if "calibration" in result:
        errors = ", ".join(f"{way} {value['error']:.3f}" for way, value in result["calibration"].items())
        parts += [
            f"<h2>Calibration</h2><p>Expected calibration error: {errors}.</p>",
            _image(_calibration(result["calibration"])),
        ]
    if result.get("precisions"):
        parts += ["<h2>Cost of quantization</h2>", _rows(("precision of the base", "score", "same answers", "bytes"), [
            (p["precision"], f"{p['score']:.3f}", f"{p['same_answers']:.1%}", gigabytes(p["bytes"])) if "score" in p
            else (p["precision"], p["says"], "", "") for p in result["precisions"]])]  # fmt: skip
    parts += ["<h2>Training</h2>", _rows(("setting", "value"), [(k, v) for k, v in card["settings"].items()])]
    if clip_monitor is not None and clip_monitor.steps:
        parts.append(_image(_steps(clip_monitor)))
    facts = {"base": f"{card['base']['id']} {card['base']['revision'][:16]}", "base's licence": card["base"]["licence"],
             "data": f"{card['data']['source']}, SHA-256 {card['data']['sha256'][:16]}",
             "data's licence": card["data"]["licence"],
             "adapter's licence": card["licence"], "weights": f"SHA-256 {card['sha256']}"}  # fmt: skip
    parts += ["<h2>Origin</h2>", _rows(("", ""), list(facts.items()))]
    return (f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(card["name"])}</title><style>{STYLE}</style>'
            f"<body>{''.join(parts)}</body></html>")  # fmt: skip


def _rows(heading, rows) -> str:
    head = "".join(f"<th>{escape(str(h))}</th>" for h in heading)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(cell: dict[str, float]) -> str:
    return f"{cell['score']:.3f} ({cell['low']:.3f} … {cell['high']:.3f})"


def _scores(table: dict[str, Any]) -> str:
    rows = []
    for name, row in table.items():
        gained = row["difference"]
        more = (
            f"{row['before']['f1']:.3f} → {row['after']['f1']:.3f}",
            _pair(row, "bleu", ".1f"),
            _pair(row, "rouge_l", ".3f"),
        )
        rows.append((name, row["count"], row["patients"], f"{row['most common']['score']:.3f}", _cell(row["before"]),
                     _cell(row["after"]), f"{gained['score']:+.3f} ({gained['low']:+.3f} … {gained['high']:+.3f})", *more,
                     _pair(row, "surface_mm", ".2f")))  # fmt: skip
    heading = (
        "",
        "count",
        "patients",
        "most common",
        "before",
        "after",
        "difference",
        "F1",
        "BLEU",
        "ROUGE-L",
        "surfaces, mm",
    )
    return _rows(heading, rows)


def _pair(row: dict[str, Any], name: str, form: str) -> str:
    values = [f"{row[way][name]:{form}}" if name in row[way] else "–" for way in ("before", "after")]
    return "" if values == ["–", "–"] else " → ".join(values)


def _image(png: bytes) -> str:
    return f'<p><img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>'


def _saved(figure) -> bytes:
    from matplotlib import pyplot

    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    pyplot.close(figure)
    return stream.getvalue()


def _bars(table: dict[str, Any]) -> bytes:
    figure, axis = _figure(1)
    names = list(table)[:14]
    for shift, way, color in ((-0.2, "before", "#9aa"), (0.2, "after", "#269")):
        cells = [table[name][way] for name in names]
        middle = [c["score"] for c in cells]
        ends = [[max(0, m - c["low"]) for m, c in zip(middle, cells, strict=True)],
                [max(0, c["high"] - m) for m, c in zip(middle, cells, strict=True)]]  # fmt: skip
        axis.barh(
            [n + shift for n in range(len(names))],
            middle,
            0.38,
            xerr=ends,
            color=color,
            label=way,
            error_kw={"lw": 0.8},
        )
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set_xlim(0, 1)
    axis.invert_yaxis()
    axis.legend(fontsize=7, frameon=False)
    figure.set_size_inches(8, 0.8 + 0.35 * len(names))
    return _saved(figure)


def _calibration(found: dict[str, Any]) -> bytes:
    figure, axis = _figure(1)
    axis.plot((0, 1), (0, 1), color="#bbb", linewidth=0.8)
    for way, value in found.items():
        axis.plot([c for c, *_ in value["bins"]], [h for _, h, _ in value["bins"]], marker="o", markersize=3, label=way)
    axis.set_xlabel("confidence")
    axis.set_ylabel("right")
    axis.legend(fontsize=7, frameon=False)
    figure.set_size_inches(4, 3)
    return _saved(figure)


def _steps(clip_monitor: ClipMonitor) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        plot_steps(clip_monitor, Path(folder) / "steps.png")
        return (Path(folder) / "steps.png").read_bytes()

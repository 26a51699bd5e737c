"""Write the results of a batch to `index.html` and `summary.csv`."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from .. import NOTICE
from ..core.findings import Measurement
from ..errors import ModelError
from ..files.tables import safe_cell
from ..files.writing import write_text
from ..storage import resources
from .manifest import ManifestRow

PAGE, TABLE = "index.html", "summary.csv"
COLUMNS = (
    "case", "task", "state", "seconds", "number", "segment", "name", "value", "unit", "question", "answer", "error", "note",
)  # fmt: skip


def write(folder: Path, rows: Sequence[ManifestRow], version: str) -> None:
    """Write both files.

    Args:
        folder: of the batch.
        rows: of the manifest.
        version: of MedFM.

    Raises:
        OutputError: if they can't be written.
        ModelError: if jinja2 is missing.
    """
    write_text(folder / TABLE, _table(rows))
    write_text(folder / PAGE, _page(rows, version))


def _table(rows: Sequence[ManifestRow]) -> str:
    """Return one line per measurement and answer, and one for each row without any."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        common = {"case": row.case_id, "task": row.step.key, "state": row.state, "seconds": row.seconds}
        lines = [
            {key: m.get(key, "") for key in ("number", "segment", "name", "value", "unit")}
            for m in row.found.get("measurements", ())
        ]
        lines += [{key: a[key] for key in ("question", "answer")} for a in row.found.get("answers", ())]
        for line in lines or [{"error": row.error}]:
            whole = {**common, **line, "note": row.found.get("note", "")}
            writer.writerow({key: safe_cell(value) for key, value in whole.items()})
    return stream.getvalue()


def _page(rows: Sequence[ManifestRow], version: str) -> str:
    try:
        from jinja2 import Environment
    except ImportError:
        raise ModelError(
            "The summary page needs the package jinja2; install it with `pip install medfm[report]`."
        ) from None
    source = resources.path("batch", "index.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    counts = Counter(row.state for row in rows)
    seconds = [row.seconds for row in rows if row.state == "done"]
    used = sorted({(row.model, row.precision, row.adapter, row.revision[:16]) for row in rows if row.model})
    return page.render(
        notice=NOTICE, version=version, rows=[_shown(row) for row in rows], counts=counts, total=len(rows), used=used,
        cases=len({row.case_id for row in rows}), mean=sum(seconds) / len(seconds) if seconds else 0.0,
    )  # fmt: skip


def _shown(row: ManifestRow) -> dict:
    measurements = [str(Measurement(**m)) for m in row.found.get("measurements", ())]
    return {
        "case": row.case_id,
        "task": row.step.question or row.step.task,
        "state": row.state,
        "seconds": f"{row.seconds:.1f}" if row.seconds else "",
        "attempts": row.attempts,
        "error": row.error,
        "note": row.found.get("note", ""),
        "segments": len(row.found.get("segments", ())),
        "measurements": measurements,
        "answers": [a["answer"] for a in row.found.get("answers", ())],
        "files": [
            {"href": quote(name), "name": Path(name).name.removeprefix(row.case_id + ".")} for name, _ in row.files
        ],
    }

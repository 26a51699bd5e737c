"""Print rows as a table at the end of a test run."""

from __future__ import annotations

from collections.abc import Sequence


def print_rows(reporter, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], widest: int = 66) -> None:
    """Print a table with pytest's terminal reporter; nothing if there are no rows.

    Args:
        reporter: pytest's terminal reporter.
        title: of the section.
        columns: titles.
        rows: a text for each column.
        widest: letters of a column; longer texts are cut.
    """
    if not rows:
        return
    widths = [min(widest, max(len(row[n]) for row in [columns, *rows])) for n in range(len(columns))]
    reporter.section(title)
    for row in [columns, *rows]:
        reporter.write_line(
            "  ".join(cell[:widest].ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )

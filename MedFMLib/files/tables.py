"""Write tables of text and numbers that spreadsheets open as they are. Knows cells; no measurements."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Spreadsheets interpret a text cell with such a first character as a formula, which may fetch or run something."""


def safe_cell(value):
    """Return a cell's value; a text that a spreadsheet would take for a formula gets an apostrophe, a number stays.

    Carriage returns become line feeds: Python's `csv` before 3.13 leaves them without quotes, so that a row would end there.
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if value.startswith(FORMULA) else text


def as_csv(titles: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Return a table as comma-separated values, in lines that end with a line feed.

    Args:
        titles: of the columns.
        rows: the values of each row, numbers as numbers.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows([safe_cell(value) for value in row] for row in rows)
    return stream.getvalue()

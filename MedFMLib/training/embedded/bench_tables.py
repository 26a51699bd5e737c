"""What the bench found, as tables, figures and failures that the console, the JSON file and the page share.

Knows words and numbers; nothing of models or HTML. A cell is text, a number, an (low, high) interval, or None for "not
measured". Numbers between 0 and 1 are shares or Dice, unless the column names a unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...core.image import Image


@dataclass(frozen=True)
class Table:
    """One table.

    Args:
        title: what was measured.
        about: on which data, and what training saw of them.
        columns: of which the first names the rows.
        rows: lists of cells.
        notes: sentences below it.
    """

    title: str
    about: str
    columns: tuple[str, ...]
    rows: list[list]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SlicePicture:
    """One slice to be shown: `found` and `truth` are (I, J, K) part numbers on the image's grid, or None for none.

    Args:
        values: structure to outline → its numbers in them. caption: below the picture. plain: without outlines.
    """

    image: Image = field(repr=False)
    plane: str
    number: int
    caption: str
    values: Mapping[str, tuple[int, ...]] = field(repr=False, default_factory=dict)
    truth: np.ndarray | None = field(repr=False, default=None)
    found: np.ndarray | None = field(repr=False, default=None)
    plain: bool = False

    def bare(self, caption: str) -> SlicePicture:
        """The same slice and window without outlines."""
        return replace(self, caption=caption, plain=True)


@dataclass(frozen=True, eq=False)
class Failure:
    """A slice where a visible structure was drawn badly, with its Dice there."""

    dice: float
    case: str
    structure: str
    shot: SlicePicture


@dataclass(frozen=True, eq=False)
class Figure:
    """Slices shown together under a title."""

    title: str
    about: str
    shots: tuple[SlicePicture, ...]


@dataclass(eq=False)
class BenchSection:
    """What one part of the bench found. `summary`: short name → number, for the top of the page."""

    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    summary: dict[str, float] = field(default_factory=dict)

    def __iadd__(self, other: BenchSection) -> BenchSection:
        self.tables += other.tables
        self.figures += other.figures
        self.failures += other.failures
        self.summary |= other.summary
        return self


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the numbers among some cells, None if there is none."""
    numbers = [v for v in values if v is not None]
    return float(np.mean(numbers)) if numbers else None


def cell(value, column: str = "") -> str:
    """A cell as text; the column tells how exact a number should be."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, tuple | list):
        return " … ".join(cell(v, column) for v in value)
    if isinstance(value, int | np.integer):
        return f"{value}"
    if column.endswith(("mm", " s")):
        return f"{value:.2f}"
    return f"{value:.3f}"


def as_text(table: Table) -> str:
    """A table for the terminal, its notes below."""
    rows = [[cell(value, column) for value, column in zip(row, table.columns, strict=True)] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *rows, strict=True)]
    lines = [table.title, f"  {table.about}"]
    for row in (table.columns, *rows):
        first, *rest = (
            text.ljust(w) if n == 0 else text.rjust(w) for n, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  " + "  ".join([first, *rest]).rstrip())
    return "\n".join([*lines, *(f"  {note}" for note in table.notes)])

"""Define tables, figures and failures of the bench, shared by terminal, JSON file and page.

Depends on words and numbers; no models or HTML. A cell is text, a number, a (low, high) interval, or None for "not
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
        about: the data, and which of them training used.
        columns: titles; the first column has the row names.
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
    """One slice to be shown.

    Args:
        image: the volume.
        plane: sagittal, coronal or axial.
        number: slice number along the plane's index axis.
        caption: below the picture.
        values: structure to outline → its numbers in `truth` and `found`.
        truth: (I, J, K) part numbers on the image's grid, or None.
        found: (I, J, K) part numbers on the image's grid, result, or None.
        plain: without outlines.
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
        """Return the same slice and window without outlines."""
        return replace(self, caption=caption, plain=True)


@dataclass(frozen=True, eq=False)
class Failure:
    """A slice where a visible structure was segmented poorly, with its Dice there."""

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
    """Results of one part of the bench. `summary`: short name → number, for the top of the page."""

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
    """Return the mean of the numbers among some cells, None if there is none."""
    numbers = [v for v in values if v is not None]
    return float(np.mean(numbers)) if numbers else None


def cell(value, column: str = "") -> str:
    """Return a cell as text.

    Args:
        value: the cell.
        column: its title, which determines the number of digits.
    """
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
    """Return a table for the terminal, with its notes."""
    rows = [[cell(value, column) for value, column in zip(row, table.columns, strict=True)] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *rows, strict=True)]
    lines = [table.title, f"  {table.about}"]
    for row in (table.columns, *rows):
        first, *rest = (
            text.ljust(w) if n == 0 else text.rjust(w) for n, (text, w) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  " + "  ".join([first, *rest]).rstrip())
    return "\n".join([*lines, *(f"  {note}" for note in table.notes)])

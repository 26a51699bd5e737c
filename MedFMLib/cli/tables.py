"""Print tables: fitted to the width of a terminal, and whole, in aligned plain text, into a pipe or file.

In a terminal a table drops columns that do not fit, the least important first, rather than break words; `--wide` prints them all.
Nothing that is piped depends on a width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .console import printable

Wide = Annotated[bool, typer.Option("--wide", help="Print every column of the table, however wide it gets.")]


def print_table(
    out: Console,
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    title: str = "",
    caption: str = "",
    right: Sequence[str] = (),
    first: Sequence[str] = (),
    wide: bool = False,
    more: str = "--wide",
) -> None:
    """Print a table.

    Args:
        out: where to.
        titles: of the columns.
        rows: a text for each column.
        title: above the table.
        caption: below it.
        right: titles of the columns aligned to the right.
        first: titles of the columns to show first where not all fit, the most important first; the others follow in order.
            Without any, all columns are shown, and long texts are folded.
        wide: print every column in aligned plain text, as into a pipe.
        more: where the columns that were dropped can be had, for the caption.
    """
    rows = [[printable(cell).replace("\n", " ") for cell in row] for row in rows]
    if wide or not out.is_terminal:
        _print_plain(out, titles, rows, title, caption, right)
        return
    shown = _fitting(titles, rows, first, out.width) if first else list(range(len(titles)))
    if len(shown) < len(titles):
        dropped = len(titles) - len(shown)
        caption = f"{caption}{'; ' if caption else ''}{dropped} more column{'s' if dropped > 1 else ''}: {more}"
    table = Table(
        title=Text(printable(title)) if title else None,
        caption=Text(printable(caption)) if caption else None,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    for n in shown:
        aligned = titles[n] in right
        keep = bool(first) or aligned
        table.add_column(
            Text(printable(titles[n])), justify="right" if aligned else "left", no_wrap=keep, overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(row[n]) for n in shown))
    out.print(table, highlight=False)


def _widths(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, (title, *(row[n] for row in rows)))) for n, title in enumerate(titles)]


def _fitting(titles: Sequence[str], rows: Sequence[Sequence[str]], first: Sequence[str], width: int) -> list[int]:
    """Return the numbers of the columns that fit, in their order; the most important one always does."""
    order = [titles.index(name) for name in first if name in titles]
    order += [n for n in range(len(titles)) if n not in order]
    widths, left, chosen = _widths(titles, rows), width - 2, []
    for n in order:
        if chosen and widths[n] + 2 > left:
            break
        chosen.append(n)
        left -= widths[n] + 2
    return sorted(chosen)


def _print_plain(out: Console, titles, rows, title: str, caption: str, right) -> None:
    widths = _widths(titles, rows)

    def line(cells) -> str:
        made = []
        for n, cell in enumerate(cells):
            space = " " * (widths[n] - cell_len(cell))
            made.append(space + cell if titles[n] in right else cell + space)
        return "  ".join(made).rstrip()

    lines = [title] if title else []
    lines += [line(titles), line(["-" * width for width in widths]), *map(line, rows)]
    lines += [caption] if caption else []
    for text in lines:
        out.print(text, highlight=False, soft_wrap=True, no_wrap=True, overflow="ignore", crop=False)

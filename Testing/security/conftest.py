"""Attacks for real: each does on this machine what a stranger's file would do, and the run ends with a table."""

from __future__ import annotations

import resource
import time

import pytest

ROWS: list[tuple[str, str, str, str]] = []


@pytest.fixture
def attack(request):
    """Call it with (before, now): adds a row with peak memory and seconds to the table."""
    start, base = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def add(before: str, now: str) -> None:
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) / 1024
        cost = f"+{grown:.0f} MB, {time.monotonic() - start:.1f} s"
        ROWS.append((request.node.name.removeprefix("test_").replace("_", " "), before, now, cost))

    return add


def pytest_terminal_summary(terminalreporter):
    """Print the table."""
    if not ROWS:
        return
    columns = ("attack", "before", "now", "cost")
    widths = [min(70, max(len(row[n]) for row in [columns, *ROWS])) for n in range(4)]
    terminalreporter.section("attacks")
    for row in [columns, *ROWS]:
        terminalreporter.write_line(
            "  ".join(cell[:70].ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )

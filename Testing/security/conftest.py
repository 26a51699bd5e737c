"""Attacks for real: each does on this machine what a stranger's file would do, and the run ends with a table."""

from __future__ import annotations

import resource
import time

import pytest
from support.summary_table import print_rows

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
    print_rows(terminalreporter, "attacks", ("attack", "before", "now", "cost"), ROWS)

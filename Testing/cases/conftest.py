"""Cases from the field: each compares MedFM with an independent reader, and the run ends with a table of all of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.summary_table import print_rows

ROWS: list[tuple[str, str, str, str]] = []


@pytest.fixture
def table(request):
    """Call it with (right value, reader that said so, ours): adds a row to the table of cases."""

    def add(right, reader: str, ours) -> None:
        name = request.node.name.removeprefix("test_").replace("_", " ")
        ROWS.append((name, str(right), reader, str(ours)))

    return add


@pytest.fixture(scope="session")
def dcm2niix():
    """Convert a folder with dcm2niix and return the NIfTI files, sorted."""
    program = shutil.which("dcm2niix")
    if program is None:
        pytest.skip("dcm2niix isn't installed (apt install dcm2niix)")

    def convert(folder: Path, target: Path) -> list[Path]:
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run([program, "-z", "y", "-f", "%s_%e_%p", "-o", target, folder], check=True, capture_output=True)
        return sorted(target.glob("*.nii.gz"))

    return convert


def pytest_terminal_summary(terminalreporter):
    """Print the table."""
    print_rows(terminalreporter, "cases from the field", ("case", "right", "reader", "ours"), ROWS)

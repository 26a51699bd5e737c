"""Fixtures that run the command in a separate process, or in this one."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.store_fixtures import hub, models_folder, published, zoo  # noqa: F401

from MedFMLib.cli import app as cli

ROOT = Path(__file__).resolve().parents[2]


def medfm_process(*arguments):
    """Run `medfm` as a person would; stdout and stderr as text."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "MedFMLib.cli", *map(str, arguments)],
        capture_output=True, text=True, env=environment, timeout=400, check=False,
    )  # fmt: skip


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def medfm(monkeypatch, capfd):
    """The command in this process, through its own entry point: seconds faster a call."""

    def call(*arguments):
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["medfm", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capfd.readouterr()
        return Done(code, said.out, said.err)

    return call

"""The command in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def medfm_process(*arguments):
    """Run `medfm` as a person would; stdout and stderr as text."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "MedFMLib.cli", *map(str, arguments)],
        capture_output=True, text=True, env=environment, timeout=400, check=False,
    )  # fmt: skip

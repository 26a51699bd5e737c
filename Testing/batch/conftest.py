"""Fixtures for tests of the batch: the command in a separate process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from support.batch_in_test import COMPUTE, COMPUTES, ROOT, kill_tree


@pytest.fixture(autouse=True)
def _computes(monkeypatch, tmp_path):
    """Worker processes find the tests' computes."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(COMPUTES), str(ROOT)]))
    monkeypatch.setenv("MEDFM_TEST_MARKS", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def start_batch():
    """Start `medfm batch`; a process that still runs at the end is killed."""
    started = []

    def start(*arguments, compute=COMPUTE):
        command = [sys.executable, "-m", "MedFMLib.cli", "batch", *map(str, arguments), "--json"]
        command += ["--compute", compute] if compute else []
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        started.append(process)
        return process

    yield start
    for process in started:
        kill_tree(process)


@pytest.fixture
def batch(start_batch):
    """Run `medfm batch` to its end; → (exit code, what --json printed or None, stderr)."""

    def run(*arguments, **options):
        process = start_batch(*arguments, **options)
        said, error = process.communicate(timeout=200)
        return process.returncode, json.loads(said) if said.startswith("{") else None, error

    return run

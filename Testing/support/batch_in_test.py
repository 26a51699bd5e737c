"""Volumes for batches in tests, what a batch wrote, and how one is killed."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import psutil
import SimpleITK as sitk

ROOT = Path(__file__).parents[2]
COMPUTES = Path(__file__).parents[1] / "batch" / "computes"
COMPUTE = "batch_examples:ByName"


def write_volume(path: Path, seed: int = 0, shape=(6, 8, 10)) -> Path:
    """A computed volume of random voxels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.random.default_rng(seed).integers(0, 100, shape).astype(np.int16)
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(path))
    return path


def checksums(folder: Path) -> dict[str, str]:
    """Result files of each case → SHA-256; none of them may be a temporary one."""
    files = [path for path in folder.glob("*/**/*") if path.is_file()]
    assert not [path for path in files if path.name.startswith(".") or ".partial" in path.parts]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kill_tree(process: subprocess.Popen) -> None:
    """SIGKILL a process and all that it started, at once."""
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            pass
    process.wait(10)

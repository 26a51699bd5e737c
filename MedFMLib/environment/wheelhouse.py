"""Make a folder of wheels for machines without internet, and check its hashes after copying."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from ..errors import InputError, ModelError
from ..files.writing import make_folder, write_text
from ..storage.json_text import read_json
from .pip_errors import explain

MANIFEST = "medfm-wheelhouse.json"


def make(folder: Path, requirements: list[str], platform: str = "", python: str = "", index: str = "") -> list[Path]:
    """Download wheels of requirements and of their dependencies, and return the wheels.

    Args:
        folder: destination.
        requirements: such as "torch>=2.6".
        platform: of another machine, such as "win_amd64" or "manylinux_2_28_x86_64"; "" for this one.
        python: its version, such as "3.12"; "" for this one.
        index: package index of torch, "" for the usual one.

    Raises:
        ModelError: if pip failed, with the reason.
    """
    make_folder(folder)
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--only-binary", ":all:", "--dest", str(folder)]
    command += ["--platform", platform] if platform else []
    command += ["--python-version", python] if python else []
    command += ["--extra-index-url", index] if index else []
    done = subprocess.run([*command, *requirements], capture_output=True, text=True)
    if done.returncode:
        raise ModelError(f"The wheels can't be downloaded: {explain((done.stdout + done.stderr).splitlines())}.")
    write_manifest(folder)
    return sorted(folder.glob("*.whl"))


def write_manifest(folder: Path) -> Path:
    """Write the SHA-256 of every wheel to the manifest."""
    hashes = {wheel.name: sha256(wheel) for wheel in sorted(folder.glob("*.whl"))}
    return write_text(folder / MANIFEST, json.dumps(hashes, indent=2))


def check_hashes(folder: Path) -> None:
    """Compare every wheel with the manifest.

    Raises:
        InputError: if one is missing, differs, or is not listed; a folder without a manifest passes only if it has no
            wheels.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise InputError(
            f"'{folder}' has no {MANIFEST}; make the folder with `medfm environment wheelhouse`, and copy all of it."
        )
    try:
        known = read_json(manifest.read_bytes())
    except ValueError as error:
        raise InputError(f"The {MANIFEST} in '{folder}' is damaged; copy the folder again.") from error
    for name in sorted(set(known) | {wheel.name for wheel in folder.glob("*.whl")}):
        if name not in known:
            raise InputError(f"The wheel '{name}' is not in the folder's list, so its origin is unknown; remove it.")
        if not (folder / name).is_file() or sha256(folder / name) != known[name]:
            raise InputError(f"The wheel '{name}' is missing or damaged; copy the folder again.")


def sha256(path: Path) -> str:
    """Return the hex digest of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

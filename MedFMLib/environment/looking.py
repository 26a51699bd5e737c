"""Collect the facts that decide where packages are installed: system, GPU, Python, packages. Changes nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..storage import paths, resources

PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


@dataclass(frozen=True)
class EnvironmentFacts:
    """Facts about the machine and the calling program.

    Args:
        system: "Linux", "Darwin" or "Windows".
        machine: architecture of this process, such as "x86_64".
        native: architecture of the computer; differs from `machine` under Rosetta.
        python: version of this process's Python.
        slicer: version of the calling 3D Slicer, "" if there is none.
        installer: "packaging" (`slicer.packaging`), "util" (`slicer.util.pip_install`) or "".
        torch_arguments: parameters of `PyTorchUtils`' installer; empty without that extension.
        gpu: "cuda", "rocm", "mps" or "".
        installed: versions of installed packages, by name in lower case.
        free: free bytes at the location of a separate environment.
        proxy: whether a proxy is set.
        uv: path of `uv`, "" if it is not installed.
        pythons: other interpreters, path → (version, machine).
    """

    system: str
    machine: str
    native: str
    python: tuple[int, int]
    slicer: str = ""
    installer: str = ""
    torch_arguments: tuple[str, ...] = ()
    gpu: str = ""
    installed: dict[str, str] = field(default_factory=dict)
    free: int = 0
    proxy: bool = False
    uv: str = ""
    pythons: dict[str, tuple[tuple[int, int], str]] = field(default_factory=dict)


def look(quick: bool = False) -> EnvironmentFacts:
    """Collect the facts, which takes up to a few seconds if a GPU's driver responds slowly.

    Args:
        quick: skip the GPU and other Pythons, which require running programs; sufficient to decide where packages go.
    """
    system, machine = platform.system(), platform.machine()
    slicer, installer, arguments = _slicer()
    return EnvironmentFacts(
        system,
        machine,
        _native(system, machine),
        sys.version_info[:2],
        slicer,
        installer,
        arguments,
        "" if quick else _gpu(system, _native(system, machine)),
        {d.metadata["Name"].lower(): d.version for d in importlib.metadata.distributions() if d.metadata["Name"]},
        _free(paths.data()),
        any(os.environ.get(name) for name in PROXIES),
        shutil.which("uv") or "",
        {} if quick else _pythons(),
    )


def needed() -> list[str]:
    """Return the requirements beyond what Slicer ships."""
    return list(resources.load_json("environment", "packages.json")["needed"])


def name_of(requirement: str) -> str:
    """Return the package name of a requirement in lower case: "torch" for "torch>=2.6"."""
    return re.match(r"[A-Za-z0-9._-]+", requirement).group().lower()


def satisfied(requirement: str, installed: dict[str, str], facts: EnvironmentFacts) -> bool | None:
    """Return whether a requirement is met; None if the package is missing, True if its marker excludes this machine.

    Args:
        requirement: as in packages.json.
        installed: versions by name in lower case.
        facts: system, machine and Python version.
    """
    Requirement = _requirement_class()
    wanted = Requirement(requirement)
    environment = {
        "sys_platform": {"Darwin": "darwin", "Windows": "win32"}.get(facts.system, "linux"),
        "platform_machine": facts.machine,
        "platform_system": facts.system,
        "python_version": ".".join(map(str, facts.python)),
    }
    if wanted.marker is not None and not wanted.marker.evaluate(environment):
        return True
    version = installed.get(wanted.name.lower())
    return None if version is None else wanted.specifier.contains(version, prereleases=True)


def _requirement_class():
    try:
        from packaging.requirements import Requirement
    except ImportError:  # before Slicer 5.12, only pip includes it
        from pip._vendor.packaging.requirements import Requirement
    return Requirement


def _slicer() -> tuple[str, str, tuple[str, ...]]:
    if importlib.util.find_spec("slicer") is None or "slicer" not in sys.modules:
        return "", "", ()
    application = getattr(sys.modules["slicer"], "app", None)
    version = str(getattr(application, "applicationVersion", "") or "unknown")
    if sys.modules.get("slicer.packaging") or _has("slicer.packaging"):
        installer = "packaging"
    else:
        installer = "util" if hasattr(sys.modules.get("slicer.util"), "pip_install") else ""
    return version, installer, torch_arguments()


def torch_arguments() -> tuple[str, ...]:
    """Return the parameters of the PyTorch extension's installer, which differ between its versions."""
    if not _has("PyTorchUtils"):
        return ()
    import PyTorchUtils

    logic = getattr(PyTorchUtils, "PyTorchUtilsLogic", None)
    try:
        return tuple(name for name in inspect.signature(logic.installTorch).parameters if name != "self")
    except (AttributeError, TypeError, ValueError):
        return ()


def _has(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return name in sys.modules


def _native(system: str, machine: str) -> str:
    """Return the architecture of the processor: under Rosetta an Apple one reports x86_64."""
    if system == "Darwin" and machine == "x86_64" and _said("sysctl", "-n", "sysctl.proc_translated") == "1":
        return "arm64"
    return machine


def _gpu(system: str, native: str) -> str:
    if system == "Darwin":
        return "mps" if native == "arm64" else ""
    if _said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"):
        return "cuda"
    return "rocm" if system == "Linux" and shutil.which("rocminfo") and Path("/dev/kfd").exists() else ""


def _pythons() -> dict[str, tuple[tuple[int, int], str]]:
    """Return the interpreters that can create a separate environment, best first."""
    found: dict[str, tuple[tuple[int, int], str]] = {}
    places = [f"python3.{minor}" for minor in (12, 11, 13)] + [
        "python3",
        "/opt/homebrew/bin/python3.12",
        "/opt/homebrew/bin/python3",
    ]
    for name in places:
        path = shutil.which(name)
        if not path or path in found:
            continue
        said = _said(
            path, "-c", "import sys, platform, venv, ensurepip; print(*sys.version_info[:2], platform.machine())"
        )
        parts = said.split()
        if len(parts) == 3:
            found[path] = ((int(parts[0]), int(parts[1])), parts[2])
    return found


def _said(*command: str) -> str:
    """Return the output of a program; "" if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0

"""Create a separate environment step by step, continue after a stop, and remove it, by running pip and Python.

    FOLDER/state.json   the plan, the finished steps, and "ready" once the check has passed
    FOLDER/log.txt      pip's output
    FOLDER/venv/        the environment

An environment without "ready" is never used.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from dataclasses import asdict, replace
from pathlib import Path

from ..errors import Cancelled, InputError, ModelError
from ..interfaces.jobs import Progress
from ..storage import paths, user_settings
from .looking import name_of
from .pip_errors import explain
from .planning import InstallPlan
from .wheelhouse import check_hashes

STEPS = ("environment", "torch", "packages", "check")
TITLES = {
    "environment": "Making the environment",
    "torch": "Installing PyTorch",
    "packages": "Installing the other packages",
    "check": "Checking that everything can be imported",
}
IMPORTED_AS = {"pillow": "PIL", "simpleitk": "SimpleITK"}


def root() -> Path:
    """Return the folder of the separate environment, existing or not."""
    return paths.data() / "environments" / "medfm"


def interpreter(folder: Path | None = None) -> str:
    """Return the environment's Python, "" if there is none that passed its check."""
    folder = folder or root()
    state = user_settings.read(folder / "state.json")
    python = _python(folder)
    return str(python) if state.get("ready") and python.exists() else ""


def apply(plan: InstallPlan, progress: Progress, folder: Path | None = None) -> str:
    """Execute a plan for a separate environment, continuing an interrupted one, and return the environment's Python.

    Args:
        plan: for a separate environment.
        progress: callbacks for stages, fraction, notes and cancellation.
        folder: of the environment; by default that of the plan.

    Raises:
        InputError: if the plan is for another place.
        ModelError: if a step failed, with the cause; finished steps are kept.
        Cancelled: if it was stopped; the next call continues.
    """
    if plan.where != "separate":
        raise InputError(f"This plan installs into '{plan.where}', not into a separate environment.")
    folder = folder or plan.folder or root()
    folder.mkdir(parents=True, exist_ok=True)
    wanted = json.loads(json.dumps(asdict(replace(plan, folder=None, why="")), default=str))
    state = user_settings.read(folder / "state.json")
    if state.get("plan") != wanted:
        shutil.rmtree(folder / "venv", ignore_errors=True)  # created for another plan
        state = {"plan": wanted, "done": [], "ready": False}
        _store(folder, state)
    if plan.wheelhouse is not None:
        check_hashes(plan.wheelhouse)
    for number, step in enumerate(STEPS):
        progress.stage(TITLES[step])
        progress.fraction(number / len(STEPS))
        if step in state["done"]:
            continue
        _do(step, plan, folder, progress)
        state = {**state, "done": [*state["done"], step], "ready": step == STEPS[-1]}
        _store(folder, state)
    progress.fraction(1.0)
    return str(_python(folder))


def undo(folder: Path | None = None) -> int:
    """Remove the environment and return the freed bytes. Models and settings stay.

    Raises:
        ModelError: if a file can't be deleted, e.g. since it is in use.
    """
    folder = folder or root()
    if not folder.exists():
        return 0
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    state = user_settings.read(folder / "state.json")
    _store(folder, {**state, "ready": False})  # if the removal fails, the remainder is not used
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise ModelError(f"The environment can't be removed ({error}); close Slicer's jobs and try again.") from error
    return size


# -- steps ---------------------------------------------------------------------------------------------------


def _do(step: str, plan: InstallPlan, folder: Path, progress: Progress) -> None:
    venv, python = folder / "venv", _python(folder)
    torch = [r for r in plan.packages if name_of(r) == "torch"]
    rest = [r for r in plan.packages if name_of(r) != "torch"]
    if step == "environment":
        shutil.rmtree(venv, ignore_errors=True)
        if plan.python == "uv":
            command = ["uv", "venv", "--seed", "--python", "3.12", str(venv)]
        else:
            command = [plan.python, "-m", "venv", str(venv)]
        _run(command, folder, progress)
    elif step == "torch" and torch:
        index = ["--index-url", plan.index] if plan.index and plan.wheelhouse is None else []
        _run([*_pip(python, plan), *index, *torch], folder, progress)
    elif step == "packages" and rest:
        _run([*_pip(python, plan), *rest], folder, progress)
    elif step == "check":
        names = [_module(r) for r in plan.packages if ";" not in r]
        _run(
            [str(python), "-c", f"import importlib; [importlib.import_module(n) for n in {names!r}]"], folder, progress
        )


def _pip(python: Path, plan: InstallPlan) -> list[str]:
    command = [
        str(python),
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        "off",
    ]
    if plan.wheelhouse is not None:
        command += ["--no-index", "--find-links", str(plan.wheelhouse)]
    return command


def _module(requirement: str) -> str:
    return IMPORTED_AS.get(name_of(requirement), name_of(requirement).replace("-", "_"))


def _run(command: list[str], folder: Path, progress: Progress) -> None:
    """Run a program, with its output in the log, and stop it on cancellation."""
    lines: list[str] = []
    environment = {**os.environ, "PYTHONNOUSERSITE": "1"}
    if "--no-index" in command:  # only the folder may be used, so settings that name other sources are removed
        environment = {name: value for name, value in environment.items() if not name.startswith("PIP_")}
        environment["PIP_CONFIG_FILE"] = os.devnull
    for name in ("PYTHONHOME", "PYTHONPATH"):  # Slicer's own values would break the new Python
        environment.pop(name, None)
    try:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, errors="replace",
            env=environment, creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )  # fmt: skip
    except OSError as error:
        raise ModelError(
            f"'{command[0]}' can't be run ({error.strerror}); install it, or choose another Python."
        ) from error
    reader = threading.Thread(target=_read, args=(process, lines, folder / "log.txt", progress), daemon=True)
    reader.start()
    while True:
        try:
            code = process.wait(0.1)
            break
        except subprocess.TimeoutExpired:
            if progress.cancelled():
                process.kill()
                process.wait()
                raise Cancelled("The installation was stopped; it continues from here the next time.") from None
    reader.join(5)
    if code:
        raise ModelError(
            f"The installation stopped: {explain(lines)}. The log is {folder / 'log.txt'}; run it again to continue."
        )


def _read(process: subprocess.Popen, lines: list[str], log: Path, progress: Progress) -> None:
    with open(log, "a", encoding="utf-8") as stream:
        for line in process.stdout:
            lines.append(line.rstrip())
            stream.write(line)
            stream.flush()
            if found := re.match(r"\s*(Collecting|Downloading|Installing collected packages:)\s*(.*)", line):
                try:
                    progress.note(f"{found[1].rstrip(':')} {found[2][:80]}")
                except Cancelled:
                    return


def _python(folder: Path) -> Path:
    inside = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return folder / "venv" / inside[0] / inside[1]


def _store(folder: Path, state: dict) -> None:
    user_settings.write(folder / "state.json", state, "The state of the installation")

"""Makes a separate environment step by step, goes on after a stop, and removes it. Runs pip and Python; downloads nothing itself.

    FOLDER/state.json   what was planned, which steps are done, and "ready" once the check has passed
    FOLDER/log.txt      what pip said
    FOLDER/venv/        the environment

An environment without "ready" is never taken for one that can be used.
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

PROBLEMS = (
    (r"No space left|Errno 28", "the disk is full; free some space"),
    (r"ProxyError|Tunnel connection failed", "the proxy refused; check HTTPS_PROXY and its password"),
    (r"CERTIFICATE_VERIFY_FAILED|SSLError", "a certificate is not trusted; set PIP_CERT to your site's authority"),
    (r"NewConnectionError|Name or service not known|Temporary failure|getaddrinfo|Network is unreachable|ConnectTimeout",
     "the package index can't be reached; check the network, or use a folder of wheels"),
    (r"No matching distribution found for (\S+)", "there is no build of {0} for this computer"),
    (r"Permission denied|Errno 13", "the folder can't be written to; check its permissions"),
    (r"HASH|hashes? .*do(?:es)? not match", "a wheel is damaged; copy the folder again"),
)  # fmt: skip
"""What pip says → what it means, in one clause."""


def root() -> Path:
    """Where the separate environment lies, existing or not."""
    return paths.data() / "environments" / "medfm"


def interpreter(folder: Path | None = None) -> str:
    """The environment's Python, "" if there is none that passed its check."""
    folder = folder or root()
    state = user_settings.read(folder / "state.json")
    python = _python(folder)
    return str(python) if state.get("ready") and python.exists() else ""


def apply(plan: InstallPlan, progress: Progress, folder: Path | None = None) -> str:
    """Do what a plan for a separate environment says, from where it stopped; → the environment's Python.

    Raises:
        InputError: the plan is for another place. ModelError: a step failed, in one sentence; what is done is kept.
        Cancelled: it was stopped; it goes on from there the next time.
    """
    if plan.where != "separate":
        raise InputError(f"This plan installs into '{plan.where}', not into a separate environment.")
    folder = folder or plan.folder or root()
    folder.mkdir(parents=True, exist_ok=True)
    wanted = json.loads(json.dumps(asdict(replace(plan, folder=None, why="")), default=str))
    state = user_settings.read(folder / "state.json")
    if state.get("plan") != wanted:
        shutil.rmtree(folder / "venv", ignore_errors=True)  # of another plan
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
    """Remove the environment; → bytes that are free again. Models and settings stay.

    Raises:
        ModelError: a file can't be deleted, e.g. since it is in use.
    """
    folder = folder or root()
    if not folder.exists():
        return 0
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    state = user_settings.read(folder / "state.json")
    _store(folder, {**state, "ready": False})  # whatever happens next, it is not taken for a whole one
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
    """Run a program, its words into the log, its life into our hands."""
    lines: list[str] = []
    environment = {**os.environ, "PYTHONNOUSERSITE": "1"}
    if "--no-index" in command:  # settings that name other sources don't count, only the folder does
        environment = {name: value for name, value in environment.items() if not name.startswith("PIP_")}
        environment["PIP_CONFIG_FILE"] = os.devnull
    for name in ("PYTHONHOME", "PYTHONPATH"):  # Slicer's own would lead the new Python astray
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
                raise Cancelled("The installation was stopped; it goes on from here the next time.") from None
    reader.join(5)
    if code:
        raise ModelError(
            f"The installation stopped: {explain(lines)}. The log is {folder / 'log.txt'}; run it again to go on."
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


def explain(lines: list[str]) -> str:
    """Why pip or Python failed, in one clause."""
    text = "\n".join(lines[-60:])
    for pattern, words in PROBLEMS:
        if found := re.search(pattern, text):
            return words.format(*(found.groups() or ("",)))
    errors = [line for line in lines if re.match(r"(ERROR|error|\w*Error):?", line.strip())]
    return (errors or [line for line in lines if line.strip()] or ["no message"])[-1].strip()[:200]


def _python(folder: Path) -> Path:
    inside = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    return folder / "venv" / inside[0] / inside[1]


def _store(folder: Path, state: dict) -> None:
    user_settings.write(folder / "state.json", state, "The state of the installation")

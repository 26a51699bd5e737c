"""Find and install Python packages that a model needs and Slicer doesn't ship.

Packages are only installed by `install`, which the panel calls at a click. If Slicer's own Python is suitable, Slicer
installs
them after its own question; otherwise they go into a separate environment (`MedFMLib.environment`), after a question of
MedFM.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import qt
from MedFMLib import environment
from MedFMLib.errors import MedFMError
from MedFMPanel.background_task import BackgroundTask


def requirements(path: Path) -> list[str]:
    """Return the lines of a requirements file, without comments."""
    lines = (line.partition("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def name_of(requirement: str) -> str:
    """Return the package name of a requirement: "torch" for "torch>=2.6"."""
    return re.match(r"[A-Za-z0-9._-]+", requirement).group()


def missing(path: Path) -> list[str]:
    """Return the requirements whose package is missing; searches without importing, since torch takes seconds."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # before Slicer 5.12, only pip includes it
        from pip._vendor.packaging.requirements import Requirement

    wanted = [Requirement(line) for line in requirements(path)]
    return [
        str(r) for r in wanted if (r.marker is None or r.marker.evaluate()) and importlib.util.find_spec(r.name) is None
    ]


class PackageNotice:
    """The part of the panel that is visible only while packages are missing.

    Args:
        ui: the panel's widgets by name.
        path: the requirements file.
        say: shows a sentence.
        ready: called when a separate environment can be used.
    """

    def __init__(self, ui, path, say=lambda text, **_: None, ready=lambda: None):
        self._ui, self._path, self._say, self._ready = ui, path, say, ready
        self._task: BackgroundTask | None = None
        self._then = lambda result: None
        self._timer = qt.QTimer()
        self._timer.setInterval(100)
        self._timer.connect("timeout()", self._look)

    def show(self) -> None:
        """List the missing packages, or hide."""
        lacking = [] if environment.interpreter() else missing(self._path)
        names = ", ".join(name_of(line) for line in lacking)
        self._ui.packagesFrame.visible = bool(names)
        self._ui.packagesLabel.text = f"Models need Python packages that this Slicer lacks: {names}."

    def install(self) -> None:
        """Install the missing packages.

        A second click stops an installation into a separate environment, which continues the next time.

        Raises:
            MedFMError: if nothing was installed, with the reason.
        """
        if self._task is not None:
            self._task.cancel()
            return
        if not environment.fits_slicer(environment.look(quick=True)):
            self._ui.packagesLabel.text = "Checking this computer…"
            self._send(lambda progress: environment.plan(environment.look()), self._planned)
            return
        try:
            install(missing(self._path))
        except RuntimeError as error:
            raise MedFMError(f"Nothing was installed: {error}") from error
        finally:
            self.show()

    def close(self) -> None:
        """Stop running tasks."""
        self._timer.stop()
        if self._task is not None:
            self._task.cancel()

    def _planned(self, plan) -> None:
        """Ask whether a separate environment may be created."""
        import slicer

        self.show()
        if plan.where != "separate":
            self._say(plan.text(), problem=True)
        elif slicer.util.confirmOkCancelDisplay(
            plan.text(), windowTitle="Install packages into a separate environment"
        ):
            self._ui.installButton.text = "Stop"
            self._send(lambda progress: environment.apply(plan, progress), self._made)
        else:
            self._say("Nothing was installed: the installation was declined.", problem=True)

    def _made(self, python) -> None:
        self.show()
        self._ready()
        self._say("The packages are installed in a separate environment; jobs run there from now on.", log=True)

    def _send(self, work, then) -> None:
        self._then, self._task = then, BackgroundTask(work)
        self._timer.start()

    def _look(self) -> None:
        task = self._task
        if task is None:
            return
        last = task.notes[-1:] or [""]
        self._ui.packagesLabel.text = f"{task.name}… {last[0]}" if task.name else self._ui.packagesLabel.text
        if not task.ended:
            return
        self._timer.stop()
        self._task = None
        self._ui.installButton.text = "Install the packages…"
        if task.error:
            self.show()
            self._say(task.error, problem=True)
        else:
            self._then(task.result)


def install(lines: list[str]) -> None:
    """Install what is missing, after Slicer has asked for consent.

    Args:
        lines: requirements.

    Raises:
        RuntimeError: if the user declines or the installation fails.
    """
    import slicer

    lines = _install_torch(lines)
    try:
        from slicer import packaging
    except ImportError:  # before Slicer 5.12
        _install_with_util(slicer, lines)
    else:
        packaging.pip_ensure(lines, requester="MedFM")


def _install_torch(lines: list[str]) -> list[str]:
    """Let the PyTorch extension install the build that suits the computer, and return the remaining requirements."""
    torch = [line for line in lines if name_of(line) == "torch"]
    if not torch or importlib.util.find_spec("PyTorchUtils") is None:
        return lines
    import PyTorchUtils

    if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True) is None:
        raise RuntimeError("PyTorch was not installed.")
    return [line for line in lines if line not in torch]


def _install_with_util(slicer, lines: list[str]) -> None:
    question = "MedFM needs these Python packages:\n\n" + "\n".join(lines) + "\n\nDownload and install them now?"
    if not slicer.util.confirmOkCancelDisplay(question, windowTitle="Install packages"):
        raise RuntimeError("The installation was declined.")
    slicer.util.pip_install([name_and_bound(line) for line in lines])


def name_and_bound(requirement: str) -> str:
    """Return a requirement without its marker, which older installers split at spaces."""
    return requirement.partition(";")[0].replace(" ", "")

"""Python packages that a model needs and Slicer doesn't ship: which are missing, and their installation.

Nothing is ever installed but from `install`, which the panel calls at a click.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from MedFMLib.errors import MedFMError


def requirements(path: Path) -> list[str]:
    """The lines of a requirements file, without comments."""
    lines = (line.partition("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def name_of(requirement: str) -> str:
    """Package name of a requirement: "torch>=2.6" → "torch"."""
    return re.match(r"[A-Za-z0-9._-]+", requirement).group()


def missing(path: Path) -> list[str]:
    """The requirements whose package is not there; looks without importing, since torch takes seconds."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # before Slicer 5.12 only pip has it
        from pip._vendor.packaging.requirements import Requirement

    wanted = [Requirement(line) for line in requirements(path)]
    return [
        str(r) for r in wanted if (r.marker is None or r.marker.evaluate()) and importlib.util.find_spec(r.name) is None
    ]


class PackageNotice:
    """The part of the panel that is there only while packages are missing.

    Args:
        ui: the panel's widgets by name.
        path: the requirements file.
    """

    def __init__(self, ui, path):
        self._ui, self._path = ui, path

    def show(self) -> None:
        """Name what is missing, or hide."""
        names = ", ".join(name_of(line) for line in missing(self._path))
        self._ui.packagesFrame.visible = bool(names)
        self._ui.packagesLabel.text = f"Models need Python packages that this Slicer lacks: {names}."

    def install(self) -> None:
        """Install what is missing.

        Raises:
            MedFMError: if nothing was installed, with the reason.
        """
        try:
            install(missing(self._path))
        except RuntimeError as error:
            raise MedFMError(f"Nothing was installed: {error}") from error
        finally:
            self.show()


def install(lines: list[str]) -> None:
    """Install what is missing, after Slicer has asked for consent.

    Args:
        lines: requirements.

    Raises:
        RuntimeError: if the person declines or the installation fails.
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
    """Let the PyTorch extension choose the build that fits the computer; → what is left to install."""
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
    """A requirement without its marker, which older installers split at spaces."""
    return requirement.partition(";")[0].replace(" ", "")

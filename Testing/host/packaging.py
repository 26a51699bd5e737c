"""`slicer.packaging` for tests: remembers what would be installed and installs nothing."""

from __future__ import annotations

import types


class Installer:
    """Records requests; `accept` says what the person answers when asked.

    Attributes:
        requested: one entry for each call: (requirements, requester).
        accept: False makes `pip_ensure` raise, as the real one does when a person declines.
    """

    def __init__(self):
        self.requested: list[tuple[list[str], str]] = []
        self.accept = True

    def pip_ensure(self, requirements, requester: str = "", **options) -> None:
        """Install what is missing, after asking.

        Raises:
            RuntimeError: if declined.
        """
        if isinstance(requirements, str):
            requirements = [requirements]
        self.requested.append(([str(r) for r in requirements], requester))
        if not self.accept:
            raise RuntimeError("The installation was declined.")

    def pip_install(self, requirements, **options) -> None:
        """Install without asking."""
        self.requested.append(([requirements] if isinstance(requirements, str) else list(requirements), ""))

    def load_requirements(self, path: str) -> list[str]:
        """The lines of a requirements file, without comments."""
        with open(path, encoding="utf-8") as lines:
            stripped = [line.partition("#")[0].strip() for line in lines]
        return [line for line in stripped if line]

    def build_module(self) -> types.ModuleType:
        """The module `slicer.packaging`."""
        module = types.ModuleType("slicer.packaging")
        module.pip_ensure = self.pip_ensure
        module.pip_install = self.pip_install
        module.load_requirements = self.load_requirements
        return module

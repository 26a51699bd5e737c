"""Decide from facts what is installed where, how large it is, and why there. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from ..storage import paths, resources
from .looking import EnvironmentFacts, name_of, needed, satisfied

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
SPARE = 1_000_000_000
"""Bytes that should stay free."""


@dataclass(frozen=True)
class InstallPlan:
    """A plan for the installation.

    Args:
        where: "nothing" (all is installed), "slicer" (its own Python), "this" (the Python of the command), "separate",
            or "server" (this computer is not supported; jobs have to run elsewhere).
        why: in one sentence.
        packages: requirements to install, torch first.
        python: interpreter for a separate environment; "uv" lets uv find or download one.
        folder: of a separate environment.
        build: "cpu", "cuda", "rocm" or "mps".
        index: package index of torch, "" for the usual one.
        download: bytes.
        disk: bytes.
        how: whether sizes are measured or estimated.
        wheelhouse: folder of wheels in place of the internet, or None.
    """

    where: str
    why: str
    packages: tuple[str, ...] = ()
    python: str = ""
    folder: Path | None = None
    build: str = "cpu"
    index: str = ""
    download: int = 0
    disk: int = 0
    how: str = ""
    wheelhouse: Path | None = None

    def text(self) -> str:
        """Return the plan as text, for the user's decision."""
        if self.where in ("nothing", "server"):
            return self.why
        place = {"slicer": "Slicer's own Python", "this": "this Python's environment"}.get(
            self.where, f"a separate environment, {self.folder}"
        )
        source = (
            f"the folder {self.wheelhouse}, without internet"
            if self.wheelhouse
            else self.index or "the package index that pip is set to"
        )
        lines = [
            f"To be installed into {place}: {', '.join(self.packages)}.",
            self.why,
            f"From {source}; about {self.download / 1e9:.1f} GB to download, {self.disk / 1e9:.1f} GB on disk ({self.how}).",
            "Nothing that Slicer ships is replaced. It can be undone.",
        ]
        return "\n".join(lines)


def plan(facts: EnvironmentFacts, wheelhouse: Path | None = None, separate: bool = False) -> InstallPlan:
    """Return the plan for the installation.

    Args:
        facts: about the machine.
        wheelhouse: folder of wheels to use.
        separate: use a separate environment even if it is not needed.

    Raises:
        ModelError: if a separate environment is needed, but there is no suitable Python or not enough disk space, with
            the next step.
    """
    missing = [r for r in needed() if satisfied(r, facts.installed, facts) is None]
    clashing = _clashing(facts)
    if facts.system == "Darwin" and facts.native == "x86_64":
        return InstallPlan(
            "server",
            "Intel Macs have no current PyTorch; let jobs run on a server, or use another computer.",
        )
    if not missing and not clashing and not separate:
        return InstallPlan("nothing", "Everything that MedFM needs is installed.")
    reason = _why_separate(facts, clashing)
    if reason or separate:
        return _separate(facts, reason or "You asked for a separate environment.", wheelhouse)
    where = "slicer" if facts.slicer else "this"
    if where == "slicer" and not facts.installer:
        return _separate(facts, "This Slicer has no way to install packages of its own.", wheelhouse)
    kind = "Slicer's own Python fits" if where == "slicer" else "this Python fits"
    made = _sized(
        facts,
        InstallPlan(where, f"Chosen because {kind} and no package there conflicts.", tuple(_torch_first(missing))),
    )
    return _checked(facts, _with_wheels(made, wheelhouse))


def fits_slicer(facts: EnvironmentFacts) -> bool:
    """Return whether the packages can be installed into Slicer's own Python."""
    translated_or_intel = facts.system == "Darwin" and "x86_64" in (facts.machine, facts.native)
    return bool(facts.installer) and not translated_or_intel and not _why_separate(facts, _clashing(facts))


def _clashing(facts: EnvironmentFacts) -> list[str]:
    """Return installed packages whose version is too old."""
    old = [name_of(r) for r in needed() if satisfied(r, facts.installed, facts) is False]
    return [f"{name} {facts.installed[name]}" for name in old]


def _why_separate(facts: EnvironmentFacts, clashing: list[str]) -> str:
    if facts.system == "Darwin" and facts.machine != facts.native:
        return (
            "A separate environment is needed, because "
            f"this Slicer runs translated ({facts.machine} on {facts.native}) and current PyTorch exists for the "
            "native processor only."
        )
    if not OLDEST_PYTHON <= facts.python <= NEWEST_PYTHON:
        return (
            "A separate environment is needed, because MedFM's models need Python 3.11 to 3.13 and this is "
            f"{facts.python[0]}.{facts.python[1]}."
        )
    if clashing:
        return (
            "A separate environment is needed, because other programs rely on versions here that are too old: "
            f"{', '.join(clashing)}."
        )
    return ""


def _separate(facts: EnvironmentFacts, why: str, wheelhouse: Path | None) -> InstallPlan:
    python = _python_for(facts)
    if not python:
        raise ModelError(
            f"{why} But there is no Python 3.11 to 3.13 for {facts.native} to create it; install it from python.org, "
            "or uv (docs.astral.sh/uv), and try again."
        )
    packages = _torch_first([*needed(), *resources.load_json("environment", "packages.json")["separate"]])
    made = InstallPlan("separate", why, tuple(packages), python, paths.data() / "environments" / "medfm")
    return _checked(facts, _with_wheels(_sized(facts, made), wheelhouse))


def _python_for(facts: EnvironmentFacts) -> str:
    """Return a native interpreter in the version range; else "uv", else ""."""
    for path, (version, machine) in facts.pythons.items():
        if OLDEST_PYTHON <= version <= NEWEST_PYTHON and _same(machine, facts.native):
            return path
    return "uv" if facts.uv else ""


def _same(one: str, other: str) -> bool:
    names = {"amd64": "x86_64", "aarch64": "arm64"}
    return names.get(one.lower(), one.lower()) == names.get(other.lower(), other.lower())


def _sized(facts: EnvironmentFacts, made: InstallPlan) -> InstallPlan:
    from dataclasses import replace

    table = resources.load_json("environment", "packages.json")
    build = facts.gpu or "cpu"
    size = table["sizes"][build]
    if not any(name_of(r) == "torch" for r in made.packages):  # torch, the large package, is installed
        size = {"download": 150_000_000, "disk": 500_000_000, "how": "measured"}
    index = table["indexes"].get(build, "") if facts.system == "Linux" else ""
    return replace(made, build=build, index=index, download=size["download"], disk=size["disk"], how=size["how"])


def _with_wheels(made: InstallPlan, wheelhouse: Path | None) -> InstallPlan:
    from dataclasses import replace

    if wheelhouse is None:
        return made
    wheels = list(Path(wheelhouse).glob("*.whl"))
    if not wheels:
        raise ModelError(
            f"The folder '{wheelhouse}' has no wheels; make one with `medfm environment wheelhouse FOLDER`."
        )
    size = sum(wheel.stat().st_size for wheel in wheels)
    return replace(made, wheelhouse=Path(wheelhouse), index="", download=0, disk=4 * size, how="from the wheels' sizes")


def _checked(facts: EnvironmentFacts, made: InstallPlan) -> InstallPlan:
    if facts.free and facts.free < made.disk + SPARE:
        raise ModelError(
            f"The installation would take {made.disk / 1e9:.1f} GB, and {facts.free / 1e9:.1f} GB are free; free some first."
        )
    return made


def _torch_first(packages: list[str]) -> list[str]:
    return sorted(packages, key=lambda r: name_of(r) != "torch")

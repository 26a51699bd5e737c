"""The wheel contains everything, and the README's examples work."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT],
        check=True, capture_output=True,
    )  # fmt: skip
    return next(folder.glob("medfm-*.whl"))


def test_the_wheel_holds_every_module_and_resource(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "MedFMLib").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in names
    for path in (ROOT / "Resources").rglob("*"):
        if path.is_file() and path.suffix not in (".txt", ".cmake"):
            assert f"MedFMLib/{path.relative_to(ROOT).as_posix()}" in names
    assert not any(name.startswith(("Testing", "MedFM/")) for name in names)


def test_the_wheel_works_away_from_the_source(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import MedFMLib, MedFMLib.interfaces.registry as r; print(MedFMLib.__file__); print(sorted(r.cards()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert str(tmp_path) in done.stdout
    assert "google/paligemma-3b-mix-224" in done.stdout


def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_file_and_picture_that_the_readme_names_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", readme()):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_library_names_only_its_core_packages_as_needed():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[A-Za-z0-9_-]+", line).group().lower() for line in project["dependencies"]}
    assert needed == {
        "torch",
        "transformers",
        "peft",
        "bitsandbytes",
        "numpy",
        "simpleitk",
        "pydicom",
        "requests",
        "pillow",
    }

"""The floors: each package imports only downward, there are no import cycles, and importing the library is light."""

import ast
import re
import shutil
import sys
from pathlib import Path

import pytest
from support import import_graph
from support.import_graph import FLOORS

LIBRARY = Path(__file__).resolve().parents[1] / "MedFMLib"
ROOT = LIBRARY.parent


def modules():
    return sorted(path for path in LIBRARY.rglob("*.py") if "__pycache__" not in path.parts)


def package(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


@pytest.fixture(scope="module")
def arrows():
    """Module → modules that it imports."""
    return import_graph.graph(LIBRARY)


@pytest.fixture
def copy(tmp_path):
    """A copy of the library in which an import can be planted."""
    folder = tmp_path / "MedFMLib"
    shutil.copytree(LIBRARY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def plant(path: Path, line: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + f"\n\ndef planted():\n    {line}\n", encoding="utf-8")


def test_nothing_imports_in_a_circle_and_nothing_imports_upward(arrows, capsys):
    packages = import_graph.packages(arrows)
    circles = import_graph.cycles(arrows) + import_graph.cycles(packages)
    upward = import_graph.upward(arrows)
    with capsys.disabled():
        print(
            f"\n{len(packages)} packages on {len(FLOORS)} floors, {len(arrows)} modules, "
            f"{sum(map(len, packages.values()))} imports between packages, {sum(map(len, arrows.values()))} between modules, "
            f"{len(circles)} cycles, {len(upward)} upward imports"
        )
    assert len(arrows) > 200 and sum(map(len, arrows.values())) > 500  # a check on nothing proves nothing
    assert not circles
    assert not upward


def test_a_planted_cycle_is_found(copy):
    plant(copy / "models" / "runtime" / "checkpoint.py", "from . import loading")
    arrows = import_graph.graph(copy)
    assert [c for c in import_graph.cycles(arrows) if {"models.runtime.checkpoint", "models.runtime.loading"} <= set(c)]
    assert not import_graph.upward(arrows)  # both lie on the same floor


def test_a_planted_cycle_of_packages_is_found(copy):
    plant(copy / "healthy" / "matching.py", "from ..reports import templates")
    arrows = import_graph.graph(copy)
    assert not import_graph.cycles(arrows)  # no module imports itself in a circle
    assert [c for c in import_graph.cycles(import_graph.packages(arrows)) if {"healthy", "reports"} <= set(c)]


def test_a_planted_upward_import_is_found(copy):
    plant(copy / "core" / "geometry.py", "from ..engine import Engine")
    assert "core.geometry imports engine" in import_graph.upward(import_graph.graph(copy))


def test_every_room_has_one_floor():
    named = [name for names in FLOORS for name in names]
    assert sorted(named) == sorted({package(path) for path in modules()} - {"__init__"})


def test_models_and_tasks_do_not_know_each_other(arrows):
    packages = import_graph.packages(arrows)
    assert "tasks" not in packages["models"] and "models" not in packages["tasks"]


def test_the_tests_mirror_the_library():
    tested = {path.name for path in (ROOT / "Testing").iterdir() if path.is_dir()}
    assert {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__"} <= tested


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(LIBRARY)))
def test_a_module_opens_with_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_only_the_scene_knows_slicer():
    pattern = re.compile(r"^\s*(import|from) (slicer|vtk|vtkmodules|qt|ctk)\b", re.M)
    knowing = {package(path) for path in modules() if pattern.search(path.read_text(encoding="utf-8"))}
    assert knowing == {"scene"}


def test_importing_everything_but_models_and_training_loads_no_torch():
    import subprocess

    names = [
        "MedFMLib." + ".".join(p.relative_to(LIBRARY).with_suffix("").parts).removesuffix(".__init__")
        for p in modules()
        if package(p) not in ("__init__", "training", "server")
        and not package(p).startswith("cli")
        and not {"runtime", "generation", "masks", "cpu"} & set(p.parts)
    ]
    code = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        "print([m for m in ('torch', 'transformers', 'slicer', 'vtk', 'SimpleITK', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=LIBRARY.parent, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_the_same_everywhere():
    from MedFMLib import __version__

    assert f"version: {__version__}" in (LIBRARY.parent / "CITATION.cff").read_text()
    assert f"## [{__version__}]" in (LIBRARY.parent / "CHANGELOG.md").read_text()


def test_the_architecture_page_names_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [name for names in FLOORS for name in names if f"`{name}" not in page and f"{name}/" not in page] == []


def test_checking_a_model_folder_needs_no_torch():
    import subprocess

    code = (
        "import sys\nfrom MedFMLib.models.runtime.checkpoint import check_folder, sha256_of\n"
        "from MedFMLib.storage import resources\n"
        "files = check_folder(resources.path('models', 'medfm-tiny', 'base'))\n"
        "print(len(files), len(sha256_of(files)), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["1", "64", "False"]

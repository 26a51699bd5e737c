"""The floors: each module imports only downward, and the library stays light."""

import ast
import re
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "MedFMLib"
FLOORS = (
    ("errors", "geometry", "image", "view", "prompts", "marks", "findings", "request", "resources", "wire"),
    (
        "model",
        "task",
        "runner",
        "registry",
        "terminology",
        "acceptance",
        "adapter_card",
        "folders",
        "offline",
        "shelf",
        "messages",
        "parcel",
        "remembered",
    ),
    (
        "models",
        "tasks",
        "measure",
        "reports",
        "slices",
        "regions",
        "files",
        "machine",
        "endpoints",
        "exports",
        "environment",
        "burned_in",
        "statements",
        "guard",
        "reliability",
        "healthy",
        "patient",
    ),
    (
        "engine",
        "desk",
        "worker",
        "places",
        "remote",
        "server",
        "console",
        "batch",
        "training",
        "demo",
        "store",
        "cli",
    ),
    ("scene",),
)
UPWARD = {
    ("demo", "scene"),  # the demo writes a scene; it runs outside of Slicer
    ("batch", "scene"),  # a scene's volumes are cases
    ("console", "scene"),  # a node goes in, nodes come out
    ("runner", "engine"),  # the default of LocalRunner, imported when its first job starts
    ("registry", "models"), ("registry", "tasks"),  # it looks into their folders
}  # fmt: skip
FLOOR_OF = {name: n for n, names in enumerate(FLOORS) for name in names}


def modules():
    return sorted(path for path in LIBRARY.rglob("*.py") if "__pycache__" not in path.parts)


def room(path: Path) -> str:
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


def imports(path: Path):
    """Rooms of the library that a file imports, wherever in the file."""
    depth = len(path.relative_to(LIBRARY).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            inside = path.relative_to(LIBRARY).parts[: depth - node.level]
            target = [*inside, *(node.module or "").split(".")] if node.module else list(inside)
            names = [target[0]] if target and target[0] else [alias.name for alias in node.names]
            yield from names


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(LIBRARY)))
def test_a_module_imports_only_downward(path):
    here = room(path)
    if here == "__init__":
        return
    for target in imports(path):
        if target in FLOOR_OF and target != here:
            assert FLOOR_OF[target] <= FLOOR_OF[here] or (here, target) in UPWARD, f"{here} imports {target}"


def test_every_room_has_a_floor():
    assert {room(path) for path in modules()} - set(FLOOR_OF) == {"__init__"}


def test_models_and_tasks_do_not_know_each_other():
    for path in modules():
        if room(path) in ("models", "tasks"):
            other = "tasks" if room(path) == "models" else "models"
            assert other not in set(imports(path)), path


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(LIBRARY)))
def test_a_module_opens_with_what_it_is(path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_only_the_scene_knows_slicer():
    pattern = re.compile(r"^\s*(import|from) (slicer|vtk|vtkmodules|qt|ctk)\b", re.M)
    knowing = {room(path) for path in modules() if pattern.search(path.read_text(encoding="utf-8"))}
    assert knowing == {"scene"}


def test_importing_everything_but_models_and_training_loads_no_torch():
    import subprocess

    names = [
        "MedFMLib." + ".".join(p.relative_to(LIBRARY).with_suffix("").parts).removesuffix(".__init__")
        for p in modules()
        if room(p) not in ("__init__", "training", "server")
        and not room(p).startswith("cli")
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
    assert f"## {__version__}" in (LIBRARY.parent / "CHANGELOG.md").read_text()


def test_the_readme_names_every_room():
    table = (
        (LIBRARY.parent / "README.md").read_text(encoding="utf-8").partition("| floor | what |")[2].partition("\n\n")[0]
    )
    floors = [re.findall(r"`(\w+)/?`", line.split("|")[2]) for line in table.splitlines() if line.count("|") == 3][1:]
    assert [tuple(names) for names in floors[:4]] == list(FLOORS[:4])

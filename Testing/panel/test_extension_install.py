"""The extension, configured, built and installed by the real CMake, is complete and opens from its installation."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SLICER = ROOT / "Testing" / "host" / "cmake"
MODULES = Path("lib/Slicer-5.12/qt-scripted-modules")
NO_COMPILER = [
    f"-DCMAKE_{language}_COMPILER{option}"
    for language in ("C", "CXX")
    for option in (f"={sys.executable}", "_FORCED=1", "_ID_RUN=1")
]
"""Nothing is compiled, so no compiler is needed; Slicer's own macros do need one."""

spec = importlib.util.spec_from_file_location("list_files", SLICER / "list_files.py")
list_files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(list_files)


def run(*command, **options) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def cmake() -> str:
    """The cmake of the system or of this environment (package `cmake`)."""
    sibling = Path(sys.executable).with_name("cmake")
    found = shutil.which("cmake") or (str(sibling) if sibling.is_file() else None)
    if found is None:
        pytest.fail(
            "There is no cmake; install it with `pip install cmake ninja` or `apt-get install cmake ninja-build`."
        )
    return found


@pytest.fixture(scope="module")
def generator() -> list[str]:
    """Ninja where there is one, the default otherwise."""
    ninja = shutil.which("ninja") or shutil.which("ninja", path=str(Path(sys.executable).parent))
    return ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []


@pytest.fixture(scope="module")
def installed(tmp_path_factory, cmake, generator) -> Path:
    """The folder of scripted modules of a fresh installation."""
    folder = tmp_path_factory.mktemp("extension with spaces")
    build, prefix = folder / "build", folder / "installed"
    run(
        cmake,
        "-S",
        ROOT,
        "-B",
        build,
        f"-DSlicer_DIR={SLICER}",
        f"-DCMAKE_INSTALL_PREFIX={prefix}",
        *generator,
        *NO_COMPILER,
    )
    run(cmake, "--build", build)
    run(cmake, "--install", build)
    return prefix / MODULES


def files_below(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}


def test_the_lists_of_installed_files_are_up_to_date():
    outdated = list_files.outdated()
    assert not outdated, f"Run `python Testing/host/cmake/list_files.py`: outdated for {', '.join(outdated)}"


def test_no_file_is_missing_and_none_too_many(installed):
    expected = {f"MedFMLib/{name}" for name in list_files.installed_files(ROOT / "MedFMLib")}
    expected |= {f"MedFMLib/Resources/{name}" for name in list_files.installed_files(ROOT / "Resources")}
    expected |= set(list_files.installed_files(ROOT / "MedFM"))
    assert files_below(installed) == expected


def test_the_module_s_own_resources_stay_apart_from_the_library_s(installed):
    assert (installed / "Resources" / "UI" / "MedFM.ui").is_file()
    assert (installed / "MedFMLib" / "Resources" / "zoo").is_dir()
    assert not (installed / "Resources" / "zoo").exists()


def test_a_file_that_is_not_listed_is_found_out(tmp_path):
    (tmp_path / "new.py").write_text("")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "new.pyc").write_text("")
    assert list_files.installed_files(tmp_path) == ["new.py"]


@pytest.mark.parametrize("mistake", ["unknown keyword", "missing file", "no metadata"])
def test_the_stand_in_for_slicer_refuses_mistakes(mistake, tmp_path, cmake, generator):
    lines = {
        "unknown keyword": "slicerMacroBuildScriptedModule(WITH_MAGIC NAME A SCRIPTS A.py)",
        "missing file": "slicerMacroBuildScriptedModule(NAME A SCRIPTS A.py B.py)",
        "no metadata": "include(${Slicer_EXTENSION_GENERATE_CONFIG})",
    }
    (tmp_path / "A.py").write_text("")
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.20)\nproject(A LANGUAGES NONE)\nfind_package(Slicer REQUIRED)\n"
        f"include(${{Slicer_USE_FILE}})\n{lines[mistake]}\n"
    )
    command = [cmake, "-S", tmp_path, "-B", tmp_path / "build", f"-DSlicer_DIR={SLICER}", *generator]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert re.search("Unknown keywords|no file 'B.py'|EXTENSION_HOMEPAGE is not set", done.stderr)


def test_the_extensions_index_finds_project_icon_and_screenshots():
    text = (ROOT / "CMakeLists.txt").read_text()
    assert re.search(r"^project\(MedFM\)$", text, re.MULTILINE)
    for field in ("ICONURL", "SCREENSHOTURLS"):
        (line,) = [line for line in text.splitlines() if f"EXTENSION_{field}" in line]
        urls = re.fullmatch(rf'set\(EXTENSION_{field} "(\S+(?: \S+)*)"\)', line).group(1).split()
        for url in urls:
            path = url.removeprefix("https://raw.githubusercontent.com/medfm/SlicerMedFM/main/")
            assert (ROOT / path).is_file(), path


def test_the_installed_module_opens_in_a_fresh_process(installed, tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(ROOT / "Testing")!r})
from host import install
host = install()
host.load_module({str(installed / "MedFM.py")!r})
widget = host.select_module("MedFM")
import MedFMLib, MedFMLib.storage.resources, MedFMPanel
print(MedFMLib.__file__, MedFMPanel.__file__, MedFMLib.storage.resources.root(), len(widget.models.cards), sep="\\n")
print([name for name in ("torch", "transformers") if name in sys.modules])
host.problems.check()
host.close()
"""
    output = run(sys.executable, "-c", script, cwd=tmp_path)
    library, package, resources, cards, heavy = output.splitlines()[-5:]
    assert Path(library).parent == installed / "MedFMLib"
    assert Path(package).parent == installed / "MedFMPanel"
    assert Path(resources) == installed / "MedFMLib" / "Resources"
    assert int(cards) >= 1
    assert heavy == "[]"

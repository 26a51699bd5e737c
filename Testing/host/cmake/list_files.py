"""Write the lists of installed files: `python Testing/host/cmake/list_files.py [--check]`. Knows only the folders.

Slicer installs what a list names and nothing else, so a file that was forgotten is missing only on other people's
computers. The lists stay explicit, as the Extensions Index asks; this makes them, and a test compares them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
SKIPPED_NAMES = {"CMakeLists.txt", "files.cmake", ".gitkeep", ".DS_Store"}
SKIPPED_FOLDERS = {"__pycache__"}
LISTS = {"MedFMLib": "MedFMLib_FILES", "Resources": "MedFM_RESOURCES"}
"""Top-level folder → CMake variable of its `files.cmake`."""


def installed_files(folder: Path) -> list[str]:
    """Every file of the folder that belongs into an installation, relative to it, sorted."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(
        path.as_posix() for path in files if path.name not in SKIPPED_NAMES and not SKIPPED_FOLDERS & set(path.parts)
    )


def list_text(folder: str) -> str:
    """What the folder's `files.cmake` should say."""
    lines = "".join(f'  "{path}"\n' for path in installed_files(ROOT / folder))
    heading = "# Every file that is installed. Written by Testing/host/cmake/list_files.py\n"
    return f"{heading}set({LISTS[folder]}\n{lines}  )\n"


def outdated() -> list[str]:
    """The folders whose list doesn't say what lies in them."""
    lists = {folder: ROOT / folder / "files.cmake" for folder in LISTS}
    return [f for f, path in lists.items() if not path.is_file() or path.read_text() != list_text(f)]


def main() -> int:
    """Write what is outdated, or with --check only say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if a list is outdated")
    options = parser.parse_args()
    folders = outdated()
    for folder in folders:
        print(f"{folder}/files.cmake {'is outdated' if options.check else 'written'}")
        if not options.check:
            (ROOT / folder / "files.cmake").write_text(list_text(folder))
    return int(options.check and bool(folders))


if __name__ == "__main__":
    sys.exit(main())

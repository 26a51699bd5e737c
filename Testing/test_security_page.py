"""The security page names doors, tests and packages that exist."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.version import Version
from support.audit import direct

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """A section of the page."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_module_and_test_of_the_doors_exists():
    rows = [line.split("|")[1:-1] for line in section("Doors").splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 15
    for door, _, where, test in rows:
        for name in re.findall(r"`([^`]+)`", where):
            assert (ROOT / "MedFMLib" / name).exists() or (ROOT / name).exists(), (door, name)
        for name in re.findall(r"`([^`]+)`", test):
            assert (ROOT / "Testing" / "security" / name).exists() or (ROOT / name).exists(), (door, name)


def test_every_test_of_attacks_is_on_the_page():
    files = {path.name for path in (ROOT / "Testing" / "security").glob("test_*.py")}
    assert len(files) > 10 and not {name for name in files if name not in PAGE}


def test_every_direct_dependency_is_listed_with_its_lowest_version():
    listed = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \|", section("Dependencies"), re.MULTILINE))
    required = {one.name: str(next(iter(one.specifier)).version) for one in direct()}
    assert listed.keys() == required.keys()
    assert all(Version(listed[name]) == Version(required[name]) for name in required)

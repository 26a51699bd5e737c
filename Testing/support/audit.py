"""Check the installed packages against public advisories, or say that they can't be reached and print the versions.

python Testing/support/audit.py
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def direct() -> list[Requirement]:
    """Return the packages that MedFM itself requires."""
    return [Requirement(text) for text in tomllib.loads(PROJECT.read_text())["project"]["dependencies"]]


def main() -> int:
    """Print the audit; the exit code is 1 if a package has a known vulnerability."""
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--progress-spinner", "off", "--timeout", "10"]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        found = []
    checked = [one for one in found if "vulns" in one]  # the others have a "skip_reason"
    bad = [one for one in checked if one["vulns"]]
    for one in bad:
        for fault in one["vulns"]:
            print(
                f"{one['name']} {one['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'no version'}"
            )
    if checked:
        print(f"{len(checked)} of {len(found)} packages were checked, {len(bad)} have a known vulnerability.")
    else:
        print("pip-audit is missing or can't reach its data, so NOTHING WAS CHECKED. Versions here:")
        for requirement in direct():
            try:
                version = metadata.version(requirement.name)
            except metadata.PackageNotFoundError:
                version = "not installed"
            print(f"  {requirement.name:14} {version:14} required: {requirement.specifier}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())

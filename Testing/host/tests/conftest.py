"""Makes the package `host` importable and its fixtures available."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from host.fixtures import host, running_host  # noqa: F401  (fixtures, and the path comes first)

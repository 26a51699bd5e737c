"""Find the files that ship with MedFM. Knows folders; nothing of their content.

They are searched in the folder named by MEDFM_RESOURCES, then in `Resources` inside the package (an
installed extension or wheel), then in `Resources` next to it (the source tree).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..errors import MedFMError

_PACKAGE = Path(__file__).resolve().parents[1]


def root() -> Path:
    """Return the folder of the resources.

    Raises:
        MedFMError: if the installation lacks it.
    """
    candidates = [Path(p) for p in [os.environ.get("MEDFM_RESOURCES", "")] if p]
    candidates += [_PACKAGE / "Resources", _PACKAGE.parent / "Resources"]
    for folder in candidates:
        if (folder / "zoo").is_dir():
            return folder
    raise MedFMError(
        f"MedFM's resources were not found in {' or '.join(str(c) for c in candidates)}; install MedFM again."
    )


def path(*parts: str) -> Path:
    """Return the path of a file or folder inside the resources, existing or not."""
    return root().joinpath(*parts)


def load_json(*parts: str):
    """Return the parsed content of a JSON resource."""
    return json.loads(path(*parts).read_text(encoding="utf-8"))

"""Small JSON files of a person's own: read whole or not at all, written whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from .errors import OutputError


def read(path: Path) -> dict[str, Any]:
    """The file's content; {} if it is missing, damaged or no object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write(path: Path, content: dict[str, Any], what: str) -> None:
    """Write all of it to a temporary file first, so that a crash leaves the old one.

    Args:
        what: opens the sentence if that fails, such as "The acceptance".

    Raises:
        OutputError: if the system refuses.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as stream:
            temporary = Path(stream.name)
            json.dump(content, stream, indent=2, ensure_ascii=False)
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise OutputError(f"{what} can't be written to {path} ({error}); make that folder writable.") from error

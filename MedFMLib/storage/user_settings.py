"""Read and write small per-user JSON settings atomically."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import OutputError
from .json_text import read_json


class Permissions:
    """The user's permissions, by subject. A permission is valid for exactly the text that was shown.

    Args:
        file: settings file that stores them.
    """

    def __init__(self, file: Path):
        self._file = file

    def given(self, key: str, text: str) -> bool:
        """Return whether exactly this text was permitted.

        Args:
            key: subject of the permission.
            text: the text as it was shown.
        """
        said = read(self._file).get(key)
        return isinstance(said, dict) and said.get("sent") == text

    def give(self, key: str, text: str) -> None:
        """Store a permission.

        Args:
            key: subject of the permission.
            text: the text as it was shown.

        Raises:
            OutputError: if it can't be saved.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write(self._file, read(self._file) | {key: {"sent": text, "when": now}}, "The permission")

    def take_back(self, key: str) -> None:
        """Remove a permission, if there is one.

        Raises:
            OutputError: if it can't be saved.
        """
        known = read(self._file)
        if known.pop(key, None) is not None:
            write(self._file, known, "The permission")


def read(path: Path) -> dict[str, Any]:
    """Return the file's content; {} if it is missing, damaged or no JSON object."""
    try:
        content = read_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write(path: Path, content: dict[str, Any], what: str) -> None:
    """Write JSON to a temporary file, then move it, so that a crash leaves the old file.

    Args:
        path: the settings file.
        content: its whole new content.
        what: subject of the error message, such as "The acceptance".

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

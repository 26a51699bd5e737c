"""Small JSON files of a person's own: read whole or not at all, written whole or not at all. Knows nothing of what is in them."""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import OutputError


class Permissions:
    """What a person said yes to, by what it is for. What counts is the text as it was shown: another one is asked again.

    Args:
        file: where it is remembered.
    """

    def __init__(self, file: Path):
        self._file = file

    def given(self, key: str, text: str) -> bool:
        """Was exactly this text allowed?"""
        said = read(self._file).get(key)
        return isinstance(said, dict) and said.get("sent") == text

    def give(self, key: str, text: str) -> None:
        """Remember a yes.

        Raises:
            OutputError: if it can't be written down.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write(self._file, read(self._file) | {key: {"sent": text, "when": now}}, "The permission")

    def take_back(self, key: str) -> None:
        """Forget a yes; nothing happens if there is none.

        Raises:
            OutputError: if it can't be written down.
        """
        known = read(self._file)
        if known.pop(key, None) is not None:
            write(self._file, known, "The permission")


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

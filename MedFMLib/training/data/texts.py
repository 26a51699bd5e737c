"""Read JSON and JSON lines in any Unicode encoding; broken lines are listed as problems instead of raising an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import InputError
from .samples import ReaderResult


def decoded(path: Path, found: ReaderResult) -> str | None:
    """Return a file's text; None, and a problem, if it has no Unicode encoding.

    Args:
        path: the file.
        found: receives the problem.

    Raises:
        InputError: if it can't be opened.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' can't be read ({error.strerror}); check the path.") from error
    marks = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
    encoding = next((name for mark, name in marks.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        found.problem("unknown encoding", path.name, f"not {encoding}: {error}; save it as UTF-8")
        return None


def entries(path: Path, found: ReaderResult) -> list[dict[str, Any]]:
    """Return the objects of a JSON list or of JSON lines; other content is added as a problem.

    Args:
        path: the file.
        found: receives the problems.

    Raises:
        InputError: if the file can't be opened.
    """
    text = decoded(path, found)
    if text is None:
        return []
    if path.suffix.lower() == ".jsonl":
        return [made for number, line in enumerate(text.splitlines(), 1) if line.strip()
                for made in _object(line, f"{path.name}, line {number}", found)]  # fmt: skip
    try:
        content = json.loads(text)
    except ValueError as error:
        found.problem("broken JSON", path.name, error)
        return []
    if not isinstance(content, list):
        found.problem("broken JSON", path.name, f"a list of objects is expected, not {type(content).__name__}")
        return []
    good = []
    for number, entry in enumerate(content):
        if isinstance(entry, dict):
            good.append(entry)
        else:
            found.problem("broken entry", f"{path.name}, entry {number}", f"an object is expected: {entry!r}")
    return good


def _object(line: str, where: str, found: ReaderResult) -> list[dict[str, Any]]:
    try:
        content = json.loads(line)
    except ValueError as error:
        found.problem("broken JSON", where, error)
        return []
    if not isinstance(content, dict):
        found.problem("broken entry", where, "an object is expected")
        return []
    return [content]


def clean(value: object) -> str:
    """Return a value as text on one line; "" for none, "N/A" and similar."""
    text = " ".join(str(value).split()) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    return "" if text.lower().strip(".") in ("", "n/a", "na", "none", "null", "nan", "left blank") else text

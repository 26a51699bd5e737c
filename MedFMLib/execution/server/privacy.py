"""Leave folders of this machine out of what other machines are told."""

from __future__ import annotations

import functools
import re
import sys
import tempfile
from pathlib import Path

from ...storage import paths


def hide_folders(text: str) -> str:
    """Return a text in which files of this machine are named without their folders."""
    return _pattern().sub(lambda found: "…" + re.split(r"[\\/]", found[0].rstrip("/\\"))[-1], text)


@functools.lru_cache(maxsize=1)
def _pattern() -> re.Pattern:
    library = Path(__file__).resolve().parents[3]
    known = {Path.home(), library, Path(tempfile.gettempdir()), Path(sys.prefix), Path.cwd()}
    known |= {paths.settings(), paths.data(), paths.cache()}
    roots = {root for folder in known for root in (folder, folder.resolve()) if root != Path(root.anchor)}
    longest_first = sorted(map(str, roots), key=len, reverse=True)
    return re.compile(f"(?:{'|'.join(map(re.escape, longest_first))})" + r"[^\s'\"<>|,;:()]*")

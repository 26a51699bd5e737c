"""Open scene files of strangers: an archive is unpacked and checked first, and data files lie with the scene.

MRML names data files freely; a scene from a stranger could name any file of this computer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from ..errors import InputError
from ..files.data_files import HEADERS, check_data_file, check_data_files
from ..storage.archives import unpacked

LARGEST_SCENE = 256 << 20
"""Bytes of a .mrml file."""

NAMED = re.compile(r"""\b(?:fileName|fileListMember\d*|uri)\s*=\s*"([^"]*)\"""")
"""Attributes of storage nodes that name files."""


@contextmanager
def scene_file(path: Path) -> Iterator[Path]:
    """Yield a checked .mrml file of a scene, whose data files are regular files in its folder.

    Args:
        path: a .mrml or .mrb file; a .mrb is unpacked to a temporary folder, which exists while the block runs.

    Raises:
        InputError: if it is missing, damaged, unsafe, or names files elsewhere.
        OutputError: if the disk has no space for an archive.
    """
    if not path.is_file():
        raise InputError(f"The scene '{path}' can't be read; check the path, or save it in Slicer again.")
    if path.suffix.lower() != ".mrb":
        yield _checked(path)
        return
    with unpacked(path) as folder:
        scenes = sorted(folder.rglob("*.mrml"))
        if len(scenes) != 1:
            raise InputError(f"'{path.name}' has {len(scenes)} scenes, and one is needed; save it in Slicer again.")
        for file in folder.rglob("*"):
            if file.suffix.lower() in HEADERS and file.is_file():
                check_data_files(file)
        yield _checked(scenes[0])


def _checked(path: Path) -> Path:
    """Return a .mrml file after a look at the files that it names."""
    if path.stat().st_size > LARGEST_SCENE:
        raise InputError(f"The scene '{path.name}' is larger than {LARGEST_SCENE >> 20} MB; save its data in files.")
    text = path.read_text(encoding="utf-8", errors="replace")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"The scene '{path.name}' defines XML entities; it is refused.")
    for value in NAMED.findall(text):
        name = unquote(value).replace("&amp;", "&").strip()
        if not name:
            continue
        try:
            file = check_data_file(path, name)
        except InputError as error:
            raise InputError(
                f"The scene '{path.name}' names '{name[:80]}', which doesn't lie with the scene as a regular file; save the "
                "scene as .mrb in Slicer."
            ) from error
        if file.suffix.lower() in HEADERS and file.is_file():
            check_data_files(file)
    return path

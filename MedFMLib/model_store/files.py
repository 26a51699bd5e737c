"""Define the files that a model may have, their checksums and manifest, and check disk space. Knows files; no models.

A manifest (`medfm-manifest.json`) is {"format": 1, "kind": "model" or "adapter", "id", "title", "source", "revision",
"made",
"files": {path: {"size": bytes, "sha256": hex}}}; it lists every file of its folder except itself.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from ..errors import InputError, OutputError
from ..storage.installed_models import MANIFEST

FORMAT = 1
SUFFIXES = (".safetensors", ".json", ".jinja", ".txt", ".md")
NAMES = ("tokenizer.model", "spiece.model", "license", "licence", "notice", "copying")
REFUSED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npy", ".npz", ".h5", ".py", ".pyc", ".so",
           ".dll", ".dylib", ".exe", ".sh", ".bat", ".js")  # fmt: skip
"""Suffixes of files that can run code when they are opened."""
BLOCK = 1 << 22
RESERVE = 200_000_000
"""Bytes that stay free on a disk."""


def is_wanted(name: str) -> bool:
    """Return whether a file of this name may belong to a model: weights as safetensors, and text files."""
    base = PurePosixPath(name).name.lower()
    return not base.startswith(".") and (base.endswith(SUFFIXES) or base in NAMES)


def is_refused(name: str) -> bool:
    """Return whether a file of this name can run code when it is opened."""
    return name.lower().endswith(REFUSED)


def wanted_files(folder: Path) -> dict[str, Path]:
    """Return a mapping from relative path (with /) to file, for all files that may belong to a model.

    Raises:
        InputError: if one of them is a link out of the folder; the hub's cache links to its own `blobs`.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
        if path.is_file() and is_wanted(name) and not hidden and name != MANIFEST:
            _refuse_link_out(path, folder, name)
            found[name] = path
    return found


def _refuse_link_out(path: Path, folder: Path, name: str) -> None:
    """Refuse a file that is really elsewhere, such as a LICENSE that is a link to a secret."""
    real, root = path.resolve(), folder.resolve()
    blobs = root.parent.parent / "blobs" if root.parent.name == "snapshots" else root
    if not (real.is_relative_to(root) or real.is_relative_to(blobs)):
        raise InputError(
            f"{name} in '{folder.name}' is a link to a file elsewhere; copy the file itself into the folder."
        )


def bytes_in(folder: Path) -> int:
    """Return the bytes of a folder's files; a link counts with its own size, not with that of its target."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_symlink() or path.is_file())


def copy_hashed(source, target, progress: Callable[[int], None], most: int | None = None) -> tuple[int, str]:
    """Copy from one open file to another, and compute the checksum.

    Args:
        source: open for reading.
        target: open for writing, or None to read only.
        progress: called with the number of bytes of each block; may raise an exception to stop.
        most: largest number of bytes that is allowed; None for no limit.

    Returns:
        (bytes, SHA-256 in hex)

    Raises:
        InputError: if there are more bytes than allowed.
    """
    sha, count = hashlib.sha256(), 0
    while block := source.read(BLOCK):
        count += len(block)
        if most is not None and count > most:
            raise InputError("A file is larger than in its manifest, so this export is damaged; copy it again.")
        sha.update(block)
        if target is not None:
            target.write(block)
        progress(len(block))
    return count, sha.hexdigest()


def sha256(path: Path, progress: Callable[[int], None] = lambda _: None) -> str:
    """Return the SHA-256 of a file in hex.

    Args:
        path: the file.
        progress: called with the number of bytes of each block; may raise an exception to stop.
    """
    with path.open("rb") as stream:
        return copy_hashed(stream, None, progress)[1]


def make_manifest(
    kind: str, name: str, title: str, files: dict[str, dict], source: str = "", revision: str = ""
) -> dict:
    """Return a manifest; see the module's docstring.

    Args:
        kind: "model" or "adapter".
        name: id.
        title: display name.
        files: path → size and SHA-256.
        source: origin, such as the hub's URL; "" if unknown.
        revision: the hub's revision; "" if none.
    """
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return {"format": FORMAT, "kind": kind, "id": name, "title": title, "source": source, "revision": revision,
            "made": made, "files": files}  # fmt: skip


def write_json(path: Path, content: dict) -> None:
    """Write a small JSON file.

    Args:
        path: the file.
        content: the JSON object.
    """
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def check_manifest(content, where: str) -> dict:
    """Return the manifest if this version can read it.

    Args:
        content: the parsed JSON.
        where: name of its folder or zip, for error messages.

    Raises:
        InputError: if it is damaged or of a newer version, or names files that are not allowed.
    """
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not files or content.get("kind") not in ("model", "adapter"):
        raise InputError(f"The manifest of '{where}' is damaged; export the model again.")
    if content.get("format") != FORMAT:
        raise InputError(f"'{where}' was exported by a newer MedFM (format {content.get('format')}); update MedFM.")
    for name, facts in files.items():
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or "\\" in name or ":" in name or ".." in parts:
            raise InputError(f"'{where}' names a file outside of its folder ({name}); it is refused.")
        if is_refused(name) or not is_wanted(name):
            raise InputError(f"'{where}' has a file that can't be part of a model ({name}); it is refused.")
        if not isinstance(facts, dict) or not isinstance(facts.get("size"), int) or "sha256" not in facts:
            raise InputError(f"The manifest of '{where}' is damaged at {name}; export the model again.")
    return content


def gigabytes(count: int) -> str:
    """Return a number of bytes as text: "3.2 GB"."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"


def require_disk_space(folder: Path, count: int) -> None:
    """Check that a disk has space for a number of bytes.

    Args:
        folder: the destination, existing or not.
        count: bytes.

    Raises:
        OutputError: if not.
    """
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < count + RESERVE:
        raise OutputError(
            f"{gigabytes(count)} are needed in {place}, where {gigabytes(free)} are free; free some space there, "
            "for example with `medfm models remove`."
        )


@contextmanager
def staged(final: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `final`, which is moved there if the block succeeds, and deleted if not.

    Raises:
        OutputError: if something can't be written.
    """
    with writing(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        try:
            folder.chmod(0o755)
            yield folder
            folder.rename(final)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Convert the system's errors in writing to sentences.

    Raises:
        OutputError: with the reason and the next step.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{target} can't be written: {reason(error)}; nothing was changed.") from error


def reason(error: OSError) -> str:
    """Return why something can't be written, with the next step."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full, free some space"
    if error.errno == errno.EFBIG:
        return "a file is too large for this disk's format, use a disk formatted as exFAT"
    return f"{error.strerror or error}, choose another place"

"""Store uploaded voxels, each volume once, by SHA-256: resumable, verified, limited in size, deleted with the server.

    FOLDER/<digest>           complete and verified
    FOLDER/<client>-<digest>  incomplete; separate per client, so that no client can damage another's upload

FOLDER is private to this user. File names are built from hashes alone. No HTTP here.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import InputError, OutputError
from ...storage.locks import exclusive, is_held

DIGEST = re.compile(r"[0-9a-f]{64}")
PREFIX = "medfm-server-"
OURS: set[Path] = set()
"""Folders that this process created."""

STALE_UPLOAD = 600.0
"""Seconds without a new piece after which an upload is dropped."""


class Conflict(InputError):
    """A piece does not begin where the last one ended.

    Args:
        offset: byte at which the next piece has to begin.
    """

    def __init__(self, offset: int):
        super().__init__(f"The upload continues at byte {offset}; send the piece that begins there.")
        self.offset = offset


class TooLarge(InputError):
    """A volume is larger than the server accepts."""


@dataclass
class _Upload:
    path: Path
    size: int
    sha: object = field(default_factory=hashlib.sha256)
    offset: int = 0
    touched: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Volumes:
    """The volumes of one server.

    Args:
        largest: largest volume, bytes.
        cache: largest total of all volumes, bytes, those in use included.
        root: folder for the server's folder; the system's temporary folder if None.
    """

    def __init__(self, largest: int, cache: int, root: Path | None = None):
        self._largest, self._cache = largest, cache
        self._root = Path(root or tempfile.gettempdir())
        sweep(self._root)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._root))
        OURS.add(self.folder)
        self._running = contextlib.ExitStack()
        self._running.enter_context(exclusive(_lock_of(self.folder), OutputError("The folder for volumes is in use.")))
        self._sizes: dict[str, int] = {}  # complete volumes, least recently used first
        self._uploads: dict[tuple[str, str], _Upload] = {}
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()

    def offset(self, client: str, digest: str) -> int | None:
        """Return the number of bytes received of a client's upload; None if the volume is complete.

        Args:
            client: name of the client.
            digest: SHA-256 (hex) of the voxels.
        """
        with self._lock:
            if digest in self._sizes:
                self._sizes[digest] = self._sizes.pop(digest)  # most recently used
                return None
            upload = self._uploads.get((client, digest))
            return upload.offset if upload else 0

    def append(self, client: str, digest: str, size: int, offset: int, piece: bytes) -> int | None:
        """Add a piece; return the number of bytes received, or None once the volume is complete.

        Args:
            client: name of the client.
            digest: SHA-256 (hex) of the voxels.
            size: bytes of the complete volume.
            offset: byte at which the piece begins.
            piece: the bytes.

        Raises:
            TooLarge: if the volume is too large, or the piece exceeds its end.
            Conflict: if the piece does not begin where the last one ended.
            InputError: if the complete volume does not match its digest; it was dropped.
            OutputError: if the disk is full; the upload was dropped.
        """
        if not DIGEST.fullmatch(digest):
            raise InputError("The name of a volume must be the SHA-256 of its voxels, 64 hexadecimal digits.")
        if size > self._largest or offset + len(piece) > size:
            raise TooLarge(
                f"The announced volume has {size} bytes; this server accepts {self._largest}. Send a smaller one."
            )
        with self._lock:
            if digest in self._sizes:
                return None
            upload = self._uploads.get((client, digest))
            if upload is None:
                self._free_space(size)
                name = hashlib.sha256(client.encode()).hexdigest()[:16]
                upload = self._uploads[client, digest] = _Upload(self.folder / f"{name}-{digest}", size)
        with upload.lock:
            if self._uploads.get((client, digest)) is not upload:  # it was dropped or completed meanwhile
                raise Conflict(self.offset(client, digest) or 0)
            if upload.offset != offset or upload.size != size:
                raise Conflict(upload.offset)
            try:
                with open(upload.path, "ab") as stream:
                    stream.write(piece)
            except OSError as error:
                self._drop(client, digest)
                raise OutputError(
                    f"The server can't store this volume ({error.strerror}); try later, or inform its administrator."
                ) from error
            upload.sha.update(piece)
            upload.offset += len(piece)
            upload.touched = time.monotonic()
            if upload.offset < size:
                return upload.offset
            if upload.sha.hexdigest() != digest:
                self._drop(client, digest)
                raise InputError("The voxels arrived damaged (their hash differs); send them again.")
            with self._lock:
                self._uploads.pop((client, digest), None)
                if digest in self._sizes:  # another client was faster, and a job may read its file
                    upload.path.unlink()
                else:
                    upload.path.replace(self.folder / digest)
                    self._sizes[digest] = size
            return None

    def hold(self, digest: str, size: int) -> Path:
        """Return the file of a complete volume and keep it until `release`.

        Args:
            digest: SHA-256 (hex) of the voxels.
            size: bytes of the volume.

        Raises:
            KeyError: if it is missing, or has another size.
        """
        with self._lock:
            if self._sizes.get(digest) != size:
                raise KeyError(digest)
            self._sizes[digest] = self._sizes.pop(digest)
            self._used[digest] = self._used.get(digest, 0) + 1
            return self.folder / digest

    def release(self, digest: str) -> None:
        """Allow the deletion of a volume that a job has used."""
        with self._lock:
            left = self._used.get(digest, 1) - 1
            if left:
                self._used[digest] = left
            else:
                self._used.pop(digest, None)

    def tidy(self) -> None:
        """Drop uploads without a new piece for `STALE_UPLOAD` seconds."""
        now = time.monotonic()
        for key, upload in list(self._uploads.items()):
            if now - upload.touched > STALE_UPLOAD and upload.lock.acquire(blocking=False):
                try:
                    self._drop(*key)
                finally:
                    upload.lock.release()

    @property
    def bytes_stored(self) -> int:
        """Size of the complete volumes, bytes."""
        with self._lock:
            return sum(self._sizes.values())

    def close(self) -> None:
        """Delete all volumes."""
        self._running.close()
        _lock_of(self.folder).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _drop(self, client: str, digest: str) -> None:
        with self._lock:
            upload = self._uploads.pop((client, digest), None)
        if upload is not None:
            upload.path.unlink(missing_ok=True)

    def _free_space(self, size: int) -> None:
        """Delete the least recently used volumes until another one fits; call it with the lock held."""
        held = sum(self._sizes.values()) + sum(u.size for u in self._uploads.values())
        for digest in list(self._sizes):
            if held + size <= self._cache:
                return
            if digest not in self._used:
                try:
                    (self.folder / digest).unlink(missing_ok=True)
                except OSError:
                    continue  # Windows can't delete a file that a worker has mapped
                held -= self._sizes.pop(digest)
        if held + size > self._cache:
            raise OutputError("The server's storage for volumes is full; try again in a minute.")


def sweep(root: Path) -> None:
    """Delete folders left behind by killed servers, that is, folders whose lock no process holds.

    Args:
        root: folder with the servers' folders.
    """
    for folder in root.glob(f"{PREFIX}*"):
        lock = _lock_of(folder)
        if folder not in OURS and lock.exists() and not is_held(lock):
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _lock_of(folder: Path) -> Path:
    """Return the lock file of a server's folder, which the server holds while it runs."""
    return folder.with_name(f".{folder.name}.lock")

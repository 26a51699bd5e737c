"""Store uploaded voxels of each key by SHA-256: resumable, verified, limited in size, deleted with the server.

    FOLDER/<key>-<digest>           complete and verified
    FOLDER/<key>-<client>-<digest>  incomplete; separate per client, so that none can damage another's upload

A volume belongs to the key that uploaded it. To another key with the same voxels it is not here: that key sends them
itself, and nothing tells it that somebody else has them. Counted is what has arrived, not what is announced. When space
runs out, those keys lose their least recently used volumes that hold more than an equal share of it.

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
from .accounts import Client

DIGEST = re.compile(r"[0-9a-f]{64}")
PREFIX = "medfm-server-"
OURS: set[Path] = set()
"""Folders that this process created."""

STALE_UPLOAD = 600.0
"""Seconds without a new piece after which an upload is dropped."""

MOST_UPLOADS = 128
"""Unfinished uploads of one key; the one that got no piece for the longest time is dropped for a further one."""

MOST_VOLUMES = 1024
"""Volumes of one key; small ones take memory and files, too."""


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
    held: int = 0  # bytes that arrived, those included that are being written
    touched: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Volumes:
    """The volumes of one server.

    Args:
        largest: largest volume, bytes.
        cache: largest total of all volumes, bytes, those in use and unfinished ones included.
        keys: number of keys, each of which has an equal share of the total for sure.
        root: folder for the server's folder; the system's temporary folder if None.
    """

    def __init__(self, largest: int, cache: int, keys: int = 1, root: Path | None = None):
        self._largest, self._cache, self._share = largest, cache, cache // max(keys, 1)
        self._root = Path(root or tempfile.gettempdir())
        sweep(self._root)
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._root))
        OURS.add(self.folder)
        self._running = contextlib.ExitStack()
        self._running.enter_context(exclusive(_lock_of(self.folder), OutputError("The folder for volumes is in use.")))
        self._sizes: dict[str, dict[str, int]] = {}  # by key: complete volumes, least recently used first
        self._uploads: dict[tuple[Client, str], _Upload] = {}
        self._used: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()

    def offset(self, client: Client, digest: str) -> int | None:
        """Return the number of bytes received of a client's upload; None if its key has the complete volume.

        Args:
            client: who asks.
            digest: SHA-256 (hex) of the voxels.
        """
        with self._lock:
            if self._touch(client.key, digest):
                return None
            upload = self._uploads.get((client, digest))
            return upload.offset if upload else 0

    def append(self, client: Client, digest: str, size: int, offset: int, piece: bytes) -> int | None:
        """Add a piece; return the number of bytes received, or None once the volume is complete.

        Args:
            client: who sends it.
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
            if self._touch(client.key, digest):
                return None
            upload = self._uploads.get((client, digest)) or self._begin(client, digest, size)
        with upload.lock:
            if self._uploads.get((client, digest)) is not upload:  # it was dropped or completed meanwhile
                raise Conflict(self.offset(client, digest) or 0)
            if upload.offset != offset or upload.size != size:
                raise Conflict(upload.offset)
            try:
                with self._lock:
                    self._free_space(client.key, len(piece))
                    upload.held += len(piece)
                with open(upload.path, "ab") as stream:
                    stream.write(piece)
            except OutputError:
                self._drop(client, digest)
                raise
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
            self._complete(client, digest, upload)
            return None

    def hold(self, key: str, digest: str, size: int) -> Path:
        """Return the file of a complete volume of a key and keep it until `release`.

        Args:
            key: name of the key.
            digest: SHA-256 (hex) of the voxels.
            size: bytes of the volume.

        Raises:
            KeyError: if it is missing, belongs to another key, or has another size.
        """
        with self._lock:
            if self._sizes.get(key, {}).get(digest) != size:
                raise KeyError(digest)
            self._touch(key, digest)
            self._used[key, digest] = self._used.get((key, digest), 0) + 1
            return self._file(key, digest)

    def release(self, key: str, digest: str) -> None:
        """Allow the deletion of a volume that a job has used.

        Args:
            key: name of the key.
            digest: SHA-256 (hex) of the voxels.
        """
        with self._lock:
            left = self._used.get((key, digest), 1) - 1
            if left:
                self._used[key, digest] = left
            else:
                self._used.pop((key, digest), None)

    def tidy(self) -> None:
        """Drop uploads without a new piece for `STALE_UPLOAD` seconds."""
        now = time.monotonic()
        with self._lock:
            for key, upload in list(self._uploads.items()):
                if now - upload.touched > STALE_UPLOAD:
                    self._drop_idle(*key)

    @property
    def bytes_stored(self) -> int:
        """Size of all volumes, complete or not, bytes."""
        with self._lock:
            return sum(map(self._held_by, self._keys()))

    def close(self) -> None:
        """Delete all volumes."""
        self._running.close()
        _lock_of(self.folder).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- internals; all but `_drop` and `_complete` are called with the lock held --------------------------------

    def _file(self, key: str, digest: str, client: str | None = None) -> Path:
        names = [key] if client is None else [key, client]
        return self.folder / "-".join([*(hashlib.sha256(name.encode()).hexdigest()[:16] for name in names), digest])

    def _touch(self, key: str, digest: str) -> bool:
        """Make a volume the most recently used; return whether the key has it."""
        own = self._sizes.get(key, {})
        if digest not in own:
            return False
        own[digest] = own.pop(digest)
        return True

    def _begin(self, client: Client, digest: str, size: int) -> _Upload:
        own = [name for name in self._uploads if name[0].key == client.key]
        if len(own) >= MOST_UPLOADS and not any(map(self._drop_idle_of, sorted(own, key=self._touched))):
            raise OutputError(f"{len(own)} of your uploads are unfinished; finish one of them first.")
        upload = _Upload(self._file(client.key, digest, client.name), size)
        self._uploads[client, digest] = upload
        return upload

    def _complete(self, client: Client, digest: str, upload: _Upload) -> None:
        with self._lock:
            self._uploads.pop((client, digest), None)
            own = self._sizes.setdefault(client.key, {})
            if digest in own:  # another client of this key was faster, and a job may read its file
                upload.path.unlink()
                return
            upload.path.replace(self._file(client.key, digest))
            own[digest] = upload.size
            while len(own) > MOST_VOLUMES and self._evict(client.key):
                pass

    def _drop(self, client: Client, digest: str) -> None:
        with self._lock:
            upload = self._uploads.pop((client, digest), None)
        if upload is not None:
            with contextlib.suppress(OSError):
                upload.path.unlink(missing_ok=True)

    def _drop_idle(self, client: Client, digest: str) -> bool:
        """Drop an upload unless a piece of it is being written; return whether it was dropped."""
        upload = self._uploads[client, digest]
        if not upload.lock.acquire(blocking=False):
            return False
        try:
            upload.path.unlink(missing_ok=True)
            del self._uploads[client, digest]
            return True
        except OSError:
            return False
        finally:
            upload.lock.release()

    def _drop_idle_of(self, name: tuple[Client, str]) -> bool:
        return self._drop_idle(*name)

    def _touched(self, name: tuple[Client, str]) -> float:
        return self._uploads[name].touched

    def _keys(self) -> set[str]:
        return {*self._sizes, *(client.key for client, _ in self._uploads)}

    def _held_by(self, key: str) -> int:
        unfinished = sum(upload.held for (client, _), upload in self._uploads.items() if client.key == key)
        return unfinished + sum(self._sizes.get(key, {}).values())

    def _evict(self, key: str) -> bool:
        """Delete the least recently used volume of a key that no job uses, else an unfinished one."""
        own = self._sizes.get(key, {})
        for digest in list(own):
            if (key, digest) not in self._used:
                try:
                    self._file(key, digest).unlink(missing_ok=True)
                except OSError:
                    continue  # Windows can't delete a file that a worker has mapped
                del own[digest]
                return True
        uploads = sorted((name for name in self._uploads if name[0].key == key), key=self._touched)
        return any(map(self._drop_idle_of, uploads))

    def _free_space(self, key: str, size: int) -> None:
        """Delete volumes until further bytes of a key fit, only of keys with more than their share.

        Raises:
            OutputError: if all that could be deleted is in use, or belongs to keys with less than their share.
        """
        held = {name: self._held_by(name) for name in {*self._keys(), key}}
        while sum(held.values()) + size > self._cache:
            over = {name: count + (size if name == key else 0) - self._share for name, count in held.items()}
            for name in sorted((name for name in over if over[name] > 0), key=over.get, reverse=True):
                if self._evict(name):
                    held[name] = self._held_by(name)
                    break
            else:
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

"""Return the disk use of models and adapters, and free it: installed models, the hub's cache and quantized copies.

Only files that MedFM wrote or can download again are removed: never the user's own folders, never the files that ship
with MedFM.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import InputError, MedFMError, ModelError
from ..interfaces import registry
from ..models.runtime import estimates
from ..storage import installed_models, paths
from ..storage.model_card import ModelCard
from . import files

LEFTOVER = re.compile(r"\.(.+?)\.(part|gone|[a-z0-9_]{8})")
"""Names of unfinished downloads, and of temporary folders of an interrupted import or removal."""


@dataclass(frozen=True)
class DiskUse:
    """Disk use of one item.

    Args:
        id: model or adapter.
        kind: "model", "hub cache", "unfinished", "quantized copy" or "adapter".
        bytes: bytes that removing it frees.
        path: its folder.
    """

    id: str
    kind: str
    bytes: int
    path: str

    def as_dict(self) -> dict:
        """Return the fields as a dict, for JSON."""
        return asdict(self)


def disk_use() -> list[DiskUse]:
    """Return the disk use of all models and adapters, including damaged ones, the largest first."""
    found = []
    for folder in sorted(installed_models.models_root().glob("*")):
        if folder.is_dir():
            left = LEFTOVER.fullmatch(folder.name)
            name = (left[1] if left else folder.name).replace("--", "/", 1)
            found.append(DiskUse(name, "unfinished" if left else "model", files.bytes_in(folder), str(folder)))
    for folder in sorted(installed_models.adapters_root().glob("*")):
        if folder.is_dir():
            kind = "unfinished" if folder.name.startswith(".") else "adapter"
            found.append(DiskUse(folder.name.replace("--", "/", 1), kind, files.bytes_in(folder), str(folder)))
    known = registry.cards()
    copies = {}
    for card in known.values():
        snapshot = estimates.hub_folder(card)
        if snapshot is not None:
            found.append(DiskUse(card.id, "hub cache", files.bytes_in(snapshot.parents[1]), str(snapshot)))
        copies |= dict.fromkeys(quantized_copies(card), card.id)
    for folder in sorted((paths.cache() / "quantized").glob("*")):
        if folder.is_dir():
            owner = copies.get(folder, folder.name)
            found.append(DiskUse(owner, "quantized copy", files.bytes_in(folder), str(folder)))
    return sorted(found, key=lambda use: -use.bytes)


def quantized_copies(card: ModelCard) -> list[Path]:
    """Return the folders of a model's quantized copies."""
    from ..models.runtime import checkpoint, loading

    try:
        base = loading.base_folder(card)
        mark = checkpoint.fingerprint(checkpoint.check_folder(base))[:16]
    except (MedFMError, OSError, ImportError):
        return []
    return sorted(
        path for path in (paths.cache() / "quantized").glob("*") if path.name.startswith(f"{base.name}-{mark}-")
    )


def remove(model: str, dry: bool = False) -> int:
    """Delete an installed model, also from the hub's cache, with its unfinished downloads and quantized copies.

    Args:
        model: id of the model.
        dry: only count, delete nothing.

    Returns:
        Bytes that are (or would be) freed.

    Raises:
        InputError: if it is the user's own folder, or ships with MedFM.
        ModelError: if it isn't installed.
    """
    known = registry.cards().get(model)
    if known is not None and known.weights:
        raise InputError(f"{known.title} comes with MedFM; it can't be removed separately.")
    if known is None and Path(model).is_dir():
        raise InputError(f"'{model}' is a folder of yours; MedFM doesn't delete it.")
    final = installed_models.models_root() / installed_models.folder_name(model)
    places = [
        path
        for path in sorted(installed_models.models_root().glob("*"))
        if _owner(path) == final.name and path.is_dir()
    ]
    places += quantized_copies(known) if known is not None else []
    freed = sum(files.bytes_in(path) for path in places)
    cached = estimates.hub_folder(known) if known is not None else None
    strategy = _hub_strategy(model) if cached is not None else None
    if not places and strategy is None:
        raise ModelError(f"'{model}' is not on this machine; see `medfm models disk`.")
    freed += strategy.expected_freed_size if strategy is not None else 0
    if not dry:
        for path in places:
            _delete(path)
        if strategy is not None:
            strategy.execute()
    return freed


def _hub_strategy(model: str):
    """Return huggingface_hub's strategy for deleting all revisions of a model, or None."""
    from huggingface_hub import scan_cache_dir

    cache = scan_cache_dir()
    mine = [repo for repo in cache.repos if (repo.repo_type, repo.repo_id) == ("model", model)]
    revisions = [revision.commit_hash for repo in mine for revision in repo.revisions]
    return cache.delete_revisions(*revisions) if revisions else None


def _owner(path: Path) -> str:
    """Return the folder name that a temporary folder belongs to; its own name for any other."""
    left = LEFTOVER.fullmatch(path.name)
    return left[1] if left else path.name


def _delete(path: Path) -> None:
    """Delete a folder.

    Raises:
        OutputError: if the system refuses, for example since the model is loaded.
    """
    if not path.exists():  # already deleted together with another one
        return
    with files.writing(path):
        hidden = path.with_name(f".{_owner(path)}.gone")
        if path != hidden:
            shutil.rmtree(hidden, ignore_errors=True)
            path.rename(hidden)  # renamed first, so that it is no longer listed as a model
        shutil.rmtree(hidden)

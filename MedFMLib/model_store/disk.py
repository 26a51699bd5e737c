"""What models and adapters take on disk, and freeing it. Knows the shelf, the hub's cache and quantized copies.

Removed is only what MedFM put there or can get again: never a folder of a person's own, never what ships with MedFM.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from ..environment import hardware
from ..errors import InputError, MedFMError, ModelError
from ..interfaces import registry
from ..interfaces.model import ModelCard
from ..storage import installed_models, paths
from . import files

LEFTOVER = re.compile(r"\.(.+?)\.(part|gone|[a-z0-9_]{8})")
"""Names of downloads on their way, and of what a killed import or removal left."""


@dataclass(frozen=True)
class DiskUse:
    """Something on disk.

    Args:
        id: model or adapter. kind: "model", "hub cache", "unfinished", "quantized copy" or "adapter".
        bytes: what removing it frees. path: where.
    """

    id: str
    kind: str
    bytes: int
    path: str

    def as_dict(self) -> dict:
        """For JSON."""
        return asdict(self)


def disk_use() -> list[DiskUse]:
    """All that models and adapters take on disk, the largest first. Damaged models are listed, too."""
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
        snapshot = hardware.hub_folder(card)
        if snapshot is not None:
            found.append(DiskUse(card.id, "hub cache", files.bytes_in(snapshot.parents[1]), str(snapshot)))
        copies |= dict.fromkeys(quantized_copies(card), card.id)
    for folder in sorted((paths.cache() / "quantized").glob("*")):
        if folder.is_dir():
            owner = copies.get(folder, folder.name)
            found.append(DiskUse(owner, "quantized copy", files.bytes_in(folder), str(folder)))
    return sorted(found, key=lambda use: -use.bytes)


def quantized_copies(card: ModelCard) -> list[Path]:
    """Folders of a model's quantized copies."""
    from ..models.runtime import loading

    try:
        base = loading.base_folder(card)
        mark = loading.fingerprint(loading.check_folder(base))[:16]
    except (MedFMError, OSError, ImportError):
        return []
    return sorted(
        path for path in (paths.cache() / "quantized").glob("*") if path.name.startswith(f"{base.name}-{mark}-")
    )


def remove(model: str, dry: bool = False) -> int:
    """Delete a model from the shelf and the hub's cache, with its unfinished downloads and quantized copies.

    Args:
        dry: only count.

    Returns:
        Bytes that are (or would be) freed.

    Raises:
        InputError: if it is a folder of a person's own, or ships with MedFM. ModelError: if it isn't here.
    """
    known = registry.cards().get(model)
    if known is not None and known.weights:
        raise InputError(f"{known.title} comes with MedFM; it can't be removed alone.")
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
    cached = hardware.hub_folder(known) if known is not None else None
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
    """huggingface_hub's plan for deleting all revisions of a model, or None."""
    from huggingface_hub import scan_cache_dir

    cache = scan_cache_dir()
    mine = [repo for repo in cache.repos if (repo.repo_type, repo.repo_id) == ("model", model)]
    revisions = [revision.commit_hash for repo in mine for revision in repo.revisions]
    return cache.delete_revisions(*revisions) if revisions else None


def _owner(path: Path) -> str:
    """Name of the folder that a leftover was to become; its own name for any other."""
    left = LEFTOVER.fullmatch(path.name)
    return left[1] if left else path.name


def _delete(path: Path) -> None:
    """
    Raises:
        OutputError: if the system refuses, for example since the model is loaded.
    """
    if not path.exists():  # a leftover that went with another
        return
    with files.writing(path):
        hidden = path.with_name(f".{_owner(path)}.gone")
        if path != hidden:
            shutil.rmtree(hidden, ignore_errors=True)
            path.rename(hidden)  # at once it is no model any more
        shutil.rmtree(hidden)

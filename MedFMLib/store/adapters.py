"""Adapters on the person's shelf: listed, checked, imported, exported, removed. Knows PEFT's two files; loads no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .. import shelf
from ..errors import InputError, ModelError
from ..runner import Progress, Silent
from . import files
from .bundle import pack, read_manifest, take
from .disk import _delete

NEEDED = ("adapter_config.json", "adapter_model.safetensors")


def facts(name: str) -> dict[str, Any]:
    """What is known of an adapter on the shelf: base, rank, layers, size, checksum and where it came from.

    Raises:
        ModelError: if there is none, or it is damaged.
    """
    folder = _folder(name)
    config = check(folder)
    manifest = shelf.manifest(folder)
    targets = config.get("target_modules") or ""
    return {
        "id": name, "base": config.get("base_model_name_or_path") or "", "base_revision": config.get("revision") or "",
        "rank": config.get("r"), "alpha": config.get("lora_alpha"),
        "targets": targets if isinstance(targets, str) else ", ".join(sorted(targets)),
        "bytes": files.bytes_in(folder), "sha256": files.sha256(folder / NEEDED[1]),
        "source": manifest.get("source", ""), "revision": manifest.get("revision", ""), "path": str(folder),
    }  # fmt: skip


def check(folder: Path) -> dict[str, Any]:
    """Make sure that a folder holds a whole LoRA adapter of finite numbers; → its adapter_config.

    Raises:
        ModelError: if not.
    """
    for name in NEEDED:
        if not (folder / name).is_file():
            raise ModelError(
                f"The adapter lacks {name}; only PEFT adapters in safetensors are taken (pickles are refused)."
            )
    try:
        config = json.loads((folder / NEEDED[0]).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"The adapter_config.json is damaged ({error}); copy the adapter again.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise ModelError(f"The adapter is of the type {kind}; MedFM uses LORA.")
    from ..models.parts.adapters import read_tensors

    read_tensors(folder)
    return config


def import_adapter(path: Path, name: str = "", progress: Progress | None = None) -> str:
    """Take an adapter from an export or a PEFT folder to the shelf; → its name.

    Raises:
        InputError, ModelError, OutputError: as for `import_model`.
    """
    path, progress = Path(path).expanduser(), progress or Silent()
    manifest = read_manifest(path, "adapter")
    given = name or (manifest["id"] if manifest else path.name)
    final = shelf.adapters_root() / shelf.folder_name(given)
    if final.exists():
        raise InputError(f"There is an adapter '{given}' on this machine already; remove it, or give another name.")
    progress.stage(f"Importing {path.name}")
    with files.staged(final) as staging:
        content = take(path, manifest, staging, progress)
        check(staging)
        files.write_json(staging / shelf.MANIFEST, files.make_manifest("adapter", given, given, content, "import"))
    return given


def export_adapter(name: str, target: Path, progress: Progress | None = None) -> Path:
    """Write an adapter to a zip or folder; see `export_model`."""
    folder = _folder(name)
    check(folder)
    return pack("adapter", name, name, folder, target, progress or Silent())


def remove_adapter(name: str, dry: bool = False) -> int:
    """Delete an adapter from the shelf; → bytes that are (or would be) freed.

    Raises:
        ModelError: if there is none.
    """
    folder = _folder(name)
    freed = files.bytes_in(folder)
    if not dry:
        _delete(folder)
    return freed


def _folder(name: str) -> Path:
    folder = shelf.adapter_folder(name)
    if folder is None:
        known = ", ".join(shelf.adapters()) or "none"
        raise ModelError(f"There is no adapter '{name}' on this machine; there is {known}.")
    return folder

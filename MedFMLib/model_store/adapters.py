"""List, check, import, export, merge and remove installed adapters. Knows PEFT's two files; loads no model."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelError, OutputError
from ..interfaces.jobs import NoProgress, Progress
from ..storage import adapter_card, installed_models
from ..storage.json_text import read_json
from ..storage.model_card import ModelCard
from . import files
from .bundle import pack, read_manifest, source_folder, take
from .disk import _delete

NEEDED = ("adapter_config.json", "adapter_model.safetensors")


def facts(name: str) -> dict[str, Any]:
    """Return the properties of an installed adapter: base, rank, layers, size, checksum and origin.

    Raises:
        ModelError: if there is none, or it is damaged.
    """
    folder = folder_of(name)
    config = check(folder)
    manifest = installed_models.manifest(folder)
    targets = config.get("target_modules") or ""
    return {
        "id": name, "base": config.get("base_model_name_or_path") or "", "base_revision": config.get("revision") or "",
        "rank": config.get("r"), "alpha": config.get("lora_alpha"),
        "targets": targets if isinstance(targets, str) else ", ".join(sorted(targets)),
        "bytes": files.bytes_in(folder), "sha256": files.sha256(folder / NEEDED[1]),
        "source": manifest.get("source", ""), "revision": manifest.get("revision", ""), "path": str(folder),
        **_carded(folder),
    }  # fmt: skip


def _carded(folder: Path) -> dict[str, Any]:
    """Return a summary of an adapter's own card."""
    card = adapter_card.read(folder)
    if not card:
        return {}
    gained = card["results"]["table"]["all"]["difference"]
    return {
        "licence": card["licence"], "data": f"{card['data']['source']}, {card['data']['patients']} patients",
        "difference": f"{gained['score']:+.3f} ({gained['low']:+.3f} … {gained['high']:+.3f}) on held-out patients",
        "refused": adapter_card.refusal(folder), "card": str(folder / adapter_card.PAGE),
    }  # fmt: skip


def check(folder: Path) -> dict[str, Any]:
    """Check that a folder has a complete LoRA adapter of finite numbers, and return its adapter_config.

    Raises:
        ModelError: if not.
    """
    for name in NEEDED:
        if not (folder / name).is_file():
            raise ModelError(
                f"The adapter lacks {name}; only PEFT adapters in safetensors are taken (pickles are refused)."
            )
    try:
        config = read_json((folder / NEEDED[0]).read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"The adapter_config.json is damaged ({error}); copy the adapter again.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else type(config).__name__
        raise ModelError(f"The adapter is of the type {kind}; MedFM uses LORA.")
    from ..models.runtime.adapters import read_tensors

    read_tensors(folder)
    with adapter_card.judging():
        adapter_card.check(folder)
    return config


def import_adapter(path: Path, name: str = "", progress: Progress | None = None) -> str:
    """Install an adapter from an export or a PEFT folder, and return its name.

    Args:
        path: an exported zip or folder, or a PEFT folder.
        name: name of the installed adapter; by default the exported name, or that of the folder.
        progress: callbacks for stages, fraction and cancellation.

    Raises:
        InputError: if it is damaged, unsafe, or already installed.
        ModelError: if it is no complete LoRA adapter.
        OutputError: if it can't be written.
    """
    path, progress = Path(path).expanduser(), progress or NoProgress()
    manifest = read_manifest(path, "adapter")
    given = name or (manifest["id"] if manifest else path.name)
    final = installed_models.adapters_root() / installed_models.folder_name(given)
    if final.exists():
        raise InputError(f"An adapter '{given}' is already installed; remove it, or give another name.")
    progress.stage(f"Importing {path.name}")
    with files.staged(final) as staging:
        content = take(path, manifest, staging, progress)
        check(staging)
        files.write_json(
            staging / installed_models.MANIFEST, files.make_manifest("adapter", given, given, content, "import")
        )
    return given


def export_adapter(name: str, target: Path, progress: Progress | None = None) -> Path:
    """Write an adapter to a zip or folder; see `export_model`.

    Args:
        name: name of an installed adapter.
        target: a zip file, a new folder, or an existing folder to put it into.
        progress: callbacks for stages, fraction and cancellation.

    Returns:
        The zip or folder.

    Raises:
        ModelError: if the adapter is not installed, or damaged.
        OutputError: if it can't be written.
    """
    folder = folder_of(name)
    check(folder)
    return pack("adapter", name, name, folder, target, progress or NoProgress())


def merge_adapter(card: ModelCard, adapter: str, target: Path, progress: Progress | None = None) -> Path:
    """Merge an adapter into its base model, and write the result, which needs no adapter, to a new folder.

    Args:
        card: of the base.
        adapter: name of an adapter, or a folder.
        target: the new folder, or an existing one to put it into.
        progress: callbacks for stages, fraction and cancellation.

    Returns:
        The folder; it has a card and a manifest, and can be used as a model.

    Raises:
        InputError: if this kind of adapter can't be merged.
        ModelError: if it doesn't fit the base.
        OutputError: if it can't be written.
    """
    from ..models.runtime import checkpoint, loading, merging
    from ..models.runtime.adapters import adapter_folder, other_base

    progress = progress or NoProgress()
    source, base = source_folder(card), loading.base_folder(card)
    factors = adapter_folder(card, adapter)
    check(factors)
    for note in other_base(card, factors):
        progress.note(note)
    name = f"{Path(card.id).name}-{Path(adapter).name}"
    target = Path(target).expanduser()
    target = target / name if target.is_dir() else target
    if target.exists():
        raise OutputError(f"{target} already exists; choose another name, or delete it first.")
    files.require_disk_space(target.parent, 4 * sum(path.stat().st_size for path in checkpoint.check_folder(base)))
    progress.stage(f"Merging {Path(adapter).name} into {card.title}")
    with files.staged(target) as staging:
        inner = staging / "base" if base != source else staging
        inner.mkdir(exist_ok=True)
        merging.merge(base, factors, inner, lambda value: progress.fraction(0.95 * value))
        heads = {"mask_codec": source / "mask_codec", "mask_head": source / "mask_head"}
        if (factors / "mask_head.json").is_file():
            heads["mask_head"] = factors
        for part, folder in heads.items():
            wanted = f"{part}.*" if folder == factors else "*"
            for path in sorted(folder.glob(wanted)) if folder.is_dir() else ():
                (staging / part).mkdir(exist_ok=True)
                shutil.copyfile(path, staging / part / path.name)
        known = card.adapter_labels.get(adapter)
        made = replace(
            card, id=name, title=f"{card.title} with {Path(adapter).name}", weights="", revision="", adapters=(),
            default_adapter="", adapter_labels={}, labels=known or card.labels, config="",
            precisions=("bf16", "fp32", "nf4", "int8"),
        )  # fmt: skip
        files.write_json(staging / installed_models.CARD, made.as_json())
        facts = {
            p: {"size": f.stat().st_size, "sha256": files.sha256(f)} for p, f in files.wanted_files(staging).items()
        }
        source_text = f"{card.id} with adapter {Path(adapter).name}"
        files.write_json(
            staging / installed_models.MANIFEST, files.make_manifest("model", name, made.title, facts, source_text)
        )
    progress.fraction(1.0)
    return target


def remove_adapter(name: str, dry: bool = False) -> int:
    """Delete an installed adapter and return the bytes that are (or would be) freed.

    Args:
        name: name of the adapter.
        dry: only count, delete nothing.

    Raises:
        ModelError: if it is not installed.
    """
    folder = folder_of(name)
    freed = files.bytes_in(folder)
    if not dry:
        _delete(folder)
    return freed


def folder_of(name: str) -> Path:
    """Return the folder of an installed adapter.

    Raises:
        ModelError: if it is not installed.
    """
    folder = installed_models.adapter_folder(name)
    if folder is None:
        known = ", ".join(installed_models.adapters()) or "none"
        raise ModelError(f"The adapter '{name}' is not installed; installed adapters: {known}.")
    return folder

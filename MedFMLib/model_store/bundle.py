"""Export a model as one zip or folder, for a USB stick for example, and import it. Depends on manifests; knows no hub.

An export contains the model's files, its card and a manifest with the SHA-256 of every file. An import is checked
against it
while it is copied; only weights in safetensors and text files are accepted, and never a path outside of the model's
folder.
A plain transformers folder has no manifest: then its safe files are copied, and the others are reported.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, MedFMError, ModelError, OutputError
from ..interfaces import registry
from ..interfaces.jobs import NoProgress, Progress
from ..storage import installed_models, resources
from ..storage.archives import ArchiveLimits, check_entries, damage_as_error
from ..storage.json_text import read_json
from ..storage.model_card import ModelCard
from . import files

FLOATS = ("F64", "F32", "F16", "BF16")

WEIGHTS = ArchiveLimits(entries=10_000, total=1 << 40, file=1 << 39, ratio=200)
"""A model's export stores its weights as they are, and its texts are small."""


def source_folder(card: ModelCard) -> Path:
    """Return the folder with all files of an installed model.

    Raises:
        ModelError: if it isn't installed.
    """
    from ..models.runtime import checkpoint, loading

    root = resources.path(*card.weights.split("/")) if card.weights else loading.model_folder(card)
    checkpoint.check_folder(root / "base" if (root / "base").is_dir() else root)
    return root


def export_model(card: ModelCard, target: Path, progress: Progress | None = None) -> Path:
    """Write a model to a zip or a folder.

    Args:
        card: of the model.
        target: a path that ends in .zip for a zip; else a new folder, or an existing folder to put it into.
        progress: callbacks for stages, fraction and cancellation.

    Returns:
        The zip or folder.

    Raises:
        ModelError: if the model isn't installed, or incomplete.
        OutputError: if it can't be written.
    """
    source = source_folder(card)
    name = Path(card.id).name if Path(card.id).is_dir() else card.id
    return pack("model", name, card.title, source, target, progress or NoProgress(), card=replace(card, id=name))


def pack(kind: str, name: str, title: str, source: Path, target: Path, progress: Progress, card=None) -> Path:
    """Write the safe files of a folder, a card and a manifest, atomically.

    Args:
        kind: "model" or "adapter".
        name: id in the manifest.
        title: display name.
        source: the folder.
        target: as for `export_model`.
        progress: callbacks for stages, fraction and cancellation.
        card: model card to include; None for an adapter.

    Returns:
        The zip or folder.

    Raises:
        OutputError: if it can't be written, or the target already exists.
    """
    inside = {path: file for path, file in files.wanted_files(source).items() if path != installed_models.CARD}
    total = sum(file.stat().st_size for file in inside.values())
    target = Path(target).expanduser()
    zipped = target.suffix.lower() == ".zip"
    if target.is_dir() and not zipped:
        target = target / installed_models.folder_name(name)
    if target.exists():
        raise OutputError(f"{target} already exists; choose another name, or delete it first.")
    files.require_disk_space(target.parent, total)
    progress.stage(f"Exporting {title}")
    with files.writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            staging.chmod(0o755)
            if card is not None:
                files.write_json(staging / installed_models.CARD, card.as_json())
                inside[installed_models.CARD] = staging / installed_models.CARD
            count = _counter(progress, total)
            if not zipped:
                made = staging
                facts = {path: _copy(file, made / path, count) for path, file in inside.items()}
                files.write_json(made / installed_models.MANIFEST, files.make_manifest(kind, name, title, facts))
            else:
                made, facts = staging / target.name, {}
                with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:  # weights don't get smaller
                    for path, file in inside.items():
                        with file.open("rb") as source_file, archive.open(path, "w", force_zip64=True) as entry:
                            size, sha = files.copy_hashed(source_file, entry, count)
                        facts[path] = {"size": size, "sha256": sha}
                    manifest = files.make_manifest(kind, name, title, facts)
                    archive.writestr(installed_models.MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False))
            made.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    progress.fraction(1.0)
    return target


def import_model(path: Path, name: str = "", progress: Progress | None = None) -> ModelCard:
    """Install a model from an exported zip or folder, or from a plain transformers folder, and return its card.

    Args:
        path: the zip or folder.
        name: id for a folder without a card; the folder's name by default.
        progress: callbacks for stages, fraction and cancellation.

    Raises:
        InputError: if it is damaged, unsafe, or already installed.
        ModelError: if its architecture is unknown, or it is incomplete.
        OutputError: if it can't be written.
    """
    path, progress = Path(path).expanduser(), progress or NoProgress()
    manifest = read_manifest(path, "model")
    given = name or (manifest["id"] if manifest else path.name)
    final = installed_models.models_root() / installed_models.folder_name(given)
    known = registry.cards().get(given)
    if final.exists() or (known is not None and known.weights):
        raise InputError(f"A model '{given}' is already installed; remove it, or give another name.")
    progress.stage(f"Importing {path.name}")
    with files.staged(final) as staging:
        facts = take(path, manifest, staging, progress)
        progress.stage("Checking the model")
        card = _card(staging, given)
        check_model(staging, card)
        files.write_json(staging / installed_models.CARD, card.as_json())
        content = staging / installed_models.CARD
        facts[installed_models.CARD] = {"size": content.stat().st_size, "sha256": files.sha256(content)}
        files.write_json(
            staging / installed_models.MANIFEST, files.make_manifest("model", card.id, card.title, facts, "import")
        )
    progress.fraction(1.0)
    return card


def read_manifest(path: Path, kind: str) -> dict | None:
    """Return the checked manifest of an exported zip or folder; None for a folder without one.

    Args:
        path: the zip or folder.
        kind: expected kind, "model" or "adapter".

    Raises:
        InputError: if there is nothing to import, or it is damaged, unsafe or of the other kind.
    """
    if path.is_dir():
        if not (path / installed_models.MANIFEST).is_file():
            return None
        content = installed_models.manifest(path)
    elif zipfile.is_zipfile(path):
        try:
            with damage_as_error(path.name), zipfile.ZipFile(path) as archive:
                _check_names(archive, path.name)
                content = read_json(archive.read(installed_models.MANIFEST))
        except KeyError:
            raise InputError(f"'{path.name}' was not exported by MedFM; unpack it, and import the folder.") from None
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise InputError(f"'{path.name}' is damaged ({error}); copy it again.") from error
    else:
        raise InputError(f"'{path}' is neither a folder nor a complete zip; choose an export, or a model's folder.")
    manifest = files.check_manifest(content, path.name)
    if manifest["kind"] != kind:
        raise InputError(
            f"'{path.name}' is of the kind {manifest['kind']}; import it with `medfm {manifest['kind']}s import`."
        )
    return manifest


def take(path: Path, manifest: dict | None, staging: Path, progress: Progress) -> dict[str, dict]:
    """Copy the acceptable files to a temporary folder and check them.

    Args:
        path: the zip or folder.
        manifest: its manifest, or None for a plain folder.
        staging: the temporary folder.
        progress: callbacks for stages, fraction and cancellation.

    Returns:
        Size and SHA-256 of each file, for a manifest.

    Raises:
        InputError: if a file differs from the manifest.
    """
    if manifest is None:
        return _take_plain(path, staging, progress)
    wanted = manifest["files"]
    total = sum(facts["size"] for facts in wanted.values())
    files.require_disk_space(staging, total)
    count = _counter(progress, total)
    archive = zipfile.ZipFile(path) if path.is_file() else None
    try:
        for name, facts in wanted.items():
            target = staging / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with damage_as_error(path.name), _open(archive, path, name) as source, target.open("wb") as copy:
                size, sha = files.copy_hashed(source, copy, count, facts["size"])
            if (size, sha) != (facts["size"], facts["sha256"]):
                raise InputError(f"{name} in '{path.name}' is damaged: its checksum differs; copy the export again.")
    finally:
        if archive is not None:
            archive.close()
    return dict(wanted)


def check_model(folder: Path, card: ModelCard) -> None:
    """Check that a model is complete, that its weights have a type that MedFM loads, and that it fits its architecture.

    Args:
        folder: the model's folder.
        card: its card.

    Raises:
        ModelError: if not.
    """
    from safetensors import safe_open

    from ..models.runtime import checkpoint

    base = folder / "base" if (folder / "base").is_dir() else folder
    weights = checkpoint.check_folder(base)
    config = read_json((base / "config.json").read_bytes())
    kinds = registry.architecture(card.architecture).MODEL_TYPES
    if config.get("model_type") not in kinds:
        raise ModelError(
            f"The config.json is of a model of type '{config.get('model_type')}', but its card has the "
            f"architecture {card.architecture} ({', '.join(kinds)}); export the model again."
        )
    for path in weights if not config.get("quantization_config") else ():
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - no dict
                kind = file.get_slice(name).get_dtype()
                if kind not in FLOATS and "position_ids" not in name:
                    raise ModelError(
                        f"{name} in {path.name} has the type {kind}; MedFM loads {', '.join(FLOATS)}, or bitsandbytes' own."
                    )


# -- implementation ---------------------------------------------------------------------------------------


def _counter(progress: Progress, total: int):
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress.fraction(min(done / max(total, 1), 1.0) * 0.95)

    return count


def _copy(source: Path, target: Path, count) -> dict:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source == target:
        return {"size": source.stat().st_size, "sha256": files.sha256(source)}
    with source.open("rb") as stream, target.open("wb") as copy:
        size, sha = files.copy_hashed(stream, copy, count)
    return {"size": size, "sha256": sha}


def _check_names(archive: zipfile.ZipFile, where: str) -> None:
    """Check the names in a zip.

    Raises:
        InputError: if an entry is unsafe (see `storage.archives`) or can run code.
    """
    check_entries(archive, where, WEIGHTS)
    for name in archive.namelist():
        if files.is_refused(name):
            raise InputError(f"'{where}' has a link, a pickle, code or an encrypted file ({name}); it is refused.")


def _open(archive: zipfile.ZipFile | None, folder: Path, name: str):
    """Open a file of the export for reading.

    Raises:
        InputError: if the file is missing or a link.
    """
    try:
        if archive is not None:
            return archive.open(name)
        if (folder / name).is_symlink() or not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{name} in '{folder.name}' is a link; it is refused.")
        return (folder / name).open("rb")
    except (KeyError, FileNotFoundError):
        where = folder.name
        raise InputError(f"'{where}' lacks {name}, which its manifest lists; copy the export again.") from None


def _take_plain(folder: Path, staging: Path, progress: Progress) -> dict[str, dict]:
    inside = files.wanted_files(folder)
    left_out = sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and files.is_refused(p.name)
    )
    if left_out:
        progress.note(f"Skipped, since opening these files could run code: {', '.join(left_out[:5])}.")
    if not any(name.endswith(".safetensors") for name in inside):
        if left_out:
            raise ModelError(
                f"'{folder.name}' has only weights that can run code when opened ({', '.join(left_out[:3])}), which are refused; "
                "get or convert to safetensors."
            )
        raise ModelError(f"'{folder.name}' has no .safetensors weights; choose the folder with them.")
    total = sum(file.stat().st_size for file in inside.values())
    files.require_disk_space(staging, total)
    count = _counter(progress, total)
    return {name: _copy(file, staging / name, count) for name, file in inside.items()}


def _card(folder: Path, name: str) -> ModelCard:
    """Return the card of a folder that is being imported, with its id on this machine."""
    known = registry.cards().get(name)
    if known is not None:
        return known
    try:
        card = registry.card(str(folder))
    except MedFMError as error:
        raise type(error)(str(error).replace(folder.name, name)) from error
    title = name if card.title == folder.name else card.title
    config = card.config if card.config and resources.path(*card.config.split("/")).is_dir() else ""
    return replace(card, id=name, title=title, weights="", config=config)

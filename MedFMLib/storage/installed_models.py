"""The person's own models and adapters on this machine: what was got or imported. Knows folders; opens no weights.

    DATA/models/ORG--NAME/     medfm-card.json, medfm-manifest.json, and the model's files (or base/, adapters/, …)
    DATA/adapters/NAME/        adapter_config.json, adapter_model.safetensors, medfm-manifest.json
    DATA/models/.ORG--NAME.part  a download on its way; never taken for a model

Here it is only looked at; `store` puts things in and takes them out. DATA is `folders.data()`.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelError
from ..interfaces.model import ModelCard
from . import paths

CARD, MANIFEST = "medfm-card.json", "medfm-manifest.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
log = logging.getLogger(__name__)


def models_root() -> Path:
    """Where models lie, existing or not."""
    return paths.data() / "models"


def adapters_root() -> Path:
    """Where adapters lie, existing or not."""
    return paths.data() / "adapters"


def folder_name(name: str) -> str:
    """Name of the folder for a model or adapter: "org/name" → "org--name".

    Raises:
        InputError: if it isn't a name, or `org/name`, of letters, digits, dots, dashes and underscores.
    """
    if not NAME.fullmatch(name) or ".." in name or "--" in name.partition("/")[0]:
        raise InputError(f"'{name}' can't be a name here; use letters, digits, dots, dashes and underscores.")
    return name.replace("/", "--")


def model_folder(model: str) -> Path | None:
    """Folder of a model that was got or imported, or None."""
    return _folder(models_root(), model, CARD)


def adapter_folder(adapter: str) -> Path | None:
    """Folder of an adapter that was got or imported, or None."""
    return _folder(adapters_root(), adapter, "adapter_config.json")


def _folder(root: Path, name: str, needed: str) -> Path | None:
    if not NAME.fullmatch(name):
        return None
    folder = root / name.replace("/", "--")
    return folder if (folder / needed).is_file() else None


def cards() -> list[ModelCard]:
    """Cards of the models on the shelf; a damaged one is left out and logged, so that it stops no other."""
    found = []
    for path in sorted(models_root().glob(f"[!.]*/{CARD}")):
        try:
            found.append(ModelCard.from_json(path))
        except ModelError as error:
            log.warning("%s", error)
    return found


def adapters() -> dict[str, dict[str, Any]]:
    """Adapter's name → its adapter_config, of those on the shelf; a damaged one is left out."""
    found = {}
    for path in sorted(adapters_root().glob("[!.]*/adapter_config.json")):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            found[path.parent.name.replace("--", "/", 1)] = content
    return found


def manifest(folder: Path) -> dict[str, Any]:
    """What is written of where a folder on the shelf came from; {} if nothing is."""
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

"""List the models and adapters installed on this machine, downloaded or imported. Depends on folders; opens no weights.

    DATA/models/ORG--NAME/       medfm-card.json, medfm-manifest.json, and the model's files (or base/, adapters/, …)
    DATA/adapters/NAME/          adapter_config.json, adapter_model.safetensors, medfm-manifest.json
    DATA/models/.ORG--NAME.part  an unfinished download; never listed as a model

This module only reads; `model_store` adds and removes. DATA is `paths.data()`.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from ..errors import InputError, ModelError
from . import paths
from .json_text import read_json
from .model_card import ModelCard

CARD, MANIFEST = "medfm-card.json", "medfm-manifest.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
log = logging.getLogger(__name__)


def models_root() -> Path:
    """Return the folder of installed models, existing or not."""
    return paths.data() / "models"


def adapters_root() -> Path:
    """Return the folder of installed adapters, existing or not."""
    return paths.data() / "adapters"


def folder_name(name: str) -> str:
    """Return the folder name of a model or adapter: "org--name" for "org/name".

    Raises:
        InputError: if it isn't a name, or `org/name`, of letters, digits, dots, dashes and underscores.
    """
    if not NAME.fullmatch(name) or ".." in name or "--" in name.partition("/")[0]:
        raise InputError(f"'{name}' is not a valid name; use letters, digits, dots, dashes and underscores.")
    return name.replace("/", "--")


def model_folder(model: str) -> Path | None:
    """Return the folder of an installed model, or None."""
    return _folder(models_root(), model, CARD)


def adapter_folder(adapter: str) -> Path | None:
    """Return the folder of an installed adapter, or None."""
    return _folder(adapters_root(), adapter, "adapter_config.json")


def _folder(root: Path, name: str, needed: str) -> Path | None:
    if not NAME.fullmatch(name):
        return None
    folder = root / name.replace("/", "--")
    return folder if (folder / needed).is_file() else None


def cards() -> list[ModelCard]:
    """Return the cards of the installed models; a damaged one is skipped and logged, so that it affects no other."""
    found = []
    for path in sorted(models_root().glob(f"[!.]*/{CARD}")):
        try:
            found.append(ModelCard.from_json(path))
        except ModelError as error:
            log.warning("%s", error)
    return found


def adapters() -> dict[str, dict[str, Any]]:
    """Return a mapping from name to adapter_config of the installed adapters; a damaged one is skipped."""
    found = {}
    for path in sorted(adapters_root().glob("[!.]*/adapter_config.json")):
        try:
            content = read_json(path.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(content, dict):
            found[path.parent.name.replace("--", "/", 1)] = content
    return found


def manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of an installed folder, which states its origin; {} if there is none."""
    try:
        content = read_json((folder / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}

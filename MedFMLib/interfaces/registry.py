"""Find the available tasks, architectures and model cards by listing their folders.

A new task or architecture is one file, new weights are one JSON file; there is no second list to edit.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from ..core.request import DEFAULT_MODEL
from ..errors import InputError, ModelError
from ..storage import installed_models, resources
from ..storage.json_text import read_json
from ..storage.model_card import ModelCard
from .family import FamilyTraits
from .task import Task

log = logging.getLogger(__name__)

TASK_FIELDS = ("name", "needs", "title", "summary", "button", "tab", "options", "check", "run")
FAMILY_FIELDS = ("MODEL_TYPES", "TRAITS", "load", "card_for_folder")
"""What an extension's task or family must have, see `interfaces.task.Task` and `interfaces.family.Family`."""

EXTENSIONS = "MEDFM_EXTENSIONS"
"""Environment variable with folders of further families, tasks and cards."""


@lru_cache(maxsize=1)
def tasks() -> dict[str, Task]:
    """Return every task by name."""
    modules = _modules("tasks", TASK_FIELDS, "TASK").values()
    return {module.TASK.name: module.TASK for module in modules}


def task(name: str) -> Task:
    """Return the task of that name.

    Raises:
        InputError: if there is none.
    """
    if name not in tasks():
        raise InputError(f"There is no task '{name}'; choose one of {', '.join(sorted(tasks()))}.")
    return tasks()[name]


@lru_cache(maxsize=1)
def architectures() -> dict[str, ModuleType]:
    """Return every architecture's module by name. Importing them loads no torch; code that needs it is in subpackages."""
    return _modules("models", FAMILY_FIELDS, "MODEL_TYPES")


def architecture(name: str) -> ModuleType:
    """Return the module of MedFMLib/models that loads an architecture.

    Raises:
        ModelError: if there is none of that name.
    """
    if name not in architectures():
        raise ModelError(f"There is no architecture '{name}'; MedFM knows {', '.join(sorted(architectures()))}.")
    return architectures()[name]


def traits(card: ModelCard) -> FamilyTraits:
    """Return the facts of a card's family.

    Raises:
        ModelError: if there is no such architecture.
    """
    return architecture(card.architecture).TRAITS


def cards() -> dict[str, ModelCard]:
    """Return every model card by id, shipped and installed by the user, the embedded default first."""
    found = [ModelCard.from_json(path) for path in sorted(resources.path("zoo").glob("*.json"))]
    for folder in extension_folders():
        for path in sorted((folder / "zoo").glob("*.json")):
            try:
                found.append(ModelCard.from_json(path))
            except ModelError as error:  # a damaged one stops no other
                log.warning("%s", error)
    found.sort(key=lambda card: (card.id != DEFAULT_MODEL, card.parameters))
    known = {card.id: card for card in found}
    return known | {card.id: card for card in installed_models.cards() if card.id not in known}


def card(model: str) -> ModelCard:
    """Return the card of a model id, or a generated card for a folder with weights.

    Raises:
        ModelError: if it is neither, or the folder's architecture is unknown.
    """
    known = cards()
    if model in known:
        return known[model]
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _card_for_folder(folder.resolve())
    raise ModelError(
        f"There is no model '{model}'; choose one of {', '.join(known)}, or give the path of a model folder."
    )


def page(card: ModelCard) -> str:
    """Return the full model card in Markdown: its README.md, or else a page generated from the short card."""
    folder = installed_models.model_folder(card.id) or Path(card.id).expanduser()
    folder = resources.path(*card.weights.split("/")) if card.weights else folder
    if (folder / "README.md").is_file():
        return (folder / "README.md").read_text(encoding="utf-8")
    scores = "; ".join(f"{s.benchmark} {s.value:g} ({s.metric}; {s.source})" for s in card.scores)
    rows = {"Summary": card.summary, "Shown to it": card.recipe, "Licence": card.licence, "Gate": card.gate,
            "Not for": card.not_for, "Data": card.data, "Published scores": scores, "Citation": card.citation}  # fmt: skip
    return "\n\n".join([f"# {card.title}", *(f"**{name}:** {text}" for name, text in rows.items() if text)])


def _card_for_folder(folder: Path) -> ModelCard:
    own = folder / "medfm-card.json"
    if own.is_file():
        # the weights of this folder, not those that it was exported from
        return replace(ModelCard.from_json(own), id=str(folder), weights="")
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(
            f"The folder '{folder.name}' has no config.json, so it contains no model; choose the folder that has one."
        )
    try:
        content = read_json(config.read_bytes())
    except ValueError as error:
        raise ModelError(f"The config.json in '{folder.name}' is damaged ({error}); copy the model again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"The config.json in '{folder.name}' is no JSON object; copy the model again.")
    kind = str(content.get("model_type", ""))
    for module in architectures().values():
        if kind not in module.MODEL_TYPES:
            continue
        try:
            return module.card_for_folder(folder, content)
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError) as error:
            raise ModelError(
                f"The config.json in '{folder.name}' has a value of another type than its architecture needs ({error}); copy the "
                "model again."
            ) from error
    raise ModelError(
        f"The folder '{folder.name}' contains a model of type '{kind}', which MedFM does not know; "
        "choose a model of another family."
    )


def _modules(package: str, needed: tuple[str, ...], marker: str) -> dict[str, ModuleType]:
    """Import the modules of a package of MedFMLib that have `marker`, extension folders included; returns name → module.

    They are found and imported by name, so that this package depends on none of them. A file in an extension folder
    becomes a module of the same package, with the same relative imports as one that ships. A file of the user's that can't
    be used is left out and logged, so that it stops no other.
    """
    parent = importlib.import_module(f"{__package__.rpartition('.')[0]}.{package}")
    shipped = {info.name for info in pkgutil.iter_modules(parent.__path__[:1])}
    found = {
        name: importlib.import_module(f"{parent.__name__}.{name}") for name in sorted(shipped) if name != "__main__"
    }
    for folder in extension_folders():
        if (path := str(folder / package)) not in parent.__path__:
            parent.__path__.append(path)
        for info in pkgutil.iter_modules([path]):
            file = folder / package / f"{info.name}.py"
            if info.name in found:
                log.warning("%s is left out: a file of that name is there already; give it another name.", file)
                continue
            try:
                module = importlib.import_module(f"{parent.__name__}.{info.name}")
                described = getattr(module, marker) if marker == "TASK" else module
                lacking = [name for name in needed if not hasattr(described, name)]
            except Exception as error:  # whatever a file of the user's does
                log.warning("%s is left out (%s: %s); correct or remove it.", file, type(error).__name__, error)
                continue
            if lacking:
                log.warning("%s is left out: it lacks %s; see docs/extending.", file, ", ".join(lacking))
                continue
            found[info.name] = module
    return {name: module for name, module in found.items() if hasattr(module, marker)}


def extension_folders() -> list[Path]:
    """Return the folders that MEDFM_EXTENSIONS names, each with `models/`, `tasks/` and `zoo/` of the user's own.

    Their Python files are run: name only folders whose content you trust. What is no folder is left out and logged.
    """
    return [Path(folder) for folder in _folders(os.environ.get(EXTENSIONS, ""))]


@lru_cache(maxsize=4)
def _folders(text: str) -> tuple[str, ...]:
    """Return the folders of a value of MEDFM_EXTENSIONS; cached, so that what is wrong is logged once."""
    folders = [Path(folder).expanduser() for folder in text.split(os.pathsep) if folder]
    for folder in folders:
        if not folder.is_dir():
            log.warning("%s names '%s', which is no folder; correct or unset it.", EXTENSIONS, folder)
    return tuple(str(folder) for folder in folders if folder.is_dir())

"""What is there: tasks, architectures and model cards, found by looking into their folders.

A new task or architecture is one file, new weights are one JSON file; nothing is listed twice.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from ..core.request import DEFAULT_MODEL
from ..errors import InputError, ModelError
from ..storage import installed_models, resources
from .model import ModelCard
from .task import Task


@lru_cache(maxsize=1)
def tasks() -> dict[str, Task]:
    """Every task by name."""
    from .. import tasks as package

    found = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        if hasattr(module, "TASK"):
            found[module.TASK.name] = module.TASK
    return found


def task(name: str) -> Task:
    """The task of that name.

    Raises:
        InputError: if there is none.
    """
    if name not in tasks():
        raise InputError(f"There is no task '{name}'; choose one of {', '.join(sorted(tasks()))}.")
    return tasks()[name]


@lru_cache(maxsize=1)
def architectures() -> dict[str, ModuleType]:
    """Every architecture's module by name; importing them loads no torch (what needs it lies in their subpackages)."""
    from .. import models as package

    modules = {
        info.name: importlib.import_module(f"{package.__name__}.{info.name}")
        for info in pkgutil.iter_modules(package.__path__)
        if not info.ispkg
    }
    return {name: module for name, module in modules.items() if hasattr(module, "MODEL_TYPES")}


def architecture(name: str) -> ModuleType:
    """The module of MedFMLib/models that loads an architecture.

    Raises:
        ModelError: if there is none of that name.
    """
    if name not in architectures():
        raise ModelError(f"There is no architecture '{name}'; MedFM knows {', '.join(sorted(architectures()))}.")
    return architectures()[name]


def cards() -> dict[str, ModelCard]:
    """Every model card of the zoo and of the person's own models by id, the embedded default first."""
    found = [ModelCard.from_json(path) for path in sorted(resources.path("zoo").glob("*.json"))]
    found.sort(key=lambda card: (card.id != DEFAULT_MODEL, card.parameters))
    known = {card.id: card for card in found}
    return known | {card.id: card for card in installed_models.cards() if card.id not in known}


def card(model: str) -> ModelCard:
    """The card of a model id, or one made for a folder with weights.

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
    """The model's whole card in Markdown: its README.md, or else what the short card says."""
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
        return replace(
            ModelCard.from_json(own), id=str(folder), weights=""
        )  # what lies here, not what it was exported from
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(
            f"The folder '{folder.name}' has no config.json, so it holds no model; choose the folder that does."
        )
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"The config.json in '{folder.name}' is damaged ({error}); copy the model again.") from error
    kind = str(content.get("model_type", ""))
    for module in architectures().values():
        if kind in module.MODEL_TYPES:
            return module.card_for_folder(folder, content)
    raise ModelError(f"The folder '{folder.name}' holds a model of type '{kind}', which MedFM does not know.")

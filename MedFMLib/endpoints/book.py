"""Add, list and remove the user's endpoints. Each is a model card in the model folder, so it is listed like any model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import InputError, ModelError
from ..interfaces import registry
from ..storage import installed_models, user_settings
from ..storage.model_card import AUTOMATIC, ModelCard
from . import egress, keys
from .settings import Endpoint

ARCHITECTURE = "openai_api"
PICTURE_SIDE = 896


def cards() -> dict[str, ModelCard]:
    """Return every endpoint by name."""
    return {name: card for name, card in registry.cards().items() if card.endpoint}


def card(name: str) -> ModelCard:
    """Return the card of an endpoint.

    Raises:
        ModelError: if there is none of that name.
    """
    known = cards()
    if name not in known:
        there = f"the endpoints are {', '.join(known)}" if known else "there is none yet"
        raise ModelError(
            f"There is no endpoint '{name}'; {there}: add one with `medfm endpoints add NAME URL --model ID`."
        )
    return known[name]


def make(name: str, endpoint: Endpoint, adapters: tuple[str, ...] = (), picture_side: int = PICTURE_SIDE) -> ModelCard:
    """Return a card for an endpoint.

    Args:
        name: its name.
        endpoint: its settings.
        adapters: names of models there that are adapters of it.
        picture_side: side length in pixels of a single picture, 64…4096.

    Raises:
        InputError: if the side length is out of range.
    """
    if not 64 <= picture_side <= 4096:
        raise InputError(f"Pictures may be 64 to 4096 pixels wide, not {picture_side}.")
    return ModelCard(
        id=name,
        title=f"{name} ({endpoint.model})",
        architecture=ARCHITECTURE,
        summary=f"Runs at {endpoint.host}; MedFM knows nothing of its quality.",
        licence="that of the model there",
        parameters=0,
        image_size=picture_side,
        abilities=("writes",),
        precisions=("as served",),
        adapters=adapters,
        default_adapter=AUTOMATIC if adapters else "",
        recipe=f"Up to {endpoint.max_pictures} uniform slices, numbered, half as wide as one slice alone.",
        endpoint=endpoint.as_json(),
    )


def add(name: str, endpoint: Endpoint, adapters: tuple[str, ...] = (), picture_side: int = PICTURE_SIDE,
        again: bool = False) -> ModelCard:  # fmt: skip
    """Store an endpoint and return its card.

    Args:
        name: of letters, digits, dots, dashes and underscores.
        endpoint: its settings.
        adapters: names of models there that are adapters of it.
        picture_side: side length in pixels of a single picture, 64…4096.
        again: replace an existing one of that name.

    Raises:
        InputError: if the name is taken or invalid.
        OutputError: if the card can't be written.
    """
    if "/" in name:
        raise InputError(f"'{name}' is not a valid name of an endpoint; omit the slash.")
    installed_models.folder_name(name)
    known = registry.cards()
    if name in known and not (again and known[name].endpoint):
        hint = "give --again to replace it" if known[name].endpoint else "choose another name"
        raise InputError(f"There is a model '{name}' already; {hint}.")
    same = [other for other in cards() if other != name and keys.variable(other) == keys.variable(name)]
    if same:  # otherwise one key would be sent to both
        raise InputError(f"'{name}' and '{same[0]}' would have the same variable for their keys; choose another name.")
    made = make(name, endpoint, adapters, picture_side)
    save(made)
    return made


def save(made: ModelCard) -> None:
    """Write a card.

    Raises:
        OutputError: if it can't be written.
    """
    user_settings.write(
        installed_models.models_root() / installed_models.folder_name(made.id) / installed_models.CARD,
        made.as_json(),
        "The endpoint",
    )


def store_found(made: ModelCard, found: dict[str, Any]) -> ModelCard:
    """Return the card with the results of a test; also write it if it belongs to a stored endpoint.

    Args:
        made: the card.
        found: the result of `probe`.
    """
    changed = replace(made, endpoint=made.endpoint | {"found": found})
    if made.id in cards():
        save(changed)
    return changed


def remove(name: str) -> None:
    """Delete an endpoint, its key in the keyring, and the consent to it.

    Raises:
        ModelError: if there is none of that name.
        OutputError: if it can't be deleted.
    """
    gone = card(name)
    keys.delete(gone)
    egress.revoke(gone)
    folder = installed_models.models_root() / installed_models.folder_name(name)
    try:
        (folder / installed_models.CARD).unlink()
        folder.rmdir()
    except FileNotFoundError:
        pass
    except OSError as error:
        from ..errors import OutputError

        raise OutputError(f"The endpoint '{name}' can't be deleted ({error}); close what uses it.") from error

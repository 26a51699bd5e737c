"""Store which models' terms the user accepted on this machine, in one small settings file. Knows no model.

Gated models may be used only after their provider's terms were accepted. The user does this once on
each machine, so it is stored with the user's other settings and never in a scene that is shared. The accepted
text is the card's gate: if a new card words it differently, the user is asked again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ..errors import ModelError
from . import paths, user_settings
from .model_card import ModelCard


def file() -> Path:
    """Return the settings file with the acceptances."""
    return paths.settings() / "accepted.json"


def accepted(card: ModelCard) -> bool:
    """Return whether the model may be loaded here: its gate was accepted, it has none, or it is the user's own folder."""
    if not card.gate or Path(card.id).is_dir():
        return True
    return _stored().get(card.id, {}).get("gate") == card.gate


def accept(card: ModelCard) -> None:
    """Record that the user accepted the gate.

    Raises:
        OutputError: if it can't be saved.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    _store(_stored() | {card.id: {"gate": card.gate, "licence": card.licence, "when": now}})


def revoke(card: ModelCard) -> None:
    """Remove an acceptance, if there is one.

    Raises:
        OutputError: if it can't be saved.
    """
    known = _stored()
    if known.pop(card.id, None) is not None:
        _store(known)


def check(card: ModelCard) -> None:
    """Check that the model's terms were accepted.

    Raises:
        ModelError: if they were not.
    """
    if not accepted(card):
        raise ModelError(
            f"{card.title} is gated and its terms ({card.licence}) were not accepted on this machine; "
            f"read and accept them with `medfm models accept {card.id}`."
        )


def _stored() -> dict[str, dict]:
    """Return a mapping from card id to acceptance; {} if the file is missing or damaged, so that the user is asked again."""
    return {key: value for key, value in user_settings.read(file()).items() if isinstance(value, dict)}


def _store(content: dict[str, dict]) -> None:
    user_settings.write(file(), content, "The acceptance")

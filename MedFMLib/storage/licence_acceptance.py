"""Which models' terms a person accepted on this machine. Knows one small file of the user's, and no model.

Gated models may be used only after their maker's terms were accepted. That is a person's own step, taken once on
each machine, so it is remembered beside the user's other settings and never in a scene that others open. What was
accepted is the gate as the card words it: if a new card words it differently, it is asked again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from ..errors import ModelError
from ..interfaces.model import ModelCard
from . import paths, user_settings


def file() -> Path:
    """Where it is remembered: in the person's folder for settings."""
    return paths.settings() / "accepted.json"


def accepted(card: ModelCard) -> bool:
    """May the model be loaded here? Always if it has no gate, or is a folder of the person's own."""
    if not card.gate or Path(card.id).is_dir():
        return True
    return _stored().get(card.id, {}).get("gate") == card.gate


def accept(card: ModelCard) -> None:
    """Remember that a person accepted the gate.

    Raises:
        OutputError: if it can't be written down.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    _store(_stored() | {card.id: {"gate": card.gate, "licence": card.licence, "when": now}})


def revoke(card: ModelCard) -> None:
    """Take an acceptance back; nothing happens if there is none.

    Raises:
        OutputError: if it can't be written down.
    """
    known = _stored()
    if known.pop(card.id, None) is not None:
        _store(known)


def check(card: ModelCard) -> None:
    """Let a model pass whose terms were accepted.

    Raises:
        ModelError: if they were not.
    """
    if not accepted(card):
        raise ModelError(
            f"{card.title} is gated and its terms ({card.licence}) were not accepted on this machine; "
            f"read and accept them with `medfm models accept {card.id}`."
        )


def _stored() -> dict[str, dict]:
    """card id → what was accepted; nothing if the file is missing or damaged, so that it is asked again."""
    return {key: value for key, value in user_settings.read(file()).items() if isinstance(value, dict)}


def _store(content: dict[str, dict]) -> None:
    user_settings.write(file(), content, "The acceptance")

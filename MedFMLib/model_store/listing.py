"""What lists of models say, in the panel and in the command: what fits this machine, what is here, what is gated."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..endpoints import egress
from ..endpoints.settings import Endpoint
from ..environment import hardware
from ..errors import ModelError
from ..interfaces import registry
from ..interfaces.model import ModelCard
from ..storage import licence_acceptance
from .files import gigabytes


def facts(card: ModelCard) -> dict[str, Any]:
    """The card and what this machine makes of it."""
    weights = {precision: hardware.weight_bytes(card, precision) for precision in card.precisions}
    return (
        asdict(card)
        | {
            "weight_bytes": weights,
            "fits": hardware.best_precision(card, hardware.free_memory()),
            "downloaded": hardware.is_here(card),
            "gated": bool(card.gate),
            "accepted": licence_acceptance.accepted(card),
            "loadable": card.architecture in registry.architectures(),
        }
        | _of_endpoint(card)
    )


def _of_endpoint(card: ModelCard) -> dict[str, Any]:
    """Where a model runs that runs elsewhere, and whether it may be sent anything."""
    try:
        return {"host": Endpoint.of(card).host if card.endpoint else "", "allowed": not egress.needed(card)}
    except ModelError:  # a damaged card; asking it says what is wrong
        return {"host": "?", "allowed": False}


def matches(card: ModelCard, search: str, modality: str = "") -> bool:
    """Has a card all words of a search, and is it for a modality, or for any?"""
    text = " ".join((card.id, card.title, card.architecture, card.summary, card.licence, *card.modalities)).casefold()
    of_modality = not modality or not card.modalities or modality in card.modalities
    return of_modality and all(word in text for word in search.casefold().split())


def size(count: int | None) -> str:
    """Bytes in words."""
    return "?" if count is None else gigabytes(count)


def parameters(count: int) -> str:
    """A number of parameters in words; "" if unknown."""
    return f"{count / 1e9:,.1f} B" if count >= 1e9 else f"{count / 1e6:,.1f} M" if count else ""


def fits(row: dict[str, Any]) -> str:
    """The best precision that fits into the free memory, with its size."""
    if row["endpoint"]:
        return "runs elsewhere"
    if row["fits"]:
        return f"{row['fits']}, {size(row['weight_bytes'][row['fits']])}"
    return "not known" if None in row["weight_bytes"].values() else "no"


def state(row: dict[str, Any]) -> str:
    """Is it here, gated, loadable? Of an endpoint: where, and was it allowed?"""
    if row["endpoint"]:
        return f"at {row['host']}" + ("" if row["allowed"] else "; not allowed yet")
    words = ["here" if row["downloaded"] else "not downloaded"]
    if row["gated"]:
        words.append("gated, accepted" if row["accepted"] else "gated")
    if not row["loadable"]:
        words.append(f"MedFM can't load {row['architecture']} yet")
    return "; ".join(words)

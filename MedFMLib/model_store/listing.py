"""Prepare lists of models for the panel and the command line: what fits this machine, is installed, or is gated."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from .. import hardware
from ..endpoints import egress
from ..endpoints.settings import Endpoint
from ..errors import ModelError
from ..interfaces import registry
from ..models.runtime import estimates
from ..storage import licence_acceptance
from ..storage.model_card import ModelCard
from .files import gigabytes


def facts(card: ModelCard) -> dict[str, Any]:
    """Return the card's fields, and the model's state on this machine."""
    weights = {precision: estimates.weight_bytes(card, precision) for precision in card.precisions}
    return (
        asdict(card)
        | {
            "weight_bytes": weights,
            "fits": estimates.fitting_precision(card, hardware.free_memory()),
            "downloaded": estimates.is_here(card),
            "gated": bool(card.gate),
            "accepted": licence_acceptance.accepted(card),
            "loadable": card.architecture in registry.architectures(),
        }
        | _of_endpoint(card)
    )


def _of_endpoint(card: ModelCard) -> dict[str, Any]:
    """Return the host of an endpoint's model, and whether data may be sent to it."""
    try:
        return {"host": Endpoint.of(card).host if card.endpoint else "", "allowed": not egress.needed(card)}
    except ModelError:  # a damaged card; using the model reports the cause
        return {"host": "?", "allowed": False}


def matches(card: ModelCard, search: str, modality: str = "") -> bool:
    """Return whether a card contains all words of a search, and is for a modality, or for any.

    Args:
        card: of the model.
        search: words, in any order and case.
        modality: e.g. "CT"; "" for all.
    """
    text = " ".join((card.id, card.title, card.architecture, card.summary, card.licence, *card.modalities)).casefold()
    of_modality = not modality or not card.modalities or modality in card.modalities
    return of_modality and all(word in text for word in search.casefold().split())


def size(count: int | None) -> str:
    """Return a number of bytes as text."""
    return "?" if count is None else gigabytes(count)


def parameters(count: int) -> str:
    """Return a number of parameters as text; "" if unknown."""
    return f"{count / 1e9:,.1f} B" if count >= 1e9 else f"{count / 1e6:,.1f} M" if count else ""


def fits(row: dict[str, Any]) -> str:
    """Return the best precision that fits into the free memory, with its size."""
    if row["endpoint"]:
        return "runs elsewhere"
    if row["fits"]:
        return f"{row['fits']}, {size(row['weight_bytes'][row['fits']])}"
    return "not known" if None in row["weight_bytes"].values() else "no"


def state(row: dict[str, Any]) -> str:
    """Return the state of a model as text: installed, gated, loadable.

    For an endpoint its host, and whether it is permitted.
    """
    if row["endpoint"]:
        return f"at {row['host']}" + ("" if row["allowed"] else "; not allowed yet")
    words = ["here" if row["downloaded"] else "not downloaded"]
    if row["gated"]:
        words.append("gated, accepted" if row["accepted"] else "gated")
    if not row["loadable"]:
        words.append(f"MedFM can't load {row['architecture']} yet")
    return "; ".join(words)

"""What of the zoo this machine can hold: free memory, sizes of weights without torch, and what was downloaded.

The sizes here are quick estimates for lists of many models; `parts.sizes` counts one model exactly. An estimate
takes every weight for one of a linear layer, except the embeddings, which stay dense; it lies within 2% of the count.
"""

from __future__ import annotations

import json
from pathlib import Path

from . import resources
from .model import ModelCard
from .models.parts.sizes import BYTES, linear_bytes

FROM_BEST = ("bf16", "fp16", "fp32", "int8", "nf4")
"""Precisions, that of the published weights first; fp32 adds nothing to it."""


def free_memory() -> int:
    """Bytes of main memory that programs can still take; 0 if unknown."""
    try:
        import psutil
    except ImportError:
        return 0
    return int(psutil.virtual_memory().available)


def config_folder(card: ModelCard) -> Path | None:
    """Where the model's config.json lies: among the resources, in its own folder or in the hub's cache."""
    if card.config:
        return resources.path(*card.config.split("/"))
    root = resources.path(*card.weights.split("/")) if card.weights else Path(card.id)
    for folder in (root / "base", root, _hub_folder(card)):
        if folder is not None and (folder / "config.json").is_file():
            return folder
    return None


def is_here(card: ModelCard) -> bool:
    """Are the model's weights on this machine?"""
    if card.weights or Path(card.id).is_dir():
        return True
    folder = _hub_folder(card)
    return folder is not None and any(folder.glob("*.safetensors"))


def weight_bytes(card: ModelCard, precision: str) -> int | None:
    """Roughly how many bytes the weights take; None if it can't be said without the model's config.json."""
    if precision in BYTES:
        return card.parameters * BYTES[precision] or None
    embedded = _embedded(card)
    if not embedded or not card.parameters:
        return None
    values, width = embedded
    rest = max(card.parameters - values, 0)
    return linear_bytes(rest, rest // width, precision) + values * BYTES["bf16"]


def best_precision(card: ModelCard, free: int) -> str:
    """The best of the card's precisions whose weights fit into so many bytes; "" if none does."""
    for precision in FROM_BEST:
        size = weight_bytes(card, precision) if precision in card.precisions else None
        if size is not None and size <= free:
            return precision
    return ""


def _embedded(card: ModelCard) -> tuple[int, int] | None:
    """(weights of the text embedding and of an output head of its own, width of the text model)."""
    folder = config_folder(card)
    if folder is None:
        return None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    vocabulary = text.get("vocab_size", config.get("vocab_size", 0))
    width = text.get("hidden_size", config.get("hidden_size", 0))
    if not vocabulary or not width:
        return None
    tied = config.get("tie_word_embeddings", "gemma" in text.get("model_type", ""))
    return vocabulary * width * (1 if tied else 2), width


def _hub_folder(card: ModelCard) -> Path | None:
    """The downloaded snapshot, if there is one; nothing is fetched."""
    if card.weights or card.id.count("/") != 1:
        return None
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(card.id, "config.json", revision=card.revision or None)
    except (ImportError, ValueError):
        return None
    return Path(found).parent if isinstance(found, str) else None

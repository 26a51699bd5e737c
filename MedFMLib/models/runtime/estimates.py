"""Estimate the size of models from their cards and configs, without torch, and say which are on this machine.

For lists of many models; `sizes` counts one model exactly. An estimate counts the text model's attention and feed-forward
weights, which are quantized in all families, and the embeddings, which are int8, and treats the rest as dense; it is
within 2 % of the exact count (`Testing/models/test_zoo_sizes.py`).
"""

from __future__ import annotations

from pathlib import Path

from ...interfaces import registry
from ...storage import installed_models, resources
from ...storage.json_text import read_json
from ...storage.model_card import ModelCard
from .precision import choose_precision
from .sizes import BYTES, linear_bytes

TEXT_SIZES = (
    "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size",
)  # fmt: skip
"""Fields of a config that give the size of its text model."""


def config_folder(card: ModelCard) -> Path | None:
    """Return the folder of the model's config.json (a resource, its own folder or the hub's cache), or None."""
    if card.config:
        return resources.path(*card.config.split("/"))
    root = installed_models.model_folder(card.id) or Path(card.id)
    root = resources.path(*card.weights.split("/")) if card.weights else root
    for folder in (root / "base", root, hub_folder(card)):
        if folder is not None and (folder / "config.json").is_file():
            return folder
    return None


def is_here(card: ModelCard) -> bool:
    """Return whether the model's weights are on this machine."""
    if card.weights or Path(card.id).is_dir() or installed_models.model_folder(card.id):
        return True
    folder = hub_folder(card)
    if folder is None or not any(folder.glob("*.safetensors")):
        return False
    try:
        index = read_json((folder / "model.safetensors.index.json").read_bytes())
        return all((folder / shard).is_file() for shard in set(index["weight_map"].values()))
    except OSError:
        return True  # one file, without an index
    except (ValueError, KeyError, AttributeError):
        return False


def weight_bytes(card: ModelCard, precision: str) -> int | None:
    """Return the approximate bytes of the weights; None if the model's config.json is needed and missing.

    Args:
        card: card of the model.
        precision: one of the card's.
    """
    if precision in BYTES:
        return card.parameters * BYTES[precision] or None
    folder = config_folder(card)
    if folder is None or not card.parameters:
        return None
    config = read_json((folder / "config.json").read_bytes())
    text = config | config.get("text_config", {})
    if any(not isinstance(text.get(name), int) for name in TEXT_SIZES):
        return None
    width, depth, inner, heads, shared, vocabulary = (text[name] for name in TEXT_SIZES)
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", registry.traits(card).tied_head))
    tables = vocabulary * width * (1 if tied else 2)
    if registry.traits(card).quantizes_vision:
        quantized = max(card.parameters - tables, 0)
    else:
        head = text.get("head_dim") or width // heads
        quantized = depth * width * (2 * head * (heads + shared) + 3 * inner)
    rest = card.parameters - quantized - tables
    return (
        linear_bytes(quantized, quantized // width, precision)
        + linear_bytes(tables, tables // width, "int8 rows")
        + rest * BYTES["bf16"]
    )


def fitting_precision(card: ModelCard, free: int) -> str:
    """Return the precision that `choose_precision` selects for weights of at most `free` bytes; "" if none fits.

    Args:
        card: card of the model.
        free: bytes.
    """

    def fits(precision: str) -> bool:
        size = weight_bytes(card, precision)
        return size is not None and size <= free

    chosen = choose_precision(card, fits=fits)
    return chosen if fits(chosen) else ""


def hub_folder(card: ModelCard) -> Path | None:
    """Return the downloaded snapshot, or None; nothing is downloaded."""
    if card.weights or card.id.count("/") != 1:
        return None
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(card.id, "config.json", revision=card.revision or None)
    except (ImportError, ValueError):
        return None
    return Path(found).parent if isinstance(found, str) else None

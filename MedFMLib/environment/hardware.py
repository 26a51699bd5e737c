"""What of the zoo this machine can hold: free memory, sizes of weights without torch, and what was downloaded.

The sizes here are quick estimates for lists of many models; `parts.sizes` counts one model exactly. An estimate
counts the text model's attention and feed-forward weights, which are quantized in all families, and the embeddings,
which are int8, and takes the rest for dense; it lies within 2% of the exact count.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..interfaces.model import ModelCard
from ..models.runtime.sizes import BYTES, linear_bytes
from ..storage import installed_models, resources

FROM_BEST = ("bf16", "fp16", "fp32", "int8", "nf4")
"""Precisions, that of the published weights first; fp32 adds nothing to it."""


TEXT_SIZES = (
    "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size",
)  # fmt: skip
"""What a config says of its text model."""

ALL_QUANTIZED = ("paligemma",)
"""Architectures whose vision tower is quantized, too."""


TIED = ("paligemma", "gemma3")
"""Architectures whose output head is the table of embeddings unless the config says otherwise."""


def free_memory() -> int:
    """Bytes of main memory that programs can still take; 0 if unknown."""
    try:
        import psutil
    except ImportError:
        return 0
    return int(psutil.virtual_memory().available)


def tune_allocator() -> bool:
    """Let this process keep what it frees, for the next array of the same size; → whether its C library can (glibc).

    A volume's arrays are tens of megabytes each. The system hands such a one out page by page, each zeroed first, and takes
    it back when it is freed: of the seconds of a segmentation a fifth to a third (docs/decisions/0012). For processes of our
    own alone, never inside Slicer; `trim_memory` gives back what is held.
    """
    libc = _glibc()
    if libc is None:
        return False
    settings = ((_MMAP_THRESHOLD, 1 << 30), (_TRIM_THRESHOLD, (1 << 31) - 1), (_TOP_PAD, 1 << 26), (_ARENA_MAX, 1))
    return all(libc.mallopt(name, value) for name, value in settings)


def return_memory() -> bool:
    """Let this process give back at once what it frees in pieces of 256 kB and more; → whether its C library can (glibc).

    Its heap keeps holes between the activations of a training otherwise, which come in other sizes each pass
    (docs/decisions/0013). The opposite of `keep_memory`, which it undoes: less memory, less speed.
    """
    libc = _glibc()
    if libc is None:
        return False
    settings = ((_MMAP_THRESHOLD, 1 << 18), (_TRIM_THRESHOLD, 1 << 17), (_TOP_PAD, 1 << 17))
    done = all(libc.mallopt(name, value) for name, value in settings)
    libc.malloc_trim(0)
    return done


def trim_memory() -> None:
    """Give the system what `keep_memory` held on to."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
"""Parameters of mallopt (malloc.h)."""


def _glibc():
    """The C library if it is glibc, else None."""
    import ctypes
    import sys

    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def config_folder(card: ModelCard) -> Path | None:
    """Where the model's config.json lies: among the resources, in its own folder or in the hub's cache."""
    if card.config:
        return resources.path(*card.config.split("/"))
    root = installed_models.model_folder(card.id) or Path(card.id)
    root = resources.path(*card.weights.split("/")) if card.weights else root
    for folder in (root / "base", root, hub_folder(card)):
        if folder is not None and (folder / "config.json").is_file():
            return folder
    return None


def is_here(card: ModelCard) -> bool:
    """Are the model's weights on this machine?"""
    if card.weights or Path(card.id).is_dir() or installed_models.model_folder(card.id):
        return True
    folder = hub_folder(card)
    if folder is None or not any(folder.glob("*.safetensors")):
        return False
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        return all((folder / shard).is_file() for shard in set(index["weight_map"].values()))
    except OSError:
        return True  # one file, without an index
    except (ValueError, KeyError, AttributeError):
        return False


def weight_bytes(card: ModelCard, precision: str) -> int | None:
    """Roughly how many bytes the weights take; None if it can't be said without the model's whole config.json."""
    if precision in BYTES:
        return card.parameters * BYTES[precision] or None
    folder = config_folder(card)
    if folder is None or not card.parameters:
        return None
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    text = config | config.get("text_config", {})
    if any(not isinstance(text.get(name), int) for name in TEXT_SIZES):
        return None
    width, depth, inner, heads, shared, vocabulary = (text[name] for name in TEXT_SIZES)
    tied = config.get("tie_word_embeddings", text.get("tie_word_embeddings", card.architecture in TIED))
    tables = vocabulary * width * (1 if tied else 2)
    if card.architecture in ALL_QUANTIZED:
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


def best_precision(card: ModelCard, free: int) -> str:
    """The best of the card's precisions whose weights fit into so many bytes; "" if none does."""
    for precision in FROM_BEST:
        size = weight_bytes(card, precision) if precision in card.precisions else None
        if size is not None and size <= free:
            return precision
    return ""


def hub_folder(card: ModelCard) -> Path | None:
    """The downloaded snapshot, if there is one; nothing is fetched."""
    if card.weights or card.id.count("/") != 1:
        return None
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(card.id, "config.json", revision=card.revision or None)
    except (ImportError, ValueError):
        return None
    return Path(found).parent if isinstance(found, str) else None

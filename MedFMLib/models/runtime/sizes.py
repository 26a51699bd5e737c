"""Compute the size of a model, layer by layer, dense and quantized, from its config alone (meta device).

What is counted for a quantized linear layer of n weights, as bitsandbytes stores it:

* nf4, double-quantized: n/2 bytes of codes, one byte per block of 64, one float32 per 256 such blocks, and a float32
  offset and two look-up tables (16 and 256 float32) per layer;
* int8, and the int8 rows of embeddings and heads: n bytes and one float32 per output row.

`precision` decides the precision of each layer; what it leaves dense stays in the dense dtype.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path

from .precision import plan

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
NF4_TABLES = 4 * (1 + 16 + 256)


@dataclass(frozen=True)
class LayerSize:
    """One group of equal layers, e.g. all `q_proj` of the text model.

    Args:
        name: path with layer numbers replaced by `*`.
        count: number of modules.
        shape: of one module's main tensor.
        parameters: number of weights in all of them.
        dense_bytes: bytes of all of them in the dense dtype.
        quantized_bytes: bytes of all of them in their precision.
        held: their precision: "nf4", "int8", "int8 rows" or "dense".
        why: the reason, in a few words.
    """

    name: str
    count: int
    shape: tuple[int, ...]
    parameters: int
    dense_bytes: int
    quantized_bytes: int
    held: str
    why: str


@dataclass(frozen=True)
class ModelSize:
    """Sizes of a whole model.

    Args:
        layers: groups of equal layers.
        dense: the dense dtype.
        quantized: the precision of quantized layers.
    """

    layers: tuple[LayerSize, ...]
    dense: str
    quantized: str

    @property
    def parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def dense_bytes(self) -> int:
        """Bytes in the dense dtype."""
        return sum(layer.dense_bytes for layer in self.layers)

    @property
    def quantized_bytes(self) -> int:
        """Bytes when quantized, constants included."""
        return sum(layer.quantized_bytes for layer in self.layers)


def linear_bytes(weights: int, rows: int, precision: str, dense: str = "bf16") -> int:
    """Return the bytes of one linear layer's weight matrix, constants included.

    Args:
        weights: number of weights.
        rows: number of output rows.
        precision: "nf4", "int8", "int8 rows", a key of `BYTES`, or "dense".
        dense: dtype for "dense".
    """
    if precision == "nf4":
        blocks = ceil(weights / 64)
        return ceil(weights / 2) + blocks + 4 * ceil(blocks / 256) + NF4_TABLES
    if precision in ("int8", "int8 rows"):
        return weights + 4 * rows
    return weights * BYTES[precision if precision in BYTES else dense]


def measure_sizes(model, precision: str = "nf4", dense: str = "bf16", skip: tuple[str, ...] = ()) -> ModelSize:
    """Return the sizes of a model on the meta device (or any other).

    Args:
        model: of an architecture's class, built under `torch.device("meta")`, weights tied.
        precision: "nf4" or "int8", see `precision.plan`; otherwise nothing is quantized.
        dense: dtype of everything that is not quantized.
        skip: paths of modules that stay dense with all their submodules.
    """
    import re

    held = plan(model, precision, skip)
    groups: dict[str, list] = {}
    seen: set[int] = set()
    for path, module in model.named_modules():
        for kind, tensor in module.named_parameters(recurse=False):
            if id(tensor) in seen:  # tied
                continue
            seen.add(id(tensor))
            how = held[path].precision if kind == "weight" else "dense"
            stored = linear_bytes(tensor.numel(), tensor.shape[0], how, dense)
            name = re.sub(r"\.\d+(?=\.|$)", ".*", f"{path}.{kind}")
            row = groups.setdefault(name, [0, tuple(tensor.shape), 0, 0, 0, how, held[path].why])
            row[0] += 1
            row[2] += tensor.numel()
            row[3] += tensor.numel() * BYTES[dense]
            row[4] += stored
    layers = tuple(LayerSize(name, *row) for name, row in groups.items())
    return ModelSize(layers, dense, precision)


def sizes_from_config(
    model_class, config_folder: Path, precision: str = "nf4", dense: str = "bf16", skip: tuple[str, ...] = ()
) -> ModelSize:
    """Return the sizes of a model built from a folder's config.json without allocating any weight.

    Args:
        model_class: of transformers.
        config_folder: with config.json.
        precision: see `measure_sizes`.
        dense: see `measure_sizes`.
        skip: see `measure_sizes`.
    """
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(config_folder, local_files_only=True, trust_remote_code=False)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        model = model_class(config)
    model.tie_weights()
    return measure_sizes(model, precision, dense, skip)

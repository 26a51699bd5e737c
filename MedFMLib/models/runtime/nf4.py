"""Dequantize NF4 tensors without bitsandbytes, whose import takes longer than a small model's answer.

Knows the file format of bitsandbytes; nothing of models. A weight of the original shape is a sequence of 4-bit indices
into `quant_map`, times one scale (`absmax`) for every `blocksize` of them; with double quantization the scales are
8-bit indices into `nested_quant_map`, times `nested_absmax` for every `nested_blocksize` of them, plus `nested_offset`
(Dettmers et al., QLoRA, NeurIPS 2023). A test checks that the result is identical to bitsandbytes', bit by bit.
"""

from __future__ import annotations

import math

import torch

from ...storage.json_text import read_json

STATE = ".quant_state.bitsandbytes__nf4"


def unpack(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state dict with float32 weights of the original shapes from one with NF4 weights.

    Raises:
        KeyError: if a tensor of a packed weight is missing.
        ValueError: if a packed weight is damaged.
    """
    plain = {}
    for name, value in tensors.items():
        if ".weight." in name:
            continue
        plain[name] = _weight(value, name, tensors) if name + STATE in tensors else value
    return plain


def _weight(packed: torch.Tensor, name: str, tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    facts = read_json(bytes(tensors[name + STATE].tolist()))
    scales = tensors[f"{name}.absmax"]
    if "nested_blocksize" in facts:
        outer = tensors[f"{name}.nested_absmax"].repeat_interleave(facts["nested_blocksize"])[: scales.numel()]
        scales = tensors[f"{name}.nested_quant_map"][scales.int()] * outer + facts["nested_offset"]
    table = tensors[f"{name}.quant_map"]
    pairs = torch.cartesian_prod(table, table)  # both numbers of every byte, the high four bits first
    values = pairs[packed.flatten().int()].flatten()[: math.prod(facts["shape"])]
    blocks, rest = divmod(values.numel(), facts["blocksize"])
    if rest or blocks != scales.numel():
        raise ValueError(f"{name} has {values.numel()} values but {scales.numel()} scales")
    return (values.view(blocks, -1) * scales[:, None]).view(facts["shape"])

"""Store tables of word embeddings, and output heads, in 8 bits with one scale per row. Knows torch; no model.

A row w becomes round(w / s) with s = max|w| / 127. Embedding a token reads one row; the head multiplies with the int8
values where torch has a kernel for it (`_weight_int8pack_mm`), otherwise with blocks of rows converted to the input's
dtype.
"""

from __future__ import annotations

import torch
from torch import nn

ROWS_AT_ONCE = 4096


def pack_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (N, K) int8 and (N,) float32 scales of (N, K) weights; a row of zeros has scale 1."""
    scale = weight.abs().amax(1).float() / 127
    scale = torch.where(scale > 0, scale, 1.0)
    packed = torch.empty(weight.shape, dtype=torch.int8)
    for start in range(0, len(weight), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        packed[some] = (weight[some].float() / scale[some, None]).round().to(torch.int8)
    return packed, scale


class Int8Embedding(nn.Module):
    """Embedding table: (...) token numbers → (..., K) in `dtype`.

    Args:
        packed: (N, K) int8 of `pack_rows`.
        scale: (N,) of `pack_rows`.
        dtype: of the result.
        factor: for families that scale their embeddings (Gemma 3: √K).
    """

    def __init__(self, packed: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype, factor: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.register_buffer("scale", scale)  # not a parameter: its dtype must not be mistaken for the model's
        self.dtype, self.factor = dtype, factor
        self.num_embeddings, self.embedding_dim = packed.shape

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the rows of the token numbers."""
        rows = nn.functional.embedding(numbers, self.weight).float() * self.scale[numbers][..., None]
        return rows.to(self.dtype) * self.factor


class Int8Head(nn.Module):
    """Output head: (..., K) → (..., N) scores in the input's dtype, without bias, as in all language models here.

    Args:
        packed: (N, K) int8 of `pack_rows`.
        scale: (N,) of `pack_rows`.
    """

    def __init__(self, packed: torch.Tensor, scale: torch.Tensor):
        super().__init__()
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.register_buffer("scale", scale)  # not a parameter: its dtype must not be mistaken for the model's
        self.out_features, self.in_features = packed.shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores of all words."""
        if x.dtype == torch.bfloat16 and x.device.type == "cpu" and not x.requires_grad:
            flat = x.reshape(-1, x.shape[-1])
            scores = torch._weight_int8pack_mm(flat, self.weight, self.scale.to(x.dtype))
            return scores.view(*x.shape[:-1], -1)
        parts = []
        for start in range(0, self.out_features, ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            parts.append(x @ self.weight[some].to(x.dtype).T * self.scale[some].to(x.dtype))
        return torch.cat(parts, -1)

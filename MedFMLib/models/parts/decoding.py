"""Reading locations and mask codes out of a model's uncertainty. Knows scores and tokens; nothing of pictures.

A small model is often unsure by a few pixels: its most likely location token is then one of many near ones, and a poor
guess. The median of its distribution over locations is the guess with the least expected error in pixels, and the code
nearest to the expected codebook vector the one with the least expected error in the mask. Both are as deterministic as
taking the most likely token, and equal to it when the model is sure.
"""

from __future__ import annotations

import torch
from transformers import LogitsProcessor


class LeastErrorDecoding(LogitsProcessor):
    """Wherever the most likely token is a location or a mask code, choose by least expected error instead.

    Args:
        first_location: number of `<loc0000>`; 1,024 tokens follow each other.
        first_code: number of `<seg000>`; as many tokens as the codebook has rows.
        codebook: (128, D) float, or None to leave mask codes alone.
    """

    def __init__(self, first_location: int, first_code: int, codebook: torch.Tensor | None = None):
        self.locations = slice(first_location, first_location + 1024)
        self.codes = slice(first_code, first_code + (0 if codebook is None else len(codebook)))
        self.codebook = codebook

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """(B, V) scores → scores with one token raised where a choice was made."""
        best = scores.argmax(dim=-1)
        chosen = best.clone()
        here = (best >= self.locations.start) & (best < self.locations.stop)
        if here.any():
            share = torch.softmax(scores[here, self.locations].float(), dim=-1)
            chosen[here] = self.locations.start + (share.cumsum(dim=-1) < 0.5).sum(dim=-1).clamp(max=1023)
        here = (best >= self.codes.start) & (best < self.codes.stop)
        if here.any():
            share = torch.softmax(scores[here, self.codes].float(), dim=-1)
            expected = share @ self.codebook.to(share)
            chosen[here] = self.codes.start + torch.cdist(expected, self.codebook.to(share)).argmin(dim=-1)
        raised = scores.clone()
        raised.scatter_(1, chosen[:, None], scores.max(dim=-1, keepdim=True).values + 1.0)
        return raised

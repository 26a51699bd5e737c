"""Masks from the vision tower and the picture itself: a small convolutional network that names every pixel.

Knows patch features, pictures and parts; nothing of text, volumes or how it is trained. The tower knows *what* is where, in
patches of 16 pixels; the picture knows *where exactly* it ends. The network brings both together in the shape of a U-Net
(Ronneberger et al., MICCAI 2015) whose lowest level is the tower. It scores every pixel against a list of parts that don't
overlap; a structure that a person asks for is a union of parts. One pass for all structures of a slice, where writing masks
as tokens takes twenty steps for each (docs/decisions/0006).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...errors import ModelError

FILES = ("mask_head.json", "mask_head.safetensors")
CHANNELS = (32, 64, 96)
"""Channels at a half, a quarter and an eighth of the picture's sampling."""

LEAST_PIXELS = 12
"""A structure with fewer pixels in a picture counts as not seen."""


class _Step(nn.Sequential):
    """3×3 convolution, batch normalisation, ReLU. `fold` takes the normalisation into the convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )

    def folded(self) -> nn.Sequential:
        """The same in inference, with one layer fewer."""
        return nn.Sequential(torch.nn.utils.fuse_conv_bn_eval(self[0].eval(), self[1].eval()), nn.ReLU(inplace=True))


class MaskNetwork(nn.Module):
    """(B, 3, S, S) normalised pixels and (B, n², width) patch features → scores of every part at every pixel.

    Args:
        width: of the tower's features. parts: number of parts. channels: see `CHANNELS`.
    """

    def __init__(self, width: int, parts: int, channels: tuple[int, int, int] = CHANNELS):
        super().__init__()
        a, b, c = channels
        self.parts = parts
        self.fine = nn.Sequential(_Step(12, a), _Step(a, a))
        self.middle = nn.Sequential(_Step(a, b, 2), _Step(b, b))
        self.coarse = nn.Sequential(_Step(b, c, 2), _Step(c, c))
        self.tower = nn.Linear(width, c)
        self.up_coarse = nn.Sequential(_Step(2 * c, c), _Step(c, c))
        self.up_middle = nn.Sequential(_Step(c + b, b), _Step(b, b))
        self.up_fine = nn.Sequential(_Step(b + a, a), _Step(a, a))
        self.score = nn.Conv2d(a, 4 * parts, 1)

    def hidden(self, pixels: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(B, channels[0], S/2, S/2): what the last layer scores."""
        pixels = nn.functional.pixel_unshuffle(pixels, 2).contiguous(memory_format=torch.channels_last)
        half = self.fine(pixels)
        quarter = self.middle(half)
        eighth = self.coarse(quarter)
        n = round(features.shape[1] ** 0.5)
        seen = self.tower(features).transpose(1, 2).reshape(len(features), -1, n, n)
        seen = nn.functional.interpolate(seen.to(eighth.dtype), size=eighth.shape[-2:])
        x = self.up_coarse(torch.cat([eighth, seen], 1))
        x = self.up_middle(torch.cat([quarter, _larger(x)], 1))
        return self.up_fine(torch.cat([half, _larger(x)], 1))

    def forward(self, pixels: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """(B, parts, S, S) scores."""
        return nn.functional.pixel_shuffle(self.score(self.hidden(pixels, features)), 2)

    def quarter_scores(self, hidden: torch.Tensor, row: int, column: int) -> torch.Tensor:
        """(B, parts, S/2, S/2) scores of the pixels [row::2, column::2] alone; training needs no more at a time."""
        chosen = slice(2 * row + column, None, 4)  # how pixel_shuffle orders channels
        return nn.functional.conv2d(hidden, self.score.weight[chosen], self.score.bias[chosen])

    def folded(self) -> MaskNetwork:
        """A copy for inference without normalisation layers."""
        import copy

        network = copy.deepcopy(self).eval()
        for name in ("fine", "middle", "coarse", "up_coarse", "up_middle", "up_fine"):
            setattr(network, name, nn.Sequential(*(step.folded() for step in getattr(network, name))))
        return network


def _larger(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(x, scale_factor=2)

"""Score every voxel of a volume for a list of parts: a small three-dimensional U-Net.

Knows tensors only; nothing of images, grids or structures (see `volume_head`). A U-Net (Çiçek et al., 3D U-Net, MICCAI
2016) that reads blocks of 2 × 2 × 2 voxels as one position with eight channels, and writes eight voxels per position
(Shi et al., sub-pixel convolution, CVPR 2016): as sharp as the voxels at an eighth of the work. Each volume is
normalized by its own statistics (Ulyanov et al., instance normalization, 2016), so that intensities need no scale.
"""

from __future__ import annotations

import torch
from torch import nn

CHANNELS = (32, 64, 96, 96)
"""Channels at half, a quarter, an eighth and a sixteenth of the voxels' sampling."""

MULTIPLE = 16
"""Every side of an input is a multiple of this, voxels."""


class _Norm(nn.BatchNorm3d):
    """Normalization by the statistics of the given volumes, also for inference; batches have one volume."""

    def __init__(self, channels: int):
        super().__init__(channels, track_running_stats=False)


class _Step(nn.Sequential):
    """3 × 3 × 3 convolution, normalization, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__(nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False), _Norm(outputs), nn.ReLU(inplace=True))


class VolumeNetwork(nn.Module):
    """Network that scores every part at every voxel.

    Its input is (1, inputs, I, J, K) float, each side a multiple of `MULTIPLE`; a guided network also gets (1, guide,
    I/2, J/2, K/2) probabilities, for example those of a coarser network, which sees more of the surroundings.

    Args:
        inputs: channels of the input.
        parts: number of parts.
        channels: see `CHANNELS`.
        guide: channels of the guide, 0 for none.
    """

    def __init__(self, inputs: int, parts: int, channels: tuple[int, int, int, int] = CHANNELS, guide: int = 0):
        super().__init__()
        a, b, c, d = channels
        self.inputs, self.parts, self.channels, self.guide = inputs, parts, tuple(channels), guide
        self.fine = nn.Sequential(_Step(8 * inputs + guide, a), _Step(a, a))
        self.middle = nn.Sequential(_Step(a, b, 2), _Step(b, b))
        self.coarse = nn.Sequential(_Step(b, c, 2), _Step(c, c))
        self.lowest = nn.Sequential(_Step(c, d, 2), _Step(d, d), _Step(d, c))
        self.up_coarse = nn.Sequential(_Step(c, c), _Step(c, b))
        self.up_middle = nn.Sequential(_Step(b, b), _Step(b, a))
        self.up_fine = nn.Sequential(_Step(a, a), _Step(a, a))
        self.score = nn.Conv3d(a, 8 * parts, 1)

    def hidden(self, volume: torch.Tensor, guide: torch.Tensor | None = None) -> torch.Tensor:
        """Return (1, channels[0], I/2, J/2, K/2), the input of the last layer.

        Args:
            volume: see the class.
            guide: see the class; None for a network without.
        """
        blocks = _blocks(volume)
        if guide is not None:
            blocks = torch.cat([blocks, guide.to(blocks.dtype)], 1)
        half = self.fine(blocks.contiguous(memory_format=torch.channels_last_3d))
        quarter = self.middle(half)
        eighth = self.coarse(quarter)
        x = self.up_coarse(eighth + _larger(self.lowest(eighth)))
        x = self.up_middle(quarter + _larger(x))
        return self.up_fine(half + _larger(x))

    def forward(self, volume: torch.Tensor, guide: torch.Tensor | None = None) -> torch.Tensor:
        """Return (1, parts, I, J, K) scores.

        Args:
            volume: see the class.
            guide: see the class; None for a network without.
        """
        scores = self.score(self.hidden(volume, guide))
        one, _, i, j, k = scores.shape
        scores = scores.reshape(one, self.parts, 2, 2, 2, i, j, k).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return scores.reshape(one, self.parts, 2 * i, 2 * j, 2 * k)

    def eighth_scores(self, hidden: torch.Tensor, i: int, j: int, k: int) -> torch.Tensor:
        """Return the (1, parts, I/2, J/2, K/2) scores of the voxels [i::2, j::2, k::2]; training needs no more.

        Args:
            hidden: result of `hidden`.
            i: 0 or 1.
            j: 0 or 1.
            k: 0 or 1.
        """
        chosen = slice(4 * i + 2 * j + k, None, 8)
        return nn.functional.conv3d(hidden, self.score.weight[chosen], self.score.bias[chosen])


def _blocks(volume: torch.Tensor) -> torch.Tensor:
    """Convert (1, C, I, J, K) to (1, 8 C, I/2, J/2, K/2)."""
    one, c, i, j, k = volume.shape
    blocks = volume.reshape(one, c, i // 2, 2, j // 2, 2, k // 2, 2).permute(0, 1, 3, 5, 7, 2, 4, 6)
    return blocks.reshape(one, 8 * c, i // 2, j // 2, k // 2)


def _larger(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(x, scale_factor=2)

"""Store the convolutions of mask networks in eight bits: one scale for each output channel, everything else in float16."""

from __future__ import annotations

import torch
from torch import nn

SCALE = "_scale"


def packed(network: nn.Module, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return a network's tensors for a file.

    Args:
        network: with convolutions of two or three dimensions.
        prefix: of the tensors' names.
    """
    tensors = {}
    for name, value in network.state_dict().items():
        value = value.detach().float().cpu()
        if value.ndim >= 4:
            scale = value.abs().flatten(1).amax(1).clamp(min=1e-8) / 127
            eighths = value / scale.view(-1, *[1] * (value.ndim - 1))
            tensors[prefix + name] = eighths.round().to(torch.int8).contiguous()
            tensors[prefix + name + SCALE] = scale
        else:
            tensors[prefix + name] = value.half().contiguous()
    return tensors


def unpacked(network: nn.Module, stored: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    """Return a state for a network from what `packed` returned, or from plain float tensors.

    Args:
        network: for the names.
        stored: tensors of a file.
        prefix: of the tensors' names.

    Raises:
        KeyError: for a missing tensor.
    """
    state = {}
    for name in network.state_dict():
        value, scale = stored[prefix + name].float(), stored.get(prefix + name + SCALE)
        state[name] = value if scale is None else value * scale.float().view(-1, *[1] * (value.ndim - 1))
    return state

"""Compute LoRA next to the layers of `linears`, without the overhead of PEFT. Knows PEFT's layers; no model.

For one token a product with a rank of 16 takes 10 µs in float32; PEFT's code around it takes 150 µs, a third of the
time of a short answer (docs/decisions/0007). Attaching, switching and disabling remain PEFT's: the layers are its own,
with another `forward`.
"""

from __future__ import annotations

from types import MethodType

import torch

from .linears import FEW, FrozenLinear


def use(model) -> None:
    """Replace the `forward` of PEFT's LoRA layers around `FrozenLinear`s by `answer`; repeat after attaching more."""
    for module in model.modules():
        if isinstance(getattr(module, "base_layer", None), FrozenLinear) and "forward" not in vars(module):
            module.forward = MethodType(answer, module)


def answer(layer, x, *arguments, **named):
    """Return y = W x + s · B A x with each active adapter, (…, out); unusual cases are left to PEFT.

    A few rows are computed in float32, in which torch multiplies them fastest; many in x's own dtype.

    Args:
        layer: PEFT's LoRA layer.
        x: (…, in).
        arguments: further ones of PEFT's `forward`.
        named: further ones of PEFT's `forward`.
    """
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    usual = not (arguments or named or layer.merged or layer.training or layer.lora_variant)
    if not usual or any(layer.lora_B[name].bias is not None for name in names):
        return type(layer).forward(layer, x, *arguments, **named)
    if layer.disable_adapters or not names:
        return layer.base_layer(x)
    flat = x.reshape(-1, x.shape[-1])
    wide = flat.float() if len(flat) <= FEW else flat
    y = layer.base_layer(wide)
    for name in names:
        down, up = layer.lora_A[name].weight.to(wide.dtype), _turned(layer, name).to(wide.dtype)
        y = torch.addmm(y, wide @ down.t(), up, alpha=layer.scaling[name])
    return y.to(x.dtype).view(*x.shape[:-1], -1)


def _turned(layer, name: str) -> torch.Tensor:
    """Return B of an adapter as contiguous (rank, out), cached until B changes."""
    weight = layer.lora_B[name].weight
    image_cache = layer.__dict__.setdefault("_medfm_turned", {})
    mark = (weight.data_ptr(), weight._version if not weight.is_inference() else 0)
    if name not in image_cache or image_cache[name][0] != mark:
        image_cache[name] = (mark, weight.detach().t().contiguous())
    return image_cache[name][1]

"""Compute which parts of the pictures a network attended to for an answer, by attention rollout.

Recipe (Abnar & Zuidema, ACL 2020): each layer is 0.5 · attention (mean over heads) + 0.5 · identity, and the product of
all layers is the contribution of each input token to each output token. Rows are the tokens that predict the answer,
columns those of the pictures. Where the vision tower has one patch per token, its own rollout is applied first, since
it mixes the patches. It is a heuristic: an answer need not rest on what was attended to, so occlusion
(tasks/explain.py) is offered as well.
"""

from __future__ import annotations

from contextlib import contextmanager
from math import isqrt

import numpy as np
import torch

NAME = "medfm_watched"


class Rollout:
    """The attention rollout of the layers so far; layers are added as they run."""

    def __init__(self):
        self.product: torch.Tensor | None = None

    def add(self, attention: torch.Tensor) -> None:
        """Add one more layer's (N, T, T) attention, mean over heads, float32."""
        layer = 0.5 * attention + 0.5 * torch.eye(attention.shape[-1], device=attention.device)
        self.product = layer if self.product is None else layer @ self.product


_watching: dict[str, Rollout] = {}


def _attend(module, query, key, value, attention_mask, scaling=None, **options):
    """Compute attention as transformers' eager one, and add it to the rollout of its part ("text" or "vision")."""
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) if groups > 1 else x for x in (key, value))
    scores = (query @ key.transpose(2, 3)).float() * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if options.get("softcap") is not None:
        scores = torch.tanh(scores / options["softcap"]) * options["softcap"]
    if attention_mask is not None:
        scores = scores + attention_mask[..., : key.shape[2]].float()
    shares = scores.softmax(-1)
    _watching["text" if hasattr(module.config, "num_key_value_heads") else "vision"].add(shares.mean(1))
    return (shares.to(value.dtype) @ value).transpose(1, 2).contiguous(), None


@contextmanager
def _watched(model, kinds):
    """Record the attention of the parts `kinds` inside the block; restore the implementation after it."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, eager_mask)
    configs = {id(config): config for config in _configs(model, kinds)}
    before = {key: config._attn_implementation_internal for key, config in configs.items()}
    _watching.update({kind: Rollout() for kind in ("text", "vision")})
    try:
        for config in configs.values():
            config._attn_implementation_internal = NAME
        yield _watching
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]


def _configs(model, kinds):
    """Yield the configs by which attention modules of text part and vision tower choose their implementation."""
    if "text" in kinds:
        yield model.config.get_text_config()
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is None or not hasattr(config, "_attn_implementation_internal"):
            continue
        kind = "text" if hasattr(config, "num_key_value_heads") else "vision"
        if kind in kinds and (kind == "text" or hasattr(config, "patch_size")):
            yield config


def look(model, inputs: dict, start: int, pictures: int) -> list[np.ndarray]:
    """Return one (h, h) float32 map per picture, rows down: contribution of each of its tokens to the answer.

    Args:
        model: a transformers model that generates.
        inputs: tensors of one prompt with its answer.
        start: position of the answer's first token.
        pictures: number of pictures in the prompt.
    """
    core = model.get_base_model() if hasattr(model, "get_base_model") else model
    places = (inputs["input_ids"][0] == core.config.image_token_id).nonzero()[:, 0]
    count = len(places) // pictures
    side = isqrt(count)
    whole = _patches(core.config) == count
    with torch.inference_mode(), _watched(core, ("text", "vision") if whole else ("text",)) as seen:
        model(**inputs, use_cache=False, logits_to_keep=1)
        text, tower = seen["text"].product, seen["vision"].product
    rows = text[0, start - 1 : -1]  # each token predicts the next one
    held = rows.mean(0)[places].reshape(pictures, 1, count)
    if whole and tower is not None and tower.shape[-1] == count:
        held = held @ tower
    return [part.reshape(side, side).float().numpy(force=True) for part in held[:, 0, : side * side]]


def _patches(config) -> int:
    """Return the number of patches of a picture in the vision tower; 0 if the config doesn't have it."""
    vision = getattr(config, "vision_config", None)
    side, patch = getattr(vision, "image_size", 0), getattr(vision, "patch_size", 0)
    return (side // patch) ** 2 if isinstance(side, int) and side and patch else 0

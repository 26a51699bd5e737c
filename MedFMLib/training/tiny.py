"""The embedded model's shape: configuration, tokenizer, processor, and the dense head that helps its eyes to learn.

Knows torch and transformers, imported when a function is called; nothing of data. Sizes are small on purpose, and every
linear layer has a multiple of 64 inputs and of 32 outputs, which the 4-bit kernels for CPUs ask for.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .labels import PARTS


@dataclass(frozen=True)
class Shape:
    """Sizes of the model; lengths in tokens or features, `image` and `patch` in pixels."""

    image: int = 160
    patch: int = 16
    vision_width: int = 256
    vision_layers: int = 6
    vision_mlp: int = 768
    text_width: int = 192
    text_layers: int = 5
    text_mlp: int = 640
    heads: int = 4
    text_heads: int = 3
    key_value_heads: int = 1
    head_dim: int = 64
    fine: int = 4
    """The dense head answers for fine × fine cells in each patch."""

    @property
    def image_tokens(self) -> int:
        return (self.image // self.patch) ** 2

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


def vision_config(shape: Shape):
    """SigLIP's configuration at our size."""
    from transformers import SiglipVisionConfig

    return SiglipVisionConfig(
        hidden_size=shape.vision_width,
        intermediate_size=shape.vision_mlp,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.heads,
        image_size=shape.image,
        patch_size=shape.patch,
        projection_dim=shape.text_width,
        vision_use_head=False,
    )


def vision_tower(shape: Shape):
    """A SigLIP vision tower as PaliGemma makes it, with random weights."""
    from transformers import AutoModel

    return AutoModel.from_config(vision_config(shape))


def dense_head(shape: Shape):
    """Linear layer: patch feature → part scores of the fine × fine cells of the patch. Used in training only."""
    from torch import nn

    return nn.Linear(shape.vision_width, shape.fine * shape.fine * len(PARTS))


def cell_parts(parts, shape: Shape):
    """(B, S, S) part numbers → (B, patches, fine²): the part at the middle of every cell."""
    cell = shape.patch // shape.fine
    n = shape.image // shape.patch
    cells = parts[:, cell // 2 :: cell, cell // 2 :: cell]
    cells = cells.reshape(-1, n, shape.fine, n, shape.fine).transpose(2, 3)
    return cells.reshape(-1, n * n, shape.fine * shape.fine)


def normalise(pixels):
    """(B, S, S, 3) uint8 tensor → (B, 3, S, S) float32, −1…1, as `SiglipImageProcessor` does."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0

"""Define the embedded model: configuration, tokenizer, processor, and heads that are used in training only.

Depends on torch and transformers, imported when a function is called; no data. Sizes are small on purpose, and every
linear layer has a multiple of 64 inputs and of 32 outputs, as required by the 4-bit kernels for CPUs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .labels import FACT_SIZES, PARTS


@dataclass(frozen=True)
class ModelShape:
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
    """The dense head predicts fine × fine cells in each patch."""

    @property
    def image_tokens(self) -> int:
        """Number of patches of a picture."""
        return (self.image // self.patch) ** 2

    def as_dict(self) -> dict[str, int]:
        """Return names and numbers, for logs."""
        return asdict(self)


def vision_config(shape: ModelShape):
    """Return SigLIP's configuration at this model's size."""
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


def vision_tower(shape: ModelShape):
    """Return a SigLIP vision tower as in PaliGemma, with random weights."""
    from transformers import AutoModel

    return AutoModel.from_config(vision_config(shape))


def dense_head(shape: ModelShape):
    """Return a linear layer: patch feature → part scores of the fine × fine cells of the patch."""
    from torch import nn

    return nn.Linear(shape.vision_width, shape.fine * shape.fine * len(PARTS))


def fact_head(shape: ModelShape):
    """Return a linear layer: mean patch feature → scores of plane, modality and region. Used in training only."""
    from torch import nn

    return nn.Linear(shape.vision_width, sum(FACT_SIZES))


def mask_network(shape: ModelShape, parts: int = len(PARTS)):
    """Return the network that segments, with random weights.

    Args:
        shape: sizes of the model.
        parts: number of parts.
    """
    import torch

    from ...models.masks.mask_head import MaskNetwork

    return MaskNetwork(shape.vision_width, parts).to(memory_format=torch.channels_last)


def place_head(shape: ModelShape):
    """Return a linear layer: patch feature → scores of its row and of its column. Used in training only.

    The dense head needs no absolute position, so the tower discards it (measured: rows and columns could be read back
    only
    to 1.7 patches), and then a text model can't state positions.
    """
    from torch import nn

    return nn.Linear(shape.vision_width, 2 * (shape.image // shape.patch))


READING_LAYER = 3
"""Text layer after which the name of a structure in the prompt should encode the structure's position."""


def reading_head(shape: ModelShape):
    """Return a linear layer: hidden state of a requested name → seen, box, coarse mask (1 + 4 + 64).

    Used in training only.
    """
    from torch import nn

    return nn.Sequential(nn.LayerNorm(shape.text_width), nn.Linear(shape.text_width, 1 + 4 + 64))


def training_heads(shape: ModelShape):
    """Return {"dense", "reader", "place", "facts"}: heads for auxiliary losses of positions; none is shipped."""
    from torch import nn

    return nn.ModuleDict({"dense": dense_head(shape), "reader": reading_head(shape), "place": place_head(shape),
                          "facts": fact_head(shape)})  # fmt: skip


def cell_parts(parts, shape: ModelShape):
    """Convert (B, S, S) part numbers to (B, patches, fine²): the part at the centre of every cell.

    Args:
        parts: (B, S, S) part numbers.
        shape: sizes of the model.
    """
    cell = shape.patch // shape.fine
    n = shape.image // shape.patch
    cells = parts[:, cell // 2 :: cell, cell // 2 :: cell]
    cells = cells.reshape(-1, n, shape.fine, n, shape.fine).transpose(2, 3)
    return cells.reshape(-1, n * n, shape.fine * shape.fine)


def normalise(pixels):
    """Convert a (B, S, S, 3) uint8 tensor to (B, 3, S, S) float32, −1…1, as `SiglipImageProcessor` does."""
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0


def make_tokenizer(vocabulary: int = 800):
    """Return a byte-level BPE tokenizer trained on the prompts and answers, with PaliGemma's location and mask tokens.

    Args:
        vocabulary: text tokens, including bytes; special, location and mask tokens are added.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from ...models.masks.location_tokens import LOCATION_TOKENS, MASK_TOKENS
    from .questions import corpus

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary + len(special),
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([*LOCATION_TOKENS, *MASK_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def make_processor(shape: ModelShape, tokenizer=None):
    """Return PaliGemma's processor with this tokenizer and SigLIP's normalisation at this picture size.

    Args:
        shape: sizes of the model.
        tokenizer: a new one by default.
    """
    from transformers import PaliGemmaProcessor, SiglipImageProcessor

    images = SiglipImageProcessor(size={"height": shape.image, "width": shape.image})
    images.image_seq_length = shape.image_tokens
    return PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer or make_tokenizer())


def make_model(shape: ModelShape, tokenizer, codebook=None):
    """Return a PaliGemma of this size with random weights, with location and mask tokens initialised in their natural order.

    Neighbouring positions get neighbouring embeddings (random Fourier features of the position), and mask codes get
    embeddings as near to each other as their codebook vectors are; with tied embeddings the output is smooth initially,
    too.

    Args:
        shape: sizes of the model.
        tokenizer: its tokenizer.
        codebook: (128, D) of the mask codec, or None for random mask tokens.
    """
    import torch
    from transformers import GemmaConfig, PaliGemmaConfig, PaliGemmaForConditionalGeneration

    special = {
        name: tokenizer.convert_tokens_to_ids(f"<{name}>")
        for name in ("pad", "bos", "eos", "image", "loc0000", "seg000")
    }
    size = -(-len(tokenizer) // 64) * 64
    text = GemmaConfig(
        vocab_size=size,
        hidden_size=shape.text_width,
        intermediate_size=shape.text_mlp,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=shape.text_heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=1024,
        pad_token_id=special["pad"],
        bos_token_id=special["bos"],
        eos_token_id=special["eos"],
    )
    config = PaliGemmaConfig(
        vision_config=vision_config(shape),
        text_config=text,
        image_token_id=special["image"],
        projection_dim=shape.text_width,
        pad_token_id=special["pad"],
        bos_token_id=special["bos"],
        eos_token_id=special["eos"],
        tie_word_embeddings=True,
    )
    model = PaliGemmaForConditionalGeneration(config)
    model.generation_config.pad_token_id = special["pad"]
    model.generation_config.bos_token_id = special["bos"]
    model.generation_config.eos_token_id = special["eos"]
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        deviation = float(table.std())
        places = torch.linspace(0, 1, 1024)[:, None]
        frequencies = torch.exp(torch.randn(1, shape.text_width // 2) * 0.8) * 4
        phases = torch.rand(1, shape.text_width // 2) * 6.283
        waves = torch.cat([torch.cos(frequencies * places + phases), torch.sin(frequencies * places + phases)], 1)
        waves = (waves - waves.mean(0)) / waves.std()
        first = special["loc0000"]
        table[first : first + 1024] = deviation * waves
        if codebook is not None:
            spread = codebook.float() @ torch.randn(codebook.shape[1], shape.text_width)
            spread = (spread - spread.mean(0)) / spread.std()
            first = special["seg000"]
            table[first : first + len(codebook)] = deviation * (0.8 * spread + 0.6 * torch.randn_like(spread))
    return model

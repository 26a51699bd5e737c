"""Write tiny checkpoints of real classes with random weights, for tests and demonstrations. Knows no architecture.

Each family's `random_checkpoint` makes its configuration and processor; the sizes, the tokenizer and the weights that all of
them share are made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

TEXT_MODEL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
              "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 4096}  # fmt: skip
"""Sizes of a text model, by transformers' names."""

SENTENCES = ("SLICE 1", "which plane is this?", "is the liver visible? yes no", "user model")
ADAPTERS = {"first": 8, "second": -24}
"""Names and alphas of the LoRA adapters that come with a checkpoint; the second one pushes the other way."""


def byte_tokenizer(special: Sequence[str], words: int = 300, **named):
    """Return a byte-level BPE tokenizer, after seeding torch so that every checkpoint is the same.

    Args:
        special: control tokens, numbered from 0.
        words: further tokens, bytes included.
        named: tokens that have a name, such as `eos_token`.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(0)
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=words + len(special),
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False, **named)


def save(
    folder: Path, model, processor, targets: str = r".*language_model\.layers\.\d+\.self_attn\.(q|v)_proj"
) -> Path:
    """Write a model with random weights, its processor and two LoRA adapters; return the folder.

    The weights are strong enough that an answer depends on more than the last token.

    Args:
        folder: of the checkpoint, created if missing.
        model: a transformers model.
        processor: its processor; None if the caller writes its parts.
        targets: pattern of the layers that the adapters change.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "embed" not in name:
                weight.normal_(0, 0.25)
    model.eval().save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    for name, alpha in ADAPTERS.items():
        torch.manual_seed(1)
        lora = LoraConfig(r=4, lora_alpha=alpha, target_modules=targets, init_lora_weights=False)
        peft = get_peft_model(model, lora)
        peft.save_pretrained(folder / "adapters" / name)
        model = peft.unload()
    return folder

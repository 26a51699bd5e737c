"""Run LLaVA 1.5 and 1.6 (LLaVA-NeXT) with transformers' own classes: conversations about one picture.

They were trained with one picture per conversation, so a volume is asked about slice by slice. LLaVA takes a square of
its vision tower's size, LLaVA-NeXT one of twice that, which its processor cuts into tiles in addition to the whole
picture. LLaVA-Med and others that need their own code are not loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..core.view import View
from ..interfaces.family import FamilyTraits
from ..storage.model_card import ModelCard
from .generation import chat
from .runtime import model_folder
from .runtime.memory import QuestionSize
from .runtime.random_checkpoint import TEXT_MODEL, byte_tokenizer, save

MODEL_TYPES = ("llava", "llava_next")

TRAITS = FamilyTraits()


def _classes(kind: str):
    import transformers

    name = {"llava": "Llava", "llava_next": "LlavaNext"}[kind]
    return getattr(transformers, f"{name}ForConditionalGeneration"), getattr(transformers, f"{name}Processor")


def load(card: ModelCard, adapter: str, precision: str, progress) -> Llava:
    """Load base and adapter.

    Args:
        card: card of the model.
        adapter: name or folder; "" for none.
        precision: one of the card's.
        progress: receives the stages.

    Raises:
        ModelError: if files are missing or incompatible.
    """
    kind = model_folder.kind_of(card, MODEL_TYPES)
    return chat.load(Llava, card, adapter, precision, progress, *_classes(kind))


def stats(card: ModelCard, precision: str = "nf4"):
    """Return the sizes from the config alone; see `runtime.sizes`.

    Args:
        card: card of the model.
        precision: see `runtime.precision.plan`.

    Raises:
        ModelError: if there is no config on this machine.
    """
    return model_folder.sizes(card, _classes(model_folder.kind_of(card, MODEL_TYPES))[0], precision, Llava.vision)


def memory(card: ModelCard, precision: str, slices: int, **more):
    """Return the memory for a question, from the config alone; see `runtime.memory.parts`.

    Args:
        card: card of the model.
        precision: of the weights.
        slices: pictures per question.
        more: further arguments of `runtime.memory.parts`.

    Raises:
        ModelError: if there is no config on this machine.
    """

    def reads(config):
        side = config.vision_config.image_size
        patches = (side // config.vision_config.patch_size) ** 2
        tiles = max(1, round(card.image_size / side) ** 2) + 1 if config.model_type == "llava_next" else 1
        return QuestionSize(tiles * patches, patches, tiles * side**2, tiles, square_mask=False)

    model_class = _classes(model_folder.kind_of(card, MODEL_TYPES))[0]
    return model_folder.memory(card, model_class, Llava.vision, reads, precision, slices, **more)


def card_for_folder(folder: Path, config: dict[str, Any]) -> ModelCard:
    """Return a card for a folder with a LLaVA or LLaVA-NeXT model.

    Args:
        folder: folder with the weights.
        config: content of its config.json.
    """
    size = int(config.get("vision_config", {}).get("image_size", 336))
    return model_folder.card_for_folder(
        folder,
        config,
        architecture="llava",
        summary="A LLaVA model from a folder of yours; MedFM knows nothing of its quality.",
        image_size=size if config.get("model_type") == "llava" else 2 * size,
        abilities=("writes", "explains"),
    )


TEMPLATE = """{%- for turn in messages -%}
  {%- if turn['role'] == 'system' -%}{{ raise_exception('there are no system turns') }}{%- endif -%}
  {{ turn['role'].upper() + ': ' }}
  {%- for part in turn['content'] if part['type'] == 'image' -%}{{ '<image>\n' }}{%- endfor -%}
  {%- for part in turn['content'] if part['type'] == 'text' -%}{{ part['text'] + ' ' }}{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}"""
"""The chat template of random checkpoints, in the family's own format."""


def random_checkpoint(folder: Path, kind: str = "llava") -> Path:
    """Write a tiny LLaVA with random weights and return its folder.

    32 pixels, patches of 8: 16 tokens a picture; LLaVA-NeXT sees 64 pixels in four tiles and the whole picture.

    Args:
        folder: of the checkpoint.
        kind: one of `MODEL_TYPES`.
    """
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessorPil,
        LlavaNextProcessor,
        LlavaProcessor,
    )

    words = byte_tokenizer(
        ("<pad>", "<s>", "</s>", "<image>"), pad_token="<pad>", eos_token="</s>", bos_token="<s>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    parts = {
        "vision_config": CLIPVisionConfig(
            hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=32,
            patch_size=8, projection_dim=64,
        ),
        "text_config": LlamaConfig(vocab_size=len(words), pad_token_id=0, bos_token_id=1, eos_token_id=2, **TEXT_MODEL),
        "image_token_index": words.convert_tokens_to_ids("<image>"),
    }  # fmt: skip
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    settings = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1,
            "chat_template": TEMPLATE}  # fmt: skip
    if kind == "llava":
        model = LlavaForConditionalGeneration(LlavaConfig(image_seq_length=16, **parts))
        processor = LlavaProcessor(CLIPImageProcessorPil(**size), words, **settings)
    else:
        pinpoints = [[32, 64], [64, 32], [64, 64]]
        model = LlavaNextForConditionalGeneration(LlavaNextConfig(image_grid_pinpoints=pinpoints, **parts))
        processor = LlavaNextProcessor(
            LlavaNextImageProcessorPil(image_grid_pinpoints=pinpoints, **size), words, **settings
        )
    return save(folder, model, processor)


class Llava(chat.ChatModel):
    """A loaded LLaVA: `Writes`; one picture per conversation."""

    vision: ClassVar[tuple[str, ...]] = ("model.vision_tower", "model.multi_modal_projector")

    def __init__(self, card: ModelCard, model, processor, facts):
        if processor.patch_size is None:  # older folders, whose processors did not count the tokens
            tower = model.config.vision_config
            processor.patch_size = tower.patch_size
            processor.vision_feature_select_strategy = model.config.vision_feature_select_strategy
            processor.num_additional_image_tokens = int("clip" in tower.model_type)  # its class token
        super().__init__(card, model, processor, facts)

    def side(self, count: int) -> int:
        """Return the side of the picture in pixels, that of the card."""
        return self.card.image_size

    def pictures(self, views: Sequence[View]) -> list[np.ndarray]:
        """Return (H, W, 3) uint8 for each view; a picture is padded to a square, as LLaVA was trained (its expand2square).

        Its processor would cut off what lies outside of the middle square.
        """
        colour = np.rint(255 * np.asarray(self.processor.image_processor.image_mean)).astype(np.uint8)
        return [_padded(view.for_model(self.side(len(views))), colour) for view in views]

    def attention(self, views: Sequence[View], text: str, answer: str, **more: Any) -> list[np.ndarray]:
        """Implement `Explains.attention`, without the padding of pictures."""
        maps = super().attention(views, text, answer, **more)
        return [_unpadded(m, v) if v.geometry.is_picture else m for m, v in zip(maps, views, strict=True)]

    def first_turn(self, count: int, question: str) -> list[dict[str, str]]:
        """Return the first turn: the picture, then the question.

        Args:
            count: number of pictures.
            question: the question.
        """
        return [*(chat.picture() for _ in range(count)), chat.said(question)]


def _padding(height: int, width: int) -> tuple[int, int, int]:
    """Return (side of the square, rows above, columns to the left) of a padded picture."""
    side = max(height, width)
    return side, (side - height) // 2, (side - width) // 2


def _padded(picture: np.ndarray, colour: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    side, top, left = _padding(height, width)
    if height == width:
        return picture
    made = np.empty((side, side, 3), np.uint8)
    made[:] = colour
    made[top : top + height, left : left + width] = picture
    return made


def _unpadded(levels: np.ndarray, view: View) -> np.ndarray:
    """Return the part of a (h, w) map of a padded square that lies over the picture."""
    height, width = view.pixels.shape[:2]
    side, top, left = _padding(height, width)
    rows, columns = levels.shape
    first, last = int(top / side * rows), max(1, int(np.ceil((top + height) / side * rows)))
    start, stop = int(left / side * columns), max(1, int(np.ceil((left + width) / side * columns)))
    return levels[first:last, start:stop]

"""Run Gemma 3, including MedGemma 1 and 1.5: conversations about up to 85 slices at once.

CT is shown as the MedGemma 1.5 notebook does (Google-Health/medgemma, high_dimensional_ct_hugging_face.ipynb): at
most 85 uniform slices, red, green and blue being the windows −1024…1024, −135…215 and 0…80 HU (`view.CT_RANGES`),
each picture followed by the text `SLICE i`, then the question. No recipe is published for MR and others: they get the
same slices and layout, grey between volume percentiles (`view.window_for`), which is our own choice. Slices come in
the order of the volume's index axis, and a slice that is not square is padded with black, not stretched.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from ..interfaces.family import FamilyTraits
from ..storage.model_card import ModelCard
from .generation import chat
from .runtime import model_folder
from .runtime.memory import QuestionSize
from .runtime.random_checkpoint import TEXT_MODEL, byte_tokenizer, save

MODEL_TYPES = ("gemma3",)

MAX_SLICES = 85

TRAITS = FamilyTraits(tied_head=True, overflows_fp16=True, max_views=MAX_SLICES)

TOWER_BATCH = 4
"""Pictures in the vision tower at a time; all 85 together would need gigabytes of temporary memory."""


def load(card: ModelCard, adapter: str, precision: str, progress) -> Gemma3:
    """Load base and adapter.

    Args:
        card: card of the model.
        adapter: name or folder; "" for none.
        precision: one of the card's.
        progress: receives the stages.

    Raises:
        ModelError: if files are missing or incompatible.
    """
    from transformers import Gemma3ForConditionalGeneration, Gemma3Processor

    return chat.load(Gemma3, card, adapter, precision, progress, Gemma3ForConditionalGeneration, Gemma3Processor)


def stats(card: ModelCard, precision: str = "nf4"):
    """Return the sizes from the config alone; see `runtime.sizes`.

    Args:
        card: card of the model.
        precision: see `runtime.precision.plan`.

    Raises:
        ModelError: if there is no config on this machine.
    """
    from transformers import Gemma3ForConditionalGeneration

    return model_folder.sizes(card, Gemma3ForConditionalGeneration, precision, Gemma3.vision)


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
    from transformers import Gemma3ForConditionalGeneration

    def reads(config):
        side = config.vision_config.image_size
        return QuestionSize(
            config.mm_tokens_per_image, (side // config.vision_config.patch_size) ** 2, side**2, TOWER_BATCH
        )

    return model_folder.memory(card, Gemma3ForConditionalGeneration, Gemma3.vision, reads, precision, slices, **more)


def card_for_folder(folder: Path, config: dict[str, Any]) -> ModelCard:
    """Return a card for a folder with a Gemma 3 model that takes pictures.

    Args:
        folder: folder with the weights.
        config: content of its config.json.
    """
    return model_folder.card_for_folder(
        folder,
        config,
        architecture="gemma3",
        summary="A Gemma 3 or MedGemma model from a folder of yours; MedFM knows nothing of its quality.",
        image_size=int(config.get("vision_config", {}).get("image_size", 896)),
        abilities=("writes", "explains"),
    )


TEMPLATE = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
  {%- set lead = messages[0]['content'][0]['text'] + '\n\n' -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set lead = '' -%}{%- set turns = messages -%}{%- endif -%}
{%- for turn in turns -%}
  {{ '<start_of_turn>' + ('model' if turn['role'] == 'assistant' else turn['role']) + '\n' + (lead if loop.first else '') }}
  {%- for part in turn['content'] -%}
    {%- if part['type'] == 'image' -%}{{ '<start_of_image>' }}{%- else -%}{{ part['text'] | trim }}{%- endif -%}
  {%- endfor -%}
  {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""
"""The chat template of random checkpoints, in the family's own format."""


def random_checkpoint(folder: Path) -> Path:
    """Write a tiny Gemma 3 with random weights and return its folder: 32 pixels, patches of 8, 4 tokens a picture."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessorPil,
        Gemma3Processor,
        Gemma3TextConfig,
        SiglipVisionConfig,
    )

    special = ("<pad>", "<eos>", "<bos>", "<start_of_image>", "<end_of_image>", "<image_soft_token>", "<start_of_turn>",
               "<end_of_turn>")  # fmt: skip
    words = byte_tokenizer(
        special, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
        extra_special_tokens={"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>",
                              "image_token": "<image_soft_token>"},
    )  # fmt: skip
    number = words.convert_tokens_to_ids
    config = Gemma3Config(
        text_config=Gemma3TextConfig(
            vocab_size=len(words), sliding_window=64, query_pre_attn_scalar=4, pad_token_id=0,
            eos_token_id=1, bos_token_id=2, **TEXT_MODEL,
        ),
        vision_config=SiglipVisionConfig(
            hidden_size=72, intermediate_size=80, num_hidden_layers=2, num_attention_heads=2, image_size=32,
            patch_size=8, vision_use_head=False,
        ),
        mm_tokens_per_image=4, boi_token_index=number("<start_of_image>"), eoi_token_index=number("<end_of_image>"),
        image_token_index=number("<image_soft_token>"), eos_token_id=[1, number("<end_of_turn>")],
    )  # fmt: skip
    images = Gemma3ImageProcessorPil(
        size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_pan_and_scan=False
    )
    processor = Gemma3Processor(images, words, chat_template=TEMPLATE, image_seq_length=4)
    return save(folder, Gemma3ForConditionalGeneration(config), processor)


class Gemma3(chat.ChatModel):
    """A loaded Gemma 3: `Writes`; takes up to 85 slices in one question."""

    max_views = MAX_SLICES
    vision: ClassVar[tuple[str, ...]] = ("model.vision_tower",)

    def __init__(self, card: ModelCard, model, processor, facts):
        encode_in_batches(model.model.vision_tower, TOWER_BATCH)
        super().__init__(card, model, processor, facts)

    def choose_slices(self, count: int) -> list[int]:
        """Implement `ChoosesSlices.choose_slices` as the notebook does."""
        return chat.uniform(count, self.max_views)

    def side(self, count: int) -> int:
        """Return the side of a picture in pixels, that of the vision tower."""
        return int(self.processor.image_processor.size["height"])

    def first_turn(self, count: int, question: str) -> list[dict[str, str]]:
        """Return the first turn: each picture with its number, then the question.

        The question is in the last number's text, after an empty line: Gemma's template strips every text, so that
        "SLICE 8" and "5 mm…" would otherwise become one number.

        Args:
            count: number of pictures.
            question: the question.
        """
        turn = []
        for number in range(1, count + 1):
            turn += [chat.picture(), chat.said(f"SLICE {number}" + (f"\n\n{question}" if number == count else ""))]
        return turn

    def first_turn_of_pictures(self, count: int, question: str) -> list[dict[str, str]]:
        """Return the first turn about pictures: all of them, then the question, as in MedGemma's examples.

        Args:
            count: number of pictures.
            question: the question.
        """
        return [*(chat.picture() for _ in range(count)), chat.said(question)]


def encode_in_batches(tower, size: int) -> None:
    """Let a vision tower encode at most `size` pictures at a time, with the same result.

    Args:
        tower: the vision tower; its `forward` is replaced.
        size: number of pictures.
    """
    together = tower.forward

    def forward(pixel_values, **options):
        import torch

        parts = [together(pixel_values=some, **options) for some in pixel_values.split(size)]
        seen = parts[0]
        seen.last_hidden_state = torch.cat([part.last_hidden_state for part in parts])
        seen.pooler_output = None  # Gemma pools the last hidden state itself
        return seen

    tower.forward = forward

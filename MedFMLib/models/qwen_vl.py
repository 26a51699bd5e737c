"""Run Qwen2-VL, Qwen2.5-VL and Qwen3-VL (Lingshu, MedMO, QoQ-Med, MedVLM-R1): conversations about slices, and boxes.

No recipe for volumes is published, so this is our own: at most 32 uniform slices, numbered as Qwen's template numbers
pictures, 448 pixels wide each, a single slice 896. Both are within the 256…1280 × 28² pixels that QoQ-Med's authors
recommend, and no processor changes their size, so that a position in the answer is one in the view's square. The
processor is used without its video part, which needs torchvision.

Boxes are requested for one structure at a time and parsed strictly: JSON with `bbox_2d`, MedMO's `<box>[[x1, y1, x2,
y2]]</box>`, and Qwen2-VL's `(x1,y1),(x2,y2)`. Positions are pixels of the picture in Qwen2.5-VL, thousandths of it in
Qwen2-VL and Qwen3-VL. MedMO is a Qwen3-VL; its authors don't state the unit, but its examples are consistent with
thousandths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from math import ceil, isqrt, sqrt
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..core.view import SeenObject, View
from ..interfaces import registry
from ..interfaces.family import FamilyTraits
from ..interfaces.model import Callbacks
from ..storage.json_text import read_json
from ..storage.model_card import ModelCard
from .generation import chat
from .runtime import model_folder
from .runtime.memory import QuestionSize
from .runtime.random_checkpoint import TEXT_MODEL, byte_tokenizer, save

MODEL_TYPES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")

MAX_SLICES = 32

TRAITS = FamilyTraits(max_views=MAX_SLICES)
PICTURE_PIXELS, FEW_PICTURES = 1280 * 28 * 28, 4
"""Most pixels of a picture (QoQ-Med's recommendation), and of how many pictures each may have them."""

SIDE_ALONE, SIDE_AMONG_OTHERS = 896, 448
"""Pixels; multiples of 28 (Qwen2 and 2.5) and of 32 (Qwen3), so that neither processor resizes them."""

BOX_TOKENS = 160
"""Largest number of tokens of an answer about boxes: four of them in JSON."""

THOUSANDTHS = 1000


def _classes(kind: str):
    import transformers

    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[kind]
    base = getattr(transformers, f"{name}Processor")

    class PictureProcessor(base):
        """The processor without its video part; it loads the parts that its constructor names."""

        def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **options):
            super().__init__(image_processor, tokenizer, None, chat_template=chat_template)

    return getattr(transformers, f"{name}ForConditionalGeneration"), PictureProcessor


def load(card: ModelCard, adapter: str, precision: str, progress) -> QwenVL:
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
    return chat.load(QwenVL, card, adapter, precision, progress, *_classes(kind))


def stats(card: ModelCard, precision: str = "nf4"):
    """Return the sizes from the config alone; see `runtime.sizes`.

    Args:
        card: card of the model.
        precision: see `runtime.precision.plan`.

    Raises:
        ModelError: if there is no config on this machine.
    """
    return model_folder.sizes(card, _classes(model_folder.kind_of(card, MODEL_TYPES))[0], precision, QwenVL.vision)


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
        patch, merged = config.vision_config.patch_size, config.vision_config.spatial_merge_size
        side = min(card.image_size, SIDE_ALONE if slices == 1 else SIDE_AMONG_OTHERS)
        return QuestionSize((side // (patch * merged)) ** 2, (side // patch) ** 2, side**2, slices)

    model_class = _classes(model_folder.kind_of(card, MODEL_TYPES))[0]
    return model_folder.memory(card, model_class, QwenVL.vision, reads, precision, slices, **more)


def card_for_folder(folder: Path, config: dict[str, Any]) -> ModelCard:
    """Return a card for a folder with a Qwen-VL model; open vocabulary.

    Args:
        folder: folder with the weights.
        config: content of its config.json.
    """
    return model_folder.card_for_folder(
        folder,
        config,
        architecture="qwen_vl",
        summary="A Qwen-VL model from a folder of yours; MedFM knows nothing of its quality.",
        image_size=SIDE_ALONE,
        abilities=("writes", "locates", "explains"),
    )


TEMPLATE = """{%- for turn in messages -%}
  {{ '<|im_start|>' + turn['role'] + '\n' }}
  {%- for part in turn['content'] -%}
    {%- if part['type'] == 'image' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{%- else -%}{{ part['text'] }}
    {%- endif -%}
  {%- endfor -%}
  {{ '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"""
"""The chat template of random checkpoints, in the family's own format."""


def random_checkpoint(folder: Path, kind: str = "qwen2_5_vl", sections: Sequence[int] = (4, 6, 6)) -> Path:
    """Write a tiny Qwen-VL with random weights and return its folder.

    Patches of 14 pixels (Qwen3: 16), four of them to a token; 56 or 64 pixels by its card, so 4 tokens a picture.

    Args:
        folder: of the checkpoint.
        kind: one of `MODEL_TYPES`.
        sections: of the rotary position embedding, for time, height and width.
    """
    import transformers
    from transformers import Qwen2VLImageProcessorPil

    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
               "<|video_pad|>")  # fmt: skip
    words = byte_tokenizer(special, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    number = words.convert_tokens_to_ids
    patch = 16 if kind == "qwen3_vl" else 14
    vision = {"depth": 2, "num_heads": 2, "patch_size": patch, "hidden_size": TEXT_MODEL["hidden_size"]}
    vision |= {
        "qwen2_vl": {"embed_dim": 72, "mlp_ratio": 1},
        "qwen2_5_vl": {
            "hidden_size": 72, "intermediate_size": 80, "out_hidden_size": TEXT_MODEL["hidden_size"],
            "fullatt_block_indexes": [1],
        },
        "qwen3_vl": {
            "hidden_size": 72, "intermediate_size": 80, "out_hidden_size": TEXT_MODEL["hidden_size"],
            "num_position_embeddings": 16, "deepstack_visual_indexes": [0],
        },
    }[kind]  # fmt: skip
    text = {**TEXT_MODEL, "vocab_size": len(words), "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}
    if kind != "qwen3_vl":
        del text["head_dim"]
    rope = {"rope_type": "default", "mrope_section": list(sections), "rope_theta": 10000.0}
    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[kind]
    config = getattr(transformers, f"{name}Config")(
        text_config={**text, "rope_parameters": rope}, vision_config=vision,
        image_token_id=number("<|image_pad|>"), video_token_id=number("<|video_pad|>"),
        vision_start_token_id=number("<|vision_start|>"), vision_end_token_id=number("<|vision_end|>"),
    )  # fmt: skip
    images = Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2, min_pixels=28 * 28, max_pixels=512 * 512)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    save(folder, model, None)
    words.chat_template = TEMPLATE
    words.save_pretrained(folder)
    images.save_pretrained(folder)  # not the complete processor: its video part needs torchvision
    card = replace(registry.card(str(folder)), image_size=4 * patch)  # what MedFM makes of the folder, but smaller
    (folder / "medfm-card.json").write_text(json.dumps(card.as_json()), encoding="utf-8")
    return folder


class QwenVL(chat.ChatModel):
    """A loaded Qwen-VL: `Writes` and `Locates`; takes up to 32 slices in one question."""

    max_views = MAX_SLICES
    vision: ClassVar[tuple[str, ...]] = ("model.visual",)

    def choose_slices(self, count: int) -> list[int]:
        """Implement `ChoosesSlices.choose_slices` with uniform ones."""
        return chat.uniform(count, self.max_views)

    def side(self, count: int) -> int:
        """Return the side of a picture in pixels: a size that the processor does not change, at most the card's."""
        processor = self.processor.image_processor
        wanted = min(self.card.image_size, SIDE_ALONE if count == 1 else SIDE_AMONG_OTHERS)
        return fitting_side(
            wanted,
            processor.patch_size * processor.merge_size,
            processor.size["shortest_edge"],
            processor.size["longest_edge"],
        )

    def pictures(self, views: Sequence[View]) -> list[np.ndarray]:
        """Return (H, W, 3) uint8 for each view; a picture of more pixels than a question may have is shrunk."""
        most = PICTURE_PIXELS if len(views) <= FEW_PICTURES else SIDE_AMONG_OTHERS**2
        most = min(most, self.processor.image_processor.size["longest_edge"])
        return [_shrunk(view.for_model(self.side(len(views))), most) for view in views]

    def first_turn(self, count: int, question: str) -> list[dict[str, str]]:
        """Return the first turn: the pictures, numbered if there are several, then the question.

        Args:
            count: number of pictures.
            question: the question.
        """
        if count == 1:
            return [chat.picture(), chat.said(question)]
        pictures = ((chat.said(f"Picture {number}: "), chat.picture()) for number in range(1, count + 1))
        return [part for pair in pictures for part in pair] + [chat.said(question)]

    def locate(
        self, views: Sequence[View], labels: Sequence[str], *, callbacks: Callbacks = Callbacks()
    ) -> list[list[SeenObject]]:
        """Implement `Locates.locate`; one view and one structure at a time."""
        seen: list[list[SeenObject]] = [[] for _ in views]
        scale = self.side(1) if self.model.config.model_type == "qwen2_5_vl" else THOUSANDTHS
        total = len(labels) * len(views)
        for number, label in enumerate(labels):
            turns = self.conversation(1, box_question(label), pictures=chat.are_pictures(views))
            for place, view in enumerate(views):
                if view.geometry.is_picture:  # positions are read in the square, so this is what the model gets
                    view = replace(view, pixels=view.square(self.side(1)))
                answer = self._say(turns, [view], BOX_TOKENS, callbacks)
                seen[place] += [SeenObject(label, box) for box in parse_boxes(answer, label, scale)]
                callbacks.on_fraction((number * len(views) + place + 1) / total)
        return seen


def box_question(label: str) -> str:
    """Return the prompt for the boxes of a structure."""
    form = f'[{{"bbox_2d": [x1, y1, x2, y2], "label": "{label}"}}]'
    return (
        f"Locate the {label} in this image. Answer with its bounding boxes as JSON, {form}, or [] if it is not there."
    )


def object_answer(label: str, masks: bool = False) -> str:
    """Return an answer in which the model reports one structure, in the middle of the picture.

    Args:
        label: name of the structure.
        masks: this family has none; ignored.
    """
    return f'[{{"bbox_2d": [14, 14, 42, 42], "label": "{label}"}}]'


def fitting_side(wanted: int, step: int, least: int, most: int) -> int:
    """Return the side of a square in pixels: a multiple of `step`, near and below `wanted`.

    Args:
        wanted: side in pixels.
        step: the side must be a multiple of it.
        least: smallest number of pixels of the square.
        most: largest number of pixels of the square.
    """
    lowest, highest = ceil(sqrt(least) / step) * step, max(step, isqrt(most) // step * step)
    return min(max(wanted // step * step, lowest, step), highest)


BOX_TAG = re.compile(r"<box>(.*?)</box>", re.DOTALL)
FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
CORNERS = re.compile(r"\((\d+),\s*(\d+)\),\s*\((\d+),\s*(\d+)\)")


def parse_boxes(text: str, label: str, scale: float) -> list[tuple[float, float, float, float]]:
    """Return (y0, x0, y1, x1), each 0…1, of every box in an answer about one structure.

    Boxes that are not in one of the known formats, lie outside of the picture, have no area or the name of another
    structure are left out.

    Args:
        text: the answer, without control tokens.
        label: the requested structure.
        scale: position of the picture's right and lower edge.
    """
    if tags := BOX_TAG.findall(text):
        corners = [four for tag in tags for four in _json_list(tag)]
    elif pairs := CORNERS.findall(text):
        corners = [[int(number) for number in four] for four in pairs]
    else:
        fenced = FENCE.search(text)
        items = [item for item in _json_list(fenced[1] if fenced else text) if isinstance(item, dict)]
        named = (item for item in items if _same(item.get("label", label), label))
        corners = [item.get("bbox_2d") for item in named]
    boxes = []
    for four in corners:
        if isinstance(four, list) and len(four) == 4 and all(type(number) in (int, float) for number in four):
            x0, y0, x1, y1 = (number / scale for number in four)
            if 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1:
                boxes.append((y0, x0, y1, x1))
    return boxes


def _json_list(text: str) -> list:
    try:
        content = read_json(text)
    except ValueError:
        return []
    return content if isinstance(content, list) else [content]


def _same(name: object, label: str) -> bool:
    return isinstance(name, str) and " ".join(name.lower().split()) == " ".join(label.lower().split())


def _shrunk(picture: np.ndarray, most: int) -> np.ndarray:
    """Return a picture of at most so many pixels, of the same proportions."""
    height, width = picture.shape[:2]
    if height * width <= most:
        return picture
    from PIL import Image as Picture

    factor = (most / (height * width)) ** 0.5
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Picture.fromarray(picture).resize(size, Picture.Resampling.LANCZOS))

"""Make token batches from pictures with prompts and answers, the training data of the language model.

Depends on pictures, questions, the codec's encoder and the tokenizer; not on the model. The text layout is exactly that
of
`PaliGemmaProcessor` (a test compares them): image tokens, `<bos>`, prompt, newline, then the answer and `<eos>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .questions import PictureFacts, QuestionExchange, exchange_of
from .questions import scene as make_scene
from .samples import pictures, training_painter
from .synthesis import Painter, TrainingPicture

WORD_KINDS = {"modality": 0.7, "plane": 2, "body part": 1.2, "visible structures": 3, "presence": 2, "side": 5,
              "patient side": 5, "largest": 9, "counting": 4, "comparison": 5, "where": 5, "relation": 4, "asymmetry": 3,
              "skull": 1, "refusal": 3, "caption": 0.5, "describe": 0.5}  # fmt: skip
"""Kind of question → its weight in training."""

_COMMON = {
    "liver": 0.5,
    "left cerebral hemisphere": 0.6,
    "right cerebral hemisphere": 0.6,
    "spine": 0.3,
    "cerebellum": 0.3,
}
"""Largest structure → share of its questions that are skipped, so that rarer ones get more weight."""


def scene_of(picture: TrainingPicture) -> PictureFacts:
    """Return what is certain about a picture."""
    of = picture.subject
    return make_scene(
        picture.modality, picture.plane, picture.region, picture.parts, of.known, of.absent, picture.stripped
    )


class TextLayout:
    """Conversion of prompts and answers to token numbers, as in the processor.

    Args:
        tokenizer: the embedded model's.
        image_tokens: number of `<image>` tokens before the text.
    """

    def __init__(self, tokenizer, image_tokens: int):
        self.tokenizer = tokenizer
        image, bos, self.eos, self.pad = (
            tokenizer.convert_tokens_to_ids(f"<{name}>") for name in ("image", "bos", "eos", "pad")
        )
        self._head = [image] * image_tokens + [bos]

    def places(self, exchange: QuestionExchange) -> list[int]:
        """Return the positions of the last token of every requested name."""
        found, written = [], exchange.kind
        for name, _ in exchange.asked:
            written += f" {name}" if written == exchange.kind else f" ; {name}"
            found.append(len(self._head) + len(self.tokenizer.encode(written, add_special_tokens=False)) - 1)
        return found

    def encode(self, exchange: QuestionExchange) -> tuple[list[int], int]:
        """Return (token numbers, length of the prefix that is given rather than predicted)."""
        prefix = self._head + self.tokenizer.encode(exchange.prompt + "\n", add_special_tokens=False)
        answer = self.tokenizer.encode(exchange.answer, add_special_tokens=False)
        return prefix + answer + [self.eos], len(prefix)

    def batch(self, exchanges: list[QuestionExchange]) -> dict[str, np.ndarray]:
        """Return right-padded arrays of token numbers, (B, L) int64 each.

        They are `input_ids`, `attention_mask` and `token_type_ids` (0: prefix, 1: answer). For prompts that request
        structures there are
        also `row` and `place` (K,) of the last token of every requested name, and the target: `seen` (K,) float 0 or 1,
        `box` (K, 4),
        `shape` (K, 64), the mask in 8×8 cells of its box.
        """
        rows = [self.encode(e) for e in exchanges]
        length = max(len(ids) for ids, _ in rows)
        ids = np.full((len(rows), length), self.pad, np.int64)
        mask, kinds = np.zeros_like(ids), np.ones_like(ids)
        for row, (numbers, prefix) in enumerate(rows):
            ids[row, : len(numbers)] = numbers
            mask[row, : len(numbers)] = 1
            kinds[row, :prefix] = 0
        result = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}
        asked = [(row, place, seen) for row, e in enumerate(exchanges) if e.asked
                 for place, (_, seen) in zip(self.places(e), e.asked, strict=True)]  # fmt: skip
        if asked:
            nothing = np.zeros(64, np.float32)
            result |= {
                "row": np.array([row for row, _, _ in asked]),
                "place": np.array([place for _, place, _ in asked]),
                "seen": np.array([seen is not None for _, _, seen in asked], np.float32),
                "box": np.array([seen.box if seen else (0, 0, 0, 0) for _, _, seen in asked], np.float32),
                "shape": np.stack([seen.mask.reshape(8, 8, 8, 8).mean((1, 3)).ravel().astype(np.float32) if seen else nothing
                                   for _, _, seen in asked]),
            }  # fmt: skip
        return result


@dataclass(frozen=True, eq=False)
class Batch:
    """Pictures, and groups of texts of similar length about them.

    Args:
        pixels: (B, S, S, 3) uint8.
        parts: (B, S, S) uint8.
        objects: (picture numbers, texts) with boxes and masks.
        words: (picture numbers, texts) with answers in words.
    """

    pixels: np.ndarray
    parts: np.ndarray
    objects: list[tuple[np.ndarray, dict[str, np.ndarray]]]
    words: list[tuple[np.ndarray, dict[str, np.ndarray]]]


def mask_encoder(codec) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from (N, 64, 64) bool to (N, 16) codes with a loaded codec."""
    import torch

    return lambda masks: codec.encode(torch.from_numpy(masks)).numpy()


def object_exchange(scene: PictureFacts, rng: np.random.Generator, encode) -> QuestionExchange:
    """Return a `segment`, or with a chance of one in six a `detect`, exchange.

    A question in words if there is no structure.

    Args:
        scene: what is certain about the picture.
        rng: of the choice.
        encode: (N, 64, 64) bool masks → (N, 16) codes.
    """
    kind = "segment" if rng.random() < 0.83 else "detect"
    return exchange_of(scene, kind, rng, encode) or word_exchange(scene, rng)


def word_exchange(scene: PictureFacts, rng: np.random.Generator) -> QuestionExchange:
    """Return a question with an answer in words, in the proportions of training.

    Args:
        scene: what is certain about the picture.
        rng: of the choice.
    """
    kinds, shares = list(WORD_KINDS), np.array(list(WORD_KINDS.values()))
    while True:
        exchange = exchange_of(scene, str(rng.choice(kinds, p=shares / shares.sum())), rng)
        if exchange is None or (exchange.kind == "largest" and rng.random() < _COMMON.get(exchange.answer, 0.0)):
            continue
        return exchange


def exchange_batches(
    data: Path | None,
    codec_folder: Path,
    tokenizer,
    size: int,
    image_tokens: int,
    batch: int,
    seed: int,
    start: int = 0,
    painter: Painter | None = None,
    objects_share: float = 0.15,
) -> Iterator[Batch]:
    """Yield endless batches: a question in words about every picture, and masks or boxes for some.

    Args:
        data: the data folder.
        codec_folder: of the mask codec.
        tokenizer: the embedded model's.
        size: pixels per side.
        image_tokens: number of `<image>` tokens.
        batch: pictures per batch.
        seed: of the samples.
        start: number of the first sample.
        painter: replaces the training painter (for held-out pictures).
        objects_share: share of the pictures whose structures are requested.
    """
    from ...models.masks.mask_codec import MaskCodec

    encode = mask_encoder(MaskCodec.load(codec_folder))
    layout = TextLayout(tokenizer, image_tokens)
    source = pictures(painter or training_painter(data, size, head_share=0.52, zooms=0.3, crops=0.4), seed, start)
    while True:
        drawn, objects, words = [], [], []
        for number in range(batch):
            picture, rng = next(source)
            scene = scene_of(picture)
            drawn.append(picture)
            words.append(word_exchange(scene, rng))
            if number < batch * objects_share:
                objects.append(object_exchange(scene, rng, encode))
        yield Batch(
            np.stack([p.pixels for p in drawn]),
            np.stack([p.parts for p in drawn]),
            _grouped(layout, objects, list(range(len(objects))), 2),
            _grouped(layout, words, list(range(batch)), 2),
        )


def _grouped(layout: TextLayout, exchanges: list[QuestionExchange], numbers: list[int], groups: int) -> list:
    """Group shorter and longer texts, so that little is computed for padding."""
    order = np.argsort([len(e.answer) + len(e.prompt) for e in exchanges], kind="stable")
    return [
        (np.array([numbers[i] for i in some]), layout.batch([exchanges[i] for i in some]))
        for some in np.array_split(order, groups)
        if len(some)
    ]

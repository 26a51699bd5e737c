"""Run a model that is still in training, or a bare one, on pictures, for the bench before shipping.

Depends on the model and pictures; the shipped path is `models.paligemma`, which the bench uses for shipped folders.
"""

from __future__ import annotations

import numpy as np

from ...models.masks import location_tokens as tokens
from .exchanges import TextLayout
from .questions import QuestionExchange
from .tiny import ModelShape, normalise


class Direct:
    """Greedy generation for (N, S, S, 3) pictures.

    Args:
        model: a PaliGemma with the embedded model's tokenizer.
        tokenizer: its tokenizer.
        codec: the mask codec.
        shape: its sizes.
        batch: pictures per pass.
    """

    def __init__(self, model, tokenizer, codec, shape: ModelShape, batch: int = 24):
        self.model, self.tokenizer, self.codec, self.shape, self.batch = model.eval(), tokenizer, codec, shape, batch
        self._layout = TextLayout(tokenizer, shape.image_tokens)

    def write(self, pictures: np.ndarray, prompts: list[str], most: int) -> list[str]:
        """Return one text per picture.

        Args:
            pictures: (N, S, S, 3) uint8.
            prompts: N prompts, which may differ (they are padded on the left).
            most: maximal number of tokens.
        """
        import torch

        texts = []
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        result = [""] * len(prompts)
        for begin in range(0, len(order), self.batch):
            chosen = order[begin : begin + self.batch]
            rows = []
            for i in chosen:
                ids, prefix = self._layout.encode(QuestionExchange(prompts[i], "", ""))
                rows.append(ids[:prefix])
            length = max(map(len, rows))
            pad = self._layout.pad
            ids = torch.tensor([[pad] * (length - len(r)) + r for r in rows])
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                out = self.model.generate(
                    input_ids=ids,
                    attention_mask=(ids != pad).long(),
                    token_type_ids=torch.zeros_like(ids),
                    pixel_values=normalise(torch.from_numpy(np.stack([pictures[i] for i in chosen]))),
                    max_new_tokens=most,
                    do_sample=False,
                )
            texts = self.tokenizer.batch_decode(out[:, length:], skip_special_tokens=False)
            for i, text in zip(chosen, texts, strict=True):
                result[i] = text.split("<eos>")[0].replace("<pad>", "").strip()
        return result

    def segment(self, pictures: np.ndarray, labels: list[str], size: int | None = None) -> list[dict[str, np.ndarray]]:
        """Return a mapping from name to (size, size) bool mask in the picture's square, for each picture; six names per prompt.

        Args:
            pictures: (N, S, S, 3) uint8.
            labels: names of structures.
            size: of the masks; that of the pictures by default.
        """
        import torch

        size = size or self.shape.image
        found: list[dict[str, np.ndarray]] = [{} for _ in pictures]
        for begin in range(0, len(labels), 6):
            names = labels[begin : begin + 6]
            for n, text in enumerate(
                self.write(pictures, [tokens.segment_prompt(names)] * len(pictures), 26 * len(names))
            ):
                objects = [o for o in tokens.parse_objects(text) if o.codes and o.name in names]
                if not objects:
                    continue
                masks = self.codec.decode(torch.tensor([o.codes for o in objects])).numpy()
                for o, mask in zip(objects, masks, strict=True):
                    found[n].setdefault(o.name, paste(mask, o.box, size))
        return found


def paste(mask: np.ndarray, box: tuple[float, float, float, float], size: int) -> np.ndarray:
    """Return a mask over a box as (size, size) bool in the picture's square.

    Args:
        mask: (64, 64), 0…1.
        box: (y0, x0, y1, x1), each 0…1.
        size: pixels per side.
    """
    y0, x0, y1, x1 = box
    middle = (np.arange(size) + 0.5) / size
    v, u = (middle - y0) / (y1 - y0) * 64 - 0.5, (middle - x0) / (x1 - x0) * 64 - 0.5
    rows, columns = np.flatnonzero((v > -0.5) & (v < 63.5)), np.flatnonzero((u > -0.5) & (u < 63.5))
    out = np.zeros((size, size), bool)
    if len(rows) and len(columns):
        from scipy.ndimage import map_coordinates

        grid = np.meshgrid(v[rows], u[columns], indexing="ij")
        out[np.ix_(rows, columns)] = map_coordinates(mask, grid, order=1, mode="nearest") >= 0.5
    return out

"""Prepare a model's training inputs: the question as in use, then the answer. Knows samples and abilities.

A question is prepared by the model's own `inputs_for`, so that nothing differs from use; only answers are learned
(labels elsewhere are −100). Names in "boxes" and "masks" become PaliGemma's location and mask tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import InputError, ModelError
from ...models.masks import location_tokens as tokens
from ..data.dataset import Dataset
from ..data.samples import PicturePixels, Sample

IGNORED = -100
SIDE = 64
"""Side of a mask for the codec, pixels."""


class SampleReader:
    """Converter of a data set's samples to a model's tensors.

    Args:
        model: a loaded model of a family that writes.
        dataset: the data set of the samples.

    Raises:
        ModelError: if the family does not support training.
    """

    def __init__(self, model, dataset: Dataset):
        if not hasattr(model, "inputs_for") or not hasattr(model, "answer_part"):
            raise ModelError(
                "Models of this family can't be fine-tuned here; choose a PaliGemma, Gemma 3, Qwen-VL or LLaVA."
            )
        self.model, self.dataset = model, dataset

    def check(self, kinds: Sequence[str]) -> None:
        """Check that the model can write the kinds of answers that are to be learned.

        Raises:
            InputError: if it can't.
        """
        if "boxes" in kinds and not hasattr(self.model, "inputs_for_objects"):
            raise InputError("Boxes and masks are learned as tokens, by PaliGemma models only; choose --kind text.")
        codec = getattr(self.model, "codec", None)
        if "masks" in kinds and (codec is None or codec.encoder is None):
            raise InputError("This model has no mask codec that encodes masks; choose --kind text or boxes.")

    def answer(self, sample: Sample) -> str:
        """Return the right answer, as the model writes it."""
        if sample.kind == "text":
            return sample.answer
        shown = self.dataset.shown(sample) if sample.kind == "masks" else None
        return tokens.format_objects(
            tokens.format_object(o.box, self._codes(shown, o) if sample.kind == "masks" else None, o.name)
            for o in sample.objects
        )

    def _codes(self, shown: PicturePixels, placed) -> list[int]:
        from PIL import Image as Picture

        rows, columns = (np.flatnonzero((shown.labels == placed.value).any(axis)) for axis in (1, 0))
        cut = (shown.labels == placed.value)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        small = Picture.fromarray((cut * 255).astype(np.uint8)).resize((SIDE, SIDE), Picture.Resampling.BILINEAR)
        return self.model.codec.encode(np.asarray(small)[None] > 127)[0].tolist()

    def prompt(self, sample: Sample) -> dict[str, Any]:
        """Return the question's tensors, as in use."""
        view = self.dataset.view(sample)
        if sample.kind == "text":
            return dict(self.model.inputs_for(view, sample.question))
        verb = "detect" if sample.kind == "boxes" else "segment"
        return dict(self.model.inputs_for_objects(verb, view, sample.names))

    def example(self, sample: Sample, answer: str | None = None) -> dict[str, Any]:
        """Return the tensors of one question with its answer, and `labels`.

        Args:
            sample: the question.
            answer: used instead of the right one, to compute its likelihood.
        """
        import torch

        inputs = self.prompt(sample)
        ids = inputs["input_ids"]
        part = self.model.answer_part(sample.question, self.answer(sample) if answer is None else answer)
        more = self.model.processor.tokenizer(part, add_special_tokens=False, return_tensors="pt")["input_ids"].to(ids)
        length = ids.shape[1]
        made = {}
        for name, value in inputs.items():
            if value.shape[:2] != ids.shape:
                made[name] = value
                continue
            fill = self.model.answer_fill.get(name, 0) if name != "attention_mask" else 1
            made[name] = torch.cat([value, more if name == "input_ids" else torch.full_like(more, fill)], 1)
        made["labels"] = torch.cat([torch.full_like(ids, IGNORED), more], 1)
        made["labels"][:, :length] = IGNORED
        return made


def collator(pad: int) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Return a function that makes a batch of examples, padded on the right; pictures are concatenated.

    Args:
        pad: number of the padding token.
    """

    def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        longest = max(e["input_ids"].shape[1] for e in examples)
        batch = {}
        for name, first in examples[0].items():
            if first.shape[:2] != examples[0]["input_ids"].shape:
                batch[name] = torch.cat([e[name] for e in examples])
                continue
            fill = {"input_ids": pad, "labels": IGNORED}.get(name, 0)
            rows = [torch.nn.functional.pad(e[name], (0, longest - e[name].shape[1]), value=fill) for e in examples]
            batch[name] = torch.cat(rows)
        return batch

    return collate


def answer_loss(model, batch: dict[str, Any], items: Any = None):
    """Return the mean loss of the answers' tokens.

    Scores are computed for these tokens alone, which saves most of the memory with large vocabularies.

    Args:
        model: with or without an adapter.
        batch: of `collator`.
        items: number of tokens to divide by, if several batches make a step.
    """
    import torch.nn.functional as F

    labels = batch["labels"]
    first = max(0, int((labels != IGNORED).any(0).nonzero()[0]) - 1)
    keep = labels.shape[1] - first
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs, logits_to_keep=keep, use_cache=False).logits[:, :-1]
    goal = labels[:, first + 1 :]
    wanted = goal != IGNORED
    losses = F.cross_entropy(logits[wanted].float(), goal[wanted], reduction="sum")
    return losses / (wanted.sum() if items is None else items)

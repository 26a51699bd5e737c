"""Compute the likelihood of a given answer. Knows logits and tokens; no family."""

from __future__ import annotations

import torch


def mean_log_probability(model, inputs: dict, start: int) -> list[float]:
    """Return, for each row, the mean log-probability (nats) of its tokens from position `start` on.

    Args:
        model: a transformers model that generates.
        inputs: tensors of prompts with their answers, of equal lengths.
        start: position of the first token of the answers.
    """
    numbers = inputs["input_ids"]
    count = numbers.shape[1] - start
    with torch.inference_mode():
        logits = model(**inputs, use_cache=False, logits_to_keep=count + 1).logits[:, -count - 1 : -1]
        chances = logits.float().log_softmax(-1).gather(-1, numbers[:, start:, None])[..., 0]
    return chances.mean(1).tolist()

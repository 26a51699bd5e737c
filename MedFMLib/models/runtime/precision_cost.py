"""Measure the quality lost by a lower precision: how far next words and answers differ from those in bfloat16.

Knows models that write, and precisions; no family. The questions and pictures are fixed and generated here, so that
numbers of two machines can be compared; they do not measure whether answers are right.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...core.geometry import Geometry
from ...core.view import View
from ...errors import ModelError
from ...storage import paths
from ...storage.json_text import read_json
from ...storage.model_card import ModelCard

QUESTIONS = (
    "Which plane is shown?",
    "Which part of the body is this?",
    "Is this CT or MR?",
    "What is the largest visible structure?",
)
ANSWER_TOKENS = 12
REFERENCES = ("bf16", "fp32")
"""Precisions to compare the others with: the first one that the model supports."""


@dataclass(frozen=True)
class PrecisionCost:
    """One precision compared with the reference, over all questions.

    Args:
        precision: the measured one.
        against: the reference.
        divergence: mean Kullback-Leibler divergence (nats) of the next word, along the reference's answer.
        same_word: fraction of words where the likeliest one is the same.
        same_answer: fraction of identical answers.
        gigabytes: weights in memory, GB of 10⁹ bytes.
        load_seconds: time to load the model.
        answer_seconds: mean time to answer one question.
    """

    precision: str
    against: str
    divergence: float
    same_word: float
    same_answer: float
    gigabytes: float
    load_seconds: float
    answer_seconds: float


def pictures(size: int = 160) -> list[View]:
    """Return generated slices: an ellipse with organs of several greys, a ring like a skull, and a gradient with noise."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    body = (x / 0.85) ** 2 + (y / 0.65) ** 2 < 1
    torso = 90 * body + 80 * ((x + 0.35) ** 2 + y**2 < 0.08) - 70 * (((x - 0.4) / 0.6) ** 2 + (y + 0.1) ** 2 < 0.1)
    radius = np.hypot(x / 0.75, y / 0.9)
    head = 220 * ((radius < 1) & (radius > 0.9)) + 110 * (radius < 0.85) + 60 * ((np.abs(x) < 0.12) & (np.abs(y) < 0.3))
    noise = np.random.default_rng(0).normal(128, 40, (size, size)) + 60 * x
    grid = Geometry((size, size, size), np.eye(4))
    made = [np.repeat(np.clip(p, 0, 255).astype(np.uint8)[..., None], 3, 2) for p in (torso, head, noise)]
    return [View(pixels, grid, "axial", n) for n, pixels in enumerate(made)]


def measure(
    card: ModelCard, load: Callable[[str], object], precisions=(), tell: Callable[[str], None] = lambda _: None
) -> list[PrecisionCost]:
    """Measure the model in one precision after another, the reference first; save the result in the cache.

    Args:
        card: card of the model.
        load: precision → loaded model with `inputs_for`.
        precisions: which to measure; all of the card's if empty.
        tell: receives a sentence before each.

    Raises:
        ModelError: if the model does not write, or has no dense precision to compare with.
    """
    reference = next((p for p in REFERENCES if p in card.precisions), "")
    if "writes" not in card.abilities or not reference:
        raise ModelError(
            f"{card.title} can't write text in {' or '.join(REFERENCES)}, which other precisions are compared with."
        )
    others = [p for p in (precisions or card.precisions) if p != reference]
    asked = [(view, question) for view in pictures() for question in QUESTIONS]
    truth: list[tuple] = []
    costs = []
    for precision in (reference, *others):
        tell(f"Loading {card.title} in {precision}")
        start = time.perf_counter()
        model = load(precision)
        loaded, start = time.perf_counter() - start, time.perf_counter()
        answers = [_answer(model, view, question) for view, question in asked]
        seconds = (time.perf_counter() - start) / len(asked)
        size = sum(t.nbytes for t in (*model.model.parameters(), *model.model.buffers())) / 1e9
        if precision == reference:
            truth, divergence, same_word, same = answers, 0.0, 1.0, 1.0
        else:
            moved = [_moved(model, view, question, right) for (view, question), right in zip(asked, truth, strict=True)]
            divergence, same_word = (float(np.mean(column)) for column in zip(*moved, strict=True))
            same = float(np.mean([a[0] == t[0] for a, t in zip(answers, truth, strict=True)]))
        costs.append(PrecisionCost(precision, reference, divergence, same_word, same, size, loaded, seconds))
        del model
    _keep(card, costs)
    return costs


def _answer(model, view: View, question: str, forced: list[int] | None = None):
    """Return (tokens of the answer, (T, V) log-probabilities of the next word); along `forced` tokens if given."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList

    inputs = model.inputs_for(view, question)
    length = inputs["input_ids"].shape[1]

    class Follow(LogitsProcessor):
        def __call__(self, input_ids, scores):
            only = torch.full_like(scores, -torch.inf)
            only[:, forced[input_ids.shape[1] - length]] = 0
            return only

    with torch.inference_mode():
        out = model.model.generate(
            **inputs,
            max_new_tokens=len(forced) if forced else ANSWER_TOKENS,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            logits_processor=LogitsProcessorList([Follow()] if forced else []),
        )
    logp = torch.cat(out.logits).float().log_softmax(-1).cpu()
    return out.sequences[0, length:].tolist(), logp


def _moved(model, view: View, question: str, truth) -> tuple[float, float]:
    """Return (mean divergence, fraction of same words) along the reference's answer."""
    import torch.nn.functional as F

    tokens, right = truth
    _, got = _answer(model, view, question, forced=tokens)
    divergence = F.kl_div(got, right[: len(got)], reduction="none", log_target=True).sum(-1).mean()
    return float(divergence), float((got.argmax(-1) == right[: len(got)].argmax(-1)).float().mean())


def file(card: ModelCard) -> Path:
    """Return the path of a model's saved result."""
    return paths.cache() / "precision-cost" / (re.sub(r"[^A-Za-z0-9.-]+", "-", card.id).strip("-") + ".json")


def _keep(card: ModelCard, costs: list[PrecisionCost]) -> None:
    path = file(card)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"model": card.id, "date": time.strftime("%Y-%m-%d"), "costs": [asdict(cost) for cost in costs]}
    path.with_suffix(".new").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".new").replace(path)


def known(card: ModelCard) -> tuple[str, list[PrecisionCost]]:
    """Return (date, costs) as last measured on this machine; ("", []) if never."""
    try:
        content = read_json(file(card).read_bytes())
        return content["date"], [PrecisionCost(**cost) for cost in content["costs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return "", []

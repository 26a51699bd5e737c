"""Score a model's answers to held-out questions, and make tables of the scores. Knows abilities and data sets."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.view import View, display_slice
from ...imaging.slices import paint
from ...interfaces.jobs import NoProgress, Progress
from ...measure.overlap import box_iou, dice, surface_distances
from ..data.dataset import Dataset
from ..data.samples import Sample
from . import scores
from .inputs import IGNORED, SampleReader, collator

AT_ONCE = 32
MOST_TOKENS = 64


@dataclass(frozen=True)
class JudgedAnswer:
    """One answer and its scores.

    Args:
        answer: the text, "" for masks and boxes.
        score: exact match for text, Dice for masks, overlap for boxes, 0…1.
        f1: F1 of the words, 0…1.
        distance: mean distance between surfaces in mm, NaN if not defined.
        confidence: probability of the answer according to the model, NaN if not computed.
    """

    answer: str
    score: float
    f1: float
    distance: float = math.nan
    confidence: float = math.nan


def judge(model, dataset: Dataset, samples: Sequence[Sample], progress: Progress | None = None,
          show: Callable[[Sample], View] | None = None, confidences: bool = False) -> list[JudgedAnswer]:  # fmt: skip
    """Ask all questions and return the scored answers.

    Args:
        model: a loaded model.
        dataset: the data set of the samples.
        samples: the questions.
        progress: receives fractions; None for none.
        show: sample → picture; the data set's by default.
        confidences: compute confidences, too.

    Raises:
        MedFMError: as the model's abilities.
    """
    progress, show = progress or NoProgress(), show or dataset.view
    made: list[JudgedAnswer | None] = [None] * len(samples)
    texts = [n for n, sample in enumerate(samples) if sample.kind == "text"]
    for start in range(0, len(texts), AT_ONCE):
        some = texts[start : start + AT_ONCE]
        progress.fraction(start / max(1, len(samples)))
        answers = write([show(samples[n]) for n in some], [samples[n].question for n in some], model)
        for n, answer in zip(some, answers, strict=True):
            truth = samples[n].answer
            made[n] = JudgedAnswer(answer, scores.exact(answer, truth), scores.token_f1(answer, truth))
    if confidences and texts and hasattr(model, "answer_part"):
        chances = likelihoods(model, dataset, [samples[n] for n in texts], [made[n].answer for n in texts])
        for n, chance in zip(texts, chances, strict=True):
            made[n] = JudgedAnswer(made[n].answer, made[n].score, made[n].f1, confidence=chance)
    for n, sample in enumerate(samples):
        if sample.kind == "boxes":
            made[n] = _boxes(model.locate([show(sample)], sample.names)[0], sample)
        elif sample.kind == "masks":
            with _as_tokens(model):
                made[n] = _masks(model.segment([show(sample)], sample.names)[0], dataset, sample)
    return made


def write(views: Sequence[View], questions: Sequence[str], model, most: int = MOST_TOKENS) -> list[str]:
    """Return one answer per (view, question), in batches where the model can.

    Args:
        views: one per question.
        questions: the questions.
        model: a loaded model.
        most: largest number of tokens per answer.
    """
    if hasattr(model, "write_many"):
        return model.write_many(views, questions, max_tokens=most)
    return [
        model.write([view], question, max_tokens=most).strip() for view, question in zip(views, questions, strict=True)
    ]


def likelihoods(model, dataset: Dataset, samples: Sequence[Sample], answers: Sequence[str]) -> list[float]:
    """Return the probability of each answer according to the model, the product over its tokens.

    Args:
        model: a loaded model.
        dataset: the data set of the samples.
        samples: the questions.
        answers: one per sample.
    """
    import torch

    reader = SampleReader(model, dataset)
    collate = collator(model.processor.tokenizer.pad_token_id or 0)
    found: list[float] = []
    for start in range(0, len(samples), 8):
        some = slice(start, start + 8)
        batch = collate([reader.example(s, a) for s, a in zip(samples[some], answers[some], strict=True)])
        labels = batch.pop("labels")
        first = int((labels != IGNORED).any(0).nonzero()[0]) - 1
        with torch.inference_mode():
            logits = model.model(**batch, logits_to_keep=labels.shape[1] - first, use_cache=False).logits[:, :-1]
        goal = labels[:, first + 1 :]
        logp = logits.float().log_softmax(-1).gather(-1, goal.clamp(min=0)[..., None])[..., 0]
        found += (logp * (goal != IGNORED)).sum(1).exp().tolist()
    return found


@contextmanager
def _as_tokens(model):
    """Disable the mask head inside the block, since an adapter is trained on masks as tokens."""
    head = getattr(model, "head", None)
    if head is not None:
        model.head = None
    try:
        yield
    finally:
        if head is not None:
            model.head = head


def _boxes(seen, sample: Sample) -> JudgedAnswer:
    wanted, got = {o.name: o.box for o in sample.objects}, {o.label: o.box for o in seen}
    each = [
        box_iou(got[name], wanted[name]) if name in got and name in wanted else float((name in got) == (name in wanted))
        for name in sample.names
    ]
    score = float(np.mean(each))
    return JudgedAnswer("", score, score)


def _masks(seen, dataset: Dataset, sample: Sample) -> JudgedAnswer:
    view, shown = dataset.view(sample), dataset.shown(sample)
    values = {o.name: o.value for o in sample.objects}
    segmented = {o.label: o for o in seen}
    each, far = [], []
    for name in sample.names:
        truth = shown.labels == values[name] if name in values else np.zeros(shown.pixels.shape[:2], bool)
        mask = np.zeros_like(truth)
        if name in segmented:
            volume = np.zeros(view.geometry.shape, bool)
            volume[:, :, 0] = paint(view, segmented[name])
            mask = display_slice(volume, view.geometry, view.plane, 0)
        each.append(dice(mask, truth, empty=1.0))  # an empty mask of an absent structure is right
        far.append((surface_distances(mask, truth, sample.spacing) or (math.nan, math.nan))[0])
    known = [value for value in far if not math.isnan(value)]
    return JudgedAnswer("", float(np.mean(each)), float(np.mean(each)), float(np.mean(known)) if known else math.nan)


def common_answers(dataset: Dataset, samples: Sequence[Sample]) -> list[JudgedAnswer]:
    """Return the scores of a baseline: training's most common answer to the same question, or else its category.

    Args:
        dataset: the data set.
        samples: the questions.
    """
    by_question, by_category = defaultdict(Counter), defaultdict(Counter)
    for sample in dataset.samples["train"]:
        if sample.kind == "text":
            by_question[sample.question][sample.answer] += 1
            by_category[sample.category][sample.answer] += 1
    made = []
    for sample in samples:
        counts = by_question.get(sample.question) or by_category.get(sample.category) or Counter({"": 1})
        answer = counts.most_common(1)[0][0] if sample.kind == "text" else ""
        right = scores.exact(answer, sample.answer) if sample.kind == "text" else 0.0
        made.append(
            JudgedAnswer(answer, right, scores.token_f1(answer, sample.answer) if sample.kind == "text" else 0.0)
        )
    return made


def table(samples: Sequence[Sample], ways: dict[str, Sequence[JudgedAnswer]]) -> dict[str, Any]:
    """Return scores with their intervals, of all samples and by kind, modality, organ and plane.

    Args:
        samples: the questions.
        ways: name → answers, in the order of the samples. "difference" is after − before, "over_common" after − the
            most common answer.
    """
    groups: dict[str, list[int]] = {"all": list(range(len(samples)))}
    for n, sample in enumerate(samples):
        closed = "closed" if sample.closed else "open"
        named = {"answers": closed if sample.kind == "text" else sample.kind, "kind": sample.category,
                 "modality": sample.modality, "organ": sample.organ, "plane": sample.plane}  # fmt: skip
        for axis, value in named.items():
            if value:
                groups.setdefault(f"{axis}: {value}", []).append(n)
    return {name: _row([samples[n] for n in some], {w: [judged[n] for n in some] for w, judged in ways.items()})
            for name, some in groups.items()}  # fmt: skip


def _row(samples: Sequence[Sample], ways: dict[str, Sequence[JudgedAnswer]]) -> dict[str, Any]:
    patients = [s.patient for s in samples]
    row: dict[str, Any] = {"count": len(samples), "patients": len(set(patients))}
    text = [n for n, sample in enumerate(samples) if sample.kind == "text"]
    for way, judged in ways.items():
        values = [j.score for j in judged]
        low, high = scores.interval(values, patients)
        cell = {"score": float(np.mean(values)), "low": low, "high": high, "f1": float(np.mean([j.f1 for j in judged]))}
        if text:
            answers, truths = [judged[n].answer for n in text], [samples[n].answer for n in text]
            cell |= {"bleu": scores.bleu(answers, truths), "rouge_l": scores.rouge_l(answers, truths)}
        far = [j.distance for j in judged if not math.isnan(j.distance)]
        if far:
            cell["surface_mm"] = float(np.mean(far))
        row[way] = cell
    for name, other in (("difference", "before"), ("over_common", "most common")):
        if other in ways and "after" in ways:
            gained = [a.score - b.score for a, b in zip(ways["after"], ways[other], strict=True)]
            low, high = scores.interval(gained, patients)
            row[name] = {"score": float(np.mean(gained)), "low": low, "high": high}
    return row

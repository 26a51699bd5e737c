"""Measure image reliance: how answers change without the picture, or with another patient's. Knows abilities.

A model that answers as well without the picture relies on its questions, not on the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...reliability import blind, meaning
from ..data.dataset import Dataset
from ..data.samples import Sample
from . import scores
from .evaluate import JudgedAnswer, judge

CHANGED = 0.1
"""If fewer answers than this fraction change without the picture, the model does not rely on it."""


def measure(model, dataset: Dataset, samples: Sequence[Sample], with_picture: Sequence[JudgedAnswer]) -> dict[str, Any]:
    """Return scores without the picture and with another patient's, and the fraction of answers that change.

    Args:
        model: a loaded model.
        dataset: the data set of the samples.
        samples: questions with answers in words.
        with_picture: answers with the picture, in the same order.
    """
    others = [
        next((o for o in samples[n + 1 :] + samples[:n] if o.patient != s.patient), s) for n, s in enumerate(samples)
    ]
    swapped = dict(zip(map(id, samples), others, strict=True))
    ways = {
        "without": judge(model, dataset, samples, show=lambda s: blind.controls([dataset.view(s)])["grey"][0]),
        "another's": judge(model, dataset, samples, show=lambda s: dataset.view(swapped[id(s)])),
    }
    patients = [sample.patient for sample in samples]
    found: dict[str, Any] = {"count": len(samples), "with": float(np.mean([j.score for j in with_picture]))}
    for name, judged in ways.items():
        lost = [one.score - other.score for one, other in zip(with_picture, judged, strict=True)]
        low, high = scores.interval(lost, patients)
        pairs = list(zip(with_picture, judged, strict=True))
        changed = float(np.mean([not meaning.same(one.answer, other.answer) for one, other in pairs]))
        found[name] = {"score": float(np.mean([j.score for j in judged])), "changed": changed,
                       "lost": {"score": float(np.mean(lost)), "low": low, "high": high}}  # fmt: skip
    found["looks"] = found["without"]["changed"] >= CHANGED
    return found

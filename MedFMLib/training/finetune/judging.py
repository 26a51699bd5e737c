"""Evaluate an adapter against its base, and write the results to its card: quality, safety, reliance and calibration."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...engine import load_model, versions
from ...errors import ModelError
from ...interfaces import registry
from ...interfaces.jobs import NoProgress, Progress
from ...models.runtime.device import release_memory
from ...models.runtime.precision import choose_precision
from ...storage import adapter_card
from ..data.dataset import Dataset
from ..data.samples import Sample
from . import evaluate, reliance, safety, scores
from .run import by_turns, chosen
from .settings import MOST, TrainingSettings

MOST_SAFETY_VIEWS = 8
MOST_PRECISION = 60


def judge(data: Path, adapter: Path, settings: TrainingSettings, progress: Progress | None = None, split: str = "test",
          most: int = MOST, precisions: Sequence[str] | None = None) -> dict[str, Any]:  # fmt: skip
    """Ask the base and the adapter the questions of held-out patients.

    Args:
        data: folder of a built data set.
        adapter: folder of the adapter.
        settings: model, kinds, categories and seed.
        progress: receives the stages and may cancel; None for none.
        split: name of the split.
        most: largest number of pairs.
        precisions: further precisions whose cost is measured; all of the card's if None.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    progress = progress or NoProgress()
    dataset = Dataset.load(data)
    samples = chosen(dataset, split, settings, most)
    card = registry.card(settings.model)
    precision = choose_precision(card, settings.precision)
    progress.stage("Loading the base")
    model = load_model(card, "", precision, progress)
    views = _safety_views(dataset, samples, settings.seed)
    text = [n for n, sample in enumerate(samples) if sample.kind == "text"]
    progress.stage("Asking the base")
    before = evaluate.judge(model, dataset, samples, progress, confidences=True)
    safe_before = safety.ask(model, views)
    progress.stage("Asking the adapter")
    with adapter_card.judging():
        model.use_adapter(str(adapter))
    after = evaluate.judge(model, dataset, samples, progress, confidences=True)
    safe_after = safety.ask(model, views)
    ways = {"before": before, "after": after, "most common": evaluate.common_answers(dataset, samples)}
    result: dict[str, Any] = {"table": evaluate.table(samples, ways), "split": split, "pairs": len(samples),
                              "patients": len({s.patient for s in samples}), "precision": model.facts.precision}  # fmt: skip
    held = [[ways[way][n].answer for n in text] for way in ("before", "after")]
    result["safety"] = safety.drift(safe_before, safe_after, *held)
    if text:
        progress.stage("Asking without pictures")
        asked, seen = [samples[n] for n in text], [after[n] for n in text]
        result["reliance"] = reliance.measure(model, dataset, asked, seen)
        result["calibration"] = {
            way: scores.calibration([ways[way][n].confidence for n in text], [ways[way][n].score for n in text])
            for way in ("before", "after")
        }
    del model
    release_memory()
    others = [
        p for p in (card.precisions if precisions is None else precisions) if p != precision and p in card.precisions
    ]
    few = by_turns([samples[n] for n in text], MOST_PRECISION, settings.seed)
    result["precisions"] = _precisions(dataset, few, adapter, card, precision, others, progress) if text else []
    return result


def _safety_views(dataset: Dataset, samples: list[Sample], seed: int):
    pictures = sorted({sample.picture: sample for sample in samples}.items())
    random.Random(seed).shuffle(pictures)
    return [dataset.view(sample) for _, sample in pictures[:MOST_SAFETY_VIEWS]]


def _precisions(
    dataset, samples, adapter: Path, card, first: str, others: Sequence[str], progress
) -> list[dict[str, Any]]:
    """Return score and agreement of the adapter with its base in other precisions."""
    found, reference = [], None
    for precision in (first, *others):
        progress.stage(f"Loading the base in {precision}")
        try:
            model = load_model(card, "", precision, progress)
            with adapter_card.judging():
                model.use_adapter(str(adapter))
            judged = evaluate.judge(model, dataset, samples)
        except ModelError as error:
            found.append({"precision": precision, "says": str(error)})
            continue
        answers = [j.answer for j in judged]
        reference = reference or answers
        same = float(np.mean([a == b for a, b in zip(answers, reference, strict=True)]))
        size = sum(t.nbytes for t in (*model.model.parameters(), *model.model.buffers()))
        found.append({"precision": precision, "score": float(np.mean([j.score for j in judged])), "same_answers": same,
                      "bytes": size, "count": len(answers)})  # fmt: skip
        del model
        release_memory()
    return found


def verdict(result: dict[str, Any]) -> dict[str, Any]:
    """Decide whether an adapter may be offered.

    Only if it is not worse than its base on held-out patients, and not less safe.
    """
    difference, safe = result["table"]["all"]["difference"], not result["safety"]["unsafe"]
    better, worse = difference["low"] > 0, difference["score"] < 0
    reasons = []
    if worse:
        reasons.append(f"it is worse than its base on held-out patients ({difference['score']:+.3f}, 95 % interval "
                       f"{difference['low']:+.3f} to {difference['high']:+.3f})")  # fmt: skip
    for name in result["safety"]["grown"]:
        after, before = (f"{result['safety']['parts'][name][way]:.0%}" for way in ("after", "before"))
        reasons.append(
            f"{after} of its answers to {name} are what the guard withholds from patients, {before} of its base's"
        )
    notes = []
    if not better and not worse:
        notes.append("No difference to its base was shown on held-out patients.")
    common = result["table"]["all"].get("over_common")
    if common and common["low"] <= 0 and "reliance" in result:
        found = f"{common['score']:+.3f}, 95 % interval {common['low']:+.3f} to {common['high']:+.3f}"
        notes.append(f"It is not shown to be better than always giving the most common answer of training ({found}).")
    if "reliance" in result and not result["reliance"]["looks"]:
        notes.append("Its answers hardly change without the picture: it relies on the questions, not on the picture.")
    return {"better": better, "safe": safe, "offered": safe and not worse, "reasons": reasons, "notes": notes}


def card_of(name: str, adapter: Path, data: Path, settings: TrainingSettings, training: dict[str, Any], result: dict[str, Any],
            licence: str = "") -> dict[str, Any]:  # fmt: skip
    """Return the adapter's card: numbers and names of kinds, nothing about a patient.

    Args:
        name: of the adapter.
        adapter: folder of the adapter.
        data: folder of the data set.
        settings: of the training.
        training: result of `training_facts`.
        result: result of `judge`.
        licence: of the adapter; that of the data if "".
    """
    dataset, base = Dataset.load(data), registry.card(settings.model)
    counts = ("source", "images", "descriptions", "patients", "pairs", "splits", "modalities", "planes", "organs", "categories",
              "origins", "problems")  # fmt: skip
    tokens = [kind for kind in ("boxes", "masks") if kind in settings.kinds]
    here = Path(base.id).is_dir()  # name only: the path is private to this machine
    shown = settings.with_(model=Path(base.id).name) if here else settings
    known = {key: dataset.card.get(key) for key in counts}
    return {
        "format": 1,
        "name": name,
        "made": time.strftime("%Y-%m-%d"),
        "sha256": adapter_card.sha256(adapter),
        "base": {
            "id": shown.model, "title": base.title, "licence": base.licence, "revision": training.get("base_revision", ""),
            "precision": choose_precision(base, settings.precision),
        },
        "data": {**known, "sha256": dataset.digest(), "licence": dataset.card.get("licence", "")},
        "licence": licence or dataset.card.get("licence", "") or "not stated",
        "settings": shown.as_json(),
        "training": {key: value for key, value in training.items() if key != "base_revision"},
        "tokens": tokens,
        "results": result,
        "verdict": verdict(result),
        "versions": versions(),
        "note": "Research and education; not a medical device. Measured on this site's own held-out patients.",
    }  # fmt: skip


def training_facts(trained, base_revision: str) -> dict[str, Any]:
    """Return the facts of a training for the card, without folders.

    Args:
        trained: a `run.TrainingResult`.
        base_revision: revision of the base.
    """
    facts = asdict(trained)
    del facts["adapter"]
    return facts | {"base_revision": base_revision}

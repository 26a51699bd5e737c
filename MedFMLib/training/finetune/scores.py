"""Score answers, and compute confidence intervals of means. Knows texts, masks and numbers; no models.

Texts: exact match after lower case and without punctuation; F1 of their words (Rajpurkar et al., SQuAD, 2016); BLEU by
sacrebleu and ROUGE-L by rouge-score. Intervals: bootstrap over patients, since answers about one patient are
correlated. Calibration: expected error over ten bins (Guo et al., ICML 2017).
"""

from __future__ import annotations

import re
import string
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from ...errors import ModelError
from ...reliability.calibration import expected_error

DRAWS = 2000
BINS = 10
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation.replace("%", ""), " "))


def plain(text: str) -> str:
    """Return the text in lower case, without punctuation and repeated spaces."""
    return " ".join(re.sub(r"\s+", " ", text.lower().translate(_PUNCTUATION)).split())


def exact(answer: str, truth: str) -> float:
    """Return 1 if both texts have the same words, else 0.

    Args:
        answer: the model's text.
        truth: the right text.
    """
    return float(plain(answer) == plain(truth))


def token_f1(answer: str, truth: str) -> float:
    """Return the F1 of the words, 0…1: the harmonic mean of precision and recall.

    Args:
        answer: the model's text.
        truth: the right text.
    """
    got, wanted = plain(answer).split(), plain(truth).split()
    common = sum((Counter(got) & Counter(wanted)).values())
    if not got or not wanted:
        return float(got == wanted)
    return 2 * common / (len(got) + len(wanted))


def bleu(answers: Sequence[str], truths: Sequence[str]) -> float:
    """Return the BLEU-4 of a corpus, 0…100, by sacrebleu.

    Args:
        answers: the model's texts.
        truths: the right texts, in the same order.

    Raises:
        ModelError: if the package is missing.
    """
    try:
        import sacrebleu
    except ImportError as error:
        raise ModelError(
            "BLEU needs the package sacrebleu; install MedFM with its extra: pip install medfm[train]."
        ) from error
    return float(sacrebleu.corpus_bleu(list(answers), [list(truths)], lowercase=True).score) if answers else 0.0


def rouge_l(answers: Sequence[str], truths: Sequence[str]) -> float:
    """Return the mean ROUGE-L F, 0…1, by rouge-score.

    Args:
        answers: the model's texts.
        truths: the right texts, in the same order.

    Raises:
        ModelError: if the package is missing.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise ModelError(
            "ROUGE needs the package rouge-score; install MedFM with its extra: pip install medfm[train]."
        ) from error
    scorer = RougeScorer(["rougeL"])
    return float(np.mean([scorer.score(t, a)["rougeL"].fmeasure for a, t in zip(answers, truths, strict=True)] or [0]))


def interval(
    values: Sequence[float], patients: Sequence[str], seed: int = 0, share: float = 0.95
) -> tuple[float, float]:
    """Return the (low, high) bootstrap interval of a mean, drawing whole patients.

    Args:
        values: one for each answer; for a difference, after − before of the same answer.
        patients: of the answers, in the same order.
        seed: of the random numbers.
        share: coverage of the interval, 0…1.
    """
    sums, counts = defaultdict(float), Counter(patients)
    for value, patient in zip(values, patients, strict=True):
        sums[patient] += value
    names = sorted(counts)
    if not names:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(seed).integers(0, len(names), (DRAWS, len(names)))
    total, count = np.array([sums[n] for n in names]), np.array([counts[n] for n in names])
    means = total[drawn].sum(1) / count[drawn].sum(1)
    low, high = np.percentile(means, [50 * (1 - share), 50 * (1 + share)])
    return float(low), float(high)


def calibration(confidences: Sequence[float], right: Sequence[float]) -> dict:
    """Return the expected calibration error, and (mean confidence, fraction right, count) of each nonempty bin.

    Args:
        confidences: stated confidence of each answer, 0…1.
        right: whether each answer was right, 0…1.
    """
    confidence, hit = np.asarray(confidences, float), np.asarray(right, float)
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = [(float(confidence[number == b].mean()), float(hit[number == b].mean()), int((number == b).sum()))
            for b in range(BINS) if (number == b).any()]  # fmt: skip
    return {"error": expected_error(confidences, right, BINS), "bins": bins}

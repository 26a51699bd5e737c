"""Measure the embedded model's agreement and its answers without the image, on questions with known answers.

Depends on cases, questions and a runtime; no plots. `ask_all` asks, the tables show accuracy of the shown answers,
calibration
and the no-image control. Cases are split in two by name: a calibration is fitted on one half and evaluated on the
other.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...reliability import Calibration, agree, controls, expected_error, fit, stands
from .bench_answers import REGIONS, UNSEEN, choose_questions, points
from .bench_measures import wilson
from .bench_tables import Table
from .cases import BenchCase, Probe
from .questions import REFUSAL, QuestionExchange

AS_IT_IS = "as it is"
"""The unmodified model, with the image."""

CUTS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)
"""Confidences below which an answer is withheld, for the curve."""


@dataclass(frozen=True)
class Outcome:
    """A question with the model's answers.

    Args:
        case: name of the case.
        kind: kind of question.
        question: in words.
        wanted: right answer.
        said: the likeliest answer.
        right: points of that answer, 0…1.
        samples: answers sampled at random.
        without: answers without the image.
        lost: by how much the answer's score decreases without the image, one per control.
    """

    case: str
    kind: str
    question: str
    wanted: str
    said: str
    right: float
    samples: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    lost: tuple[float, ...] = ()

    @property
    def agreement(self) -> float:
        """Share of the samples with the same meaning."""
        return agree(self.said, self.samples).share


def questions(cases: list[BenchCase], per_kind: int, refusals: bool = False) -> list[tuple[Probe, QuestionExchange]]:
    """Return the questions of the bench, without those that no image answers unless requested.

    Args:
        cases: to ask about.
        per_kind: number of questions of each kind.
        refusals: include questions that no image answers.
    """
    chosen = choose_questions(cases, per_kind)
    return [q for q in chosen if refusals or q[1].kind.removesuffix(REGIONS) not in ("refusal", UNSEEN)]


def ask_all(
    runtime,
    asked: Sequence[tuple[Probe, QuestionExchange]],
    samples: int = 0,
    temperature: float = 1.0,
    blind: bool = False,
    tell: Callable[[int], None] = lambda _: None,
) -> list[Outcome]:
    """Ask every question once, further times with random sampling, and without the image.

    Args:
        runtime: the model.
        asked: the questions with their pictures.
        samples: number of samples per question.
        temperature: of the samples.
        blind: ask without the image, too.
        tell: receives the number of finished questions.
    """
    outcomes = []
    for number, (probe, exchange) in enumerate(asked):
        text, view = exchange.prompt.removeprefix("answer en "), probe.view
        said = runtime.write([view], text)
        drawn = runtime.sample([view], text, samples, temperature=temperature) if samples else []
        without, lost = [], []
        if blind:
            others = [views[0] for views in controls([view]).values()]
            without = runtime.write_many(others, [text] * len(others))
            first, *rest = runtime.score([[view], *([other] for other in others)], text, said)
            lost = [first - score for score in rest]
        right = points(exchange, said)
        outcomes.append(
            Outcome(probe.case.name, exchange.kind, text, exchange.answer, said, right, tuple(drawn), tuple(without),
                    tuple(lost))
        )  # fmt: skip
        tell(number + 1)
    return outcomes


def halves(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[Outcome]]:
    """Split outcomes into (for fitting, for evaluation) by case, so that no case is in both."""
    sizes: dict[str, int] = {}
    for outcome in outcomes:
        sizes[person(outcome.case)] = sizes.get(person(outcome.case), 0) + 1
    sides, total = {}, [0, 0]
    for name in sorted(sizes, key=lambda n: (-sizes[n], hashlib.sha256(n.encode()).hexdigest())):
        sides[name] = total.index(min(total))
        total[sides[name]] += sizes[name]
    first = [o for o in outcomes if sides[person(o.case)] == 0]
    return first, [o for o in outcomes if sides[person(o.case)] == 1]


def person(case: str) -> str:
    """Return the person of a case: contrasts and series of one head are one person."""
    return case.partition(",")[0].removesuffix(" T1").removesuffix(" T2").removesuffix(" FLAIR")


def judge(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[float], list[float]]:
    """Return (outcomes, agreement, calibrated confidence), each with a calibration that was fitted without its case."""
    judged, before, after = [], [], []
    for seen, unseen in (halves(outcomes), halves(outcomes)[::-1]):
        curve, _ = fit([o.agreement for o in seen], [o.right for o in seen])
        shares = [o.agreement for o in unseen]
        judged += unseen
        before += shares
        after += np.interp(shares, *zip(*curve, strict=True)).tolist()
    return judged, before, after


# -- tables --------------------------------------------------------------------------------------


def answered_table(outcomes: Sequence[Outcome], chances: Sequence[float], cuts: Sequence[float] = CUTS) -> Table:
    """Return the accuracy of the shown answers, by threshold.

    Args:
        outcomes: questions with answers.
        chances: confidence of each.
        cuts: thresholds.
    """
    chances, right = np.asarray(chances), np.array([o.right for o in outcomes])
    rows = []
    for cut in cuts:
        shown = chances >= cut
        count = int(shown.sum())
        value = float(right[shown].mean()) if count else None
        interval = wilson(float(right[shown].sum()), count) if count else None
        rows.append([f"{cut:.2f}", count, float(shown.mean()), value, interval])
    return Table(
        "Right answers among those that are shown", f"{len(outcomes)} questions about cases that were not fitted.",
        ("shown from confidence", "shown", "share shown", "right", "95 % interval"), rows,
        ("Right: share; lists by F1. An answer below the threshold is withheld: “ask your radiologist”.",),
    )  # fmt: skip


def error_table(outcomes: Sequence[Outcome], before: Sequence[float], after: Sequence[float]) -> Table:
    """Return the expected calibration error of the agreement and of the calibrated confidence.

    Args:
        outcomes: questions with answers.
        before: agreement of each.
        after: calibrated confidence of each.
    """
    right = [o.right for o in outcomes]
    rows = [
        [name, float(np.mean(values)), float(np.mean(right)), expected_error(values, right)]
        for name, values in (("agreement as it is", before), ("after calibration", after))
    ]
    return Table("Calibration", "The same questions.", ("confidence", "mean stated", "right", "calibration error"), rows,
                 ("Error: expected calibration error over ten bins, 0 is best.",))  # fmt: skip


def blind_table(groups: dict[str, Sequence[Outcome]]) -> Table:
    """Return how often the no-image control finds an unchanged answer."""
    rows = []
    for name, outcomes in groups.items():
        flagged = [stands(o.said, o.without, o.lost) == "stands" for o in outcomes if o.said.strip() != REFUSAL]
        by_words = [stands(o.said, o.without) == "stands" for o in outcomes if o.said.strip() != REFUSAL]
        rows.append([name, len(flagged), float(np.mean(flagged)), wilson(sum(flagged), len(flagged)),
                     float(np.mean(by_words))])  # fmt: skip
    return Table("Blind control", "“Stands”: the same answer to a grey and to a shuffled picture, and as likely.",
                 ("answers", "count", "stands", "95 % interval", "by words alone"), rows,
                 ("By words alone: without the likelihoods, as with models at an endpoint.",))  # fmt: skip


# -- a calibration ---------------------------------------------------------------------------------


def calibrate(outcomes: Sequence[Outcome], model: str, temperature: float, data: str, command: str) -> Calibration:
    """Fit a calibration on all outcomes; its errors are measured by cross-fitting on the two halves.

    Args:
        outcomes: questions with answers.
        model: its id.
        temperature: of the samples.
        data: description of the data.
        command: that was run.

    Raises:
        InputError: with fewer than 20 outcomes, or none with samples.
    """
    if not all(outcome.samples for outcome in outcomes):
        raise InputError("A calibration needs sampled answers; ask with at least 2 samples.")
    shares, right = [o.agreement for o in outcomes], [o.right for o in outcomes]
    curve, least = fit(shares, right)
    judged, before, after = judge(outcomes)
    truth = [o.right for o in judged]
    return Calibration(
        model, len(outcomes[0].samples), temperature, curve, least, len(outcomes), float(np.mean(right)),
        round(expected_error(before, truth), 4), round(expected_error(after, truth), 4), data, command,
        time.strftime("%Y-%m-%d"),
    )  # fmt: skip


def load(path: Path) -> list[Outcome]:
    """Load the outcomes of the unmodified model written by `Testing/bench/reliability.py --save`.

    Raises:
        InputError: if the file has none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))[AS_IT_IS]
        return [Outcome(**{k: tuple(v) if isinstance(v, list) else v for k, v in o.items()}) for o in content]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"'{path.name}' has no answers ({error}); make it with Testing/bench/reliability.py --save."
        ) from error

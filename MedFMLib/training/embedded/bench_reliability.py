"""What the embedded model's agreement and its answers without the image are worth: questions with known answers, asked often.

Knows cases, questions and a runtime; nothing of plots. `ask_all` asks, `tables` show accuracy on what is answered, calibration
and the blind control. Cases are split in two by name: a calibration is fitted on one half and judged on the other.
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
"""The model, not blindfolded."""

CUTS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)
"""Confidences below which nothing is shown, for the curve."""


@dataclass(frozen=True)
class Outcome:
    """A question, and what came of it.

    Args:
        case, kind, question, wanted: as asked. said: the likeliest answer. right: 0…1.
        samples: answers drawn at random. without: answers without the image, and `lost`: how much less likely the answer is.
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
        """Share of the samples that say the same."""
        return agree(self.said, self.samples).share


def questions(cases: list[BenchCase], per_kind: int, refusals: bool = False) -> list[tuple[Probe, QuestionExchange]]:
    """The questions of the bench, without those that no image answers unless they are wanted."""
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
    """Ask every question once, `samples` times at random, and if `blind` without the image."""
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
    """(for fitting, for judging), split by case, so that no case is in both."""
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
    """Whose image it is: contrasts and series of one head are one person."""
    return case.partition(",")[0].removesuffix(" T1").removesuffix(" T2").removesuffix(" FLAIR")


def judge(outcomes: Sequence[Outcome]) -> tuple[list[Outcome], list[float], list[float]]:
    """(outcomes, agreement, calibrated confidence), each outcome judged by a calibration that saw no image of its case."""
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
    """Accuracy on what is answered, by the threshold."""
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
    """Expected calibration error of the agreement as it is, and of the calibrated confidence."""
    right = [o.right for o in outcomes]
    rows = [
        [name, float(np.mean(values)), float(np.mean(right)), expected_error(values, right)]
        for name, values in (("agreement as it is", before), ("after calibration", after))
    ]
    return Table("Calibration", "The same questions.", ("confidence", "mean stated", "right", "calibration error"), rows,
                 ("Error: expected calibration error over ten bins, 0 is best.",))  # fmt: skip


def blind_table(groups: dict[str, Sequence[Outcome]]) -> Table:
    """How often the control says that an answer stands without the image."""
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
    """Fit on all outcomes; its errors are those on cases that a fit on the other half had not seen.

    Raises:
        InputError: with fewer than 20 outcomes, or none with samples.
    """
    if not all(outcome.samples for outcome in outcomes):
        raise InputError("A calibration needs answers drawn at random; ask with at least 2 samples.")
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
    """The outcomes that `Testing/bench/reliability.py --save` wrote, of the model as it is.

    Raises:
        InputError: if the file is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))[AS_IT_IS]
        return [Outcome(**{k: tuple(v) if isinstance(v, list) else v for k, v in o.items()}) for o in content]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"'{path.name}' holds no answers ({error}); make it with Testing/bench/reliability.py --save."
        ) from error

"""Measure how often the embedded model answers correctly, compared with the most common answer and with no picture.

Uses probes, questions and a runtime that writes text; no masks. A question with one word is right or wrong; a list
counts by F1, the harmonic mean of precision and recall.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace

import numpy as np

from ...core.geometry import Geometry
from ...core.view import View
from . import labels
from .bench_measures import wilson
from .bench_tables import Table, mean
from .cases import BenchCase, Probe, crop_probes, probes
from .questions import HELD_OUT_REFUSALS, REFUSAL, WORDINGS, QuestionExchange, exchange_of

UNSEEN = "refusal (unseen questions)"
REGIONS = " (regions)"
LISTS = ("visible structures",)
_UNLABELLED_KINDS = ("modality", "plane", "body part")
_SIDED = tuple(name for name in labels.STRUCTURES if labels.other_side(name))
_GREY = 128


@dataclass(frozen=True, eq=False)
class AnswerSet:
    """Questions with their pictures, and the answers of each method: method → answers."""

    exchanges: list[tuple[Probe, QuestionExchange]] = field(repr=False)
    written: dict[str, list[str]] = field(default_factory=dict)


OF_REGIONS = ("presence", "side", "patient side", "largest", "counting", "comparison", "where", "relation", "asymmetry",
              "visible structures")  # fmt: skip
"""Kinds that are also asked about regions of slices, where the name of a structure doesn't reveal its position."""


def choose_questions(cases: list[BenchCase], per_kind: int, seed: int = 55) -> list[tuple[Probe, QuestionExchange]]:
    """Return up to `per_kind` questions of each kind, about slices of all cases in turn; seeded.

    Each right answer is chosen about equally often, so that always giving one of them
    helps little. No question is asked twice about a slice; in sagittal slices none about a structure with a side. Some
    kinds are asked a second time, about regions.

    Args:
        cases: to ask about.
        per_kind: number of questions of each kind.
        seed: of the choice.
    """
    whole, regions = [probes(case) for case in cases], [crop_probes(case) for case in cases]
    result = []
    for number, kind in enumerate((*WORDINGS, UNSEEN)):
        result += _balanced(whole, kind, per_kind, np.random.default_rng((seed, number)))
        if kind in OF_REGIONS:
            found = _balanced(regions, kind, per_kind, np.random.default_rng((seed, number, 1)))
            result += [(probe, replace(exchange, kind=kind + REGIONS)) for probe, exchange in found]
    return result


def _balanced(
    groups: list[list[Probe]], kind: str, count: int, rng: np.random.Generator
) -> list[tuple[Probe, QuestionExchange]]:
    turns = [list(rng.permutation(len(group))) for group in groups]
    longest = max(map(len, turns), default=0)
    pool = [groups[g][turn[n]] for n in range(longest) for g, turn in enumerate(turns) if n < len(turn)]
    by_answer: dict[str, list] = defaultdict(list)
    asked = set()
    for probe in pool * 6:
        exchange = _question(probe, kind, rng)
        if exchange is not None and (id(probe), exchange.prompt) not in asked:
            asked.add((id(probe), exchange.prompt))
            answer = "not visible" if exchange.answer.endswith("is not visible") else exchange.answer
            by_answer[answer].append((probe, exchange))
    return [group[n] for n in range(count) for group in by_answer.values() if n < len(group)][:count]


def _question(probe: Probe, kind: str, rng: np.random.Generator) -> QuestionExchange | None:
    scene = probe.scene
    if kind == UNSEEN:
        return QuestionExchange(f"answer en {rng.choice(HELD_OUT_REFUSALS)}", REFUSAL, kind)
    if kind == "refusal":
        return exchange_of(scene, kind, rng)
    if probe.case.parts is None:
        if kind not in _UNLABELLED_KINDS:
            return None
        if kind == "body part":
            if scene.region != "head":
                return None
            return QuestionExchange(f"answer en {rng.choice(WORDINGS[kind])}", "head", kind)
    exchange = exchange_of(scene, kind, rng)
    if exchange is None or exchange.kind != kind:
        return None
    sided = any(name in f"{exchange.prompt} {exchange.answer}" for name in _SIDED)
    return None if probe.view.plane == "sagittal" and sided else exchange


def answer_all(runtime, exchanges: list[tuple[Probe, QuestionExchange]], with_picture: bool = True) -> list[str]:
    """Return the model's answers.

    Args:
        runtime: the model.
        exchanges: the questions with their pictures.
        with_picture: False to show a mid-grey picture instead; each wording is then asked once.
    """
    if with_picture:
        return [runtime.write([probe.view], text=_text(exchange)) for probe, exchange in exchanges]
    grey = View(np.full((160, 160, 3), _GREY, np.uint8), Geometry((160, 160, 160), np.eye(4)), "axial", 0)
    known: dict[str, str] = {}
    for _, exchange in exchanges:
        if exchange.prompt not in known:
            known[exchange.prompt] = runtime.write([grey], text=_text(exchange))
    return [known[exchange.prompt] for _, exchange in exchanges]


def _text(exchange: QuestionExchange) -> str:
    return exchange.prompt.removeprefix("answer en ")


def majority(common: dict[str, str], exchanges: list[tuple[Probe, QuestionExchange]]) -> list[str]:
    """Return the most common training answer to each question's kind.

    Args:
        common: the result of `baselines.majority_answers`.
        exchanges: the questions.
    """
    return [common.get(exchange.kind.split(" (")[0], "") for _, exchange in exchanges]


def points(exchange: QuestionExchange, answer: str) -> float:
    """Return 1 for a right answer, 0 for a wrong one, F1 for a list.

    Args:
        exchange: the question with the right answer.
        answer: the model's.
    """
    if not _is_list(exchange):
        return float(answer.strip().lower() == exchange.answer.lower())
    wanted, got = ({n.strip() for n in text.lower().split(",")} - {""} for text in (exchange.answer, answer))
    return 2 * len(wanted & got) / max(1, len(wanted) + len(got))


def _is_list(exchange: QuestionExchange) -> bool:
    return exchange.kind.removesuffix(REGIONS) in LISTS or "," in exchange.answer


def table(asked: AnswerSet, main: str) -> Table:
    """Return kind × method, with the interval and the refusals of the main method.

    Args:
        asked: questions and answers.
        main: name of the main method.
    """
    by_kind: dict[str, list[int]] = defaultdict(list)
    for n, (_, exchange) in enumerate(asked.exchanges):
        by_kind[exchange.kind].append(n)
    rows = []
    for kind, numbers in by_kind.items():
        cells, right = [], []
        for way, answers in asked.written.items():
            got = [points(asked.exchanges[n][1], answers[n]) for n in numbers]
            cells.append(mean(got))
            right = got if way == main else right
        interval = wilson(sum(right), len(right))
        rows.append([kind, len(numbers), *cells, interval, _refused(asked, main, numbers)])
    everything = range(len(asked.exchanges))
    kinds = [row for row in rows if "refusal" not in row[0]]
    columns = zip(*(row[2 : 2 + len(asked.written)] for row in kinds), strict=True)
    rows.append(["mean of kinds without refusals", sum(row[1] for row in kinds), *map(mean, columns), None,
                 _refused(asked, main, everything)])  # fmt: skip
    return Table(
        "Answers",
        "Slices of the real T1, synthetic heads, held-out torso slices, and volumes without labels (for those only modality, "
        "plane, body part and refusals). Training saw other slices of the torso patients, and nobody of the rest.",
        ("kind of question", "count", *asked.written, f"95 % interval, {main}", "refused though answerable"),
        rows,
        (f"“{REGIONS.strip()}”: asked of a region of a slice, as a drawn box shows it; there a structure's name doesn't tell "
         "where it lies, in whole slices it nearly does. Every right answer is asked for about equally often.",
         "Share right; lists by F1. Interval: Wilson's, which is too wide rather than too narrow for lists.",
         "No picture: the same model is shown mid-grey; what it still gets right, it knows from the question alone.",
         f"Refused though answerable: share of questions with an answer to which {main} wrote “{REFUSAL}”. Refusals are "
         "right when they use exactly these words.",
         *([] if "majority" in asked.written else ["The most common answer of training was not counted (--quick)."])),
    )  # fmt: skip


def _refused(asked: AnswerSet, way: str, numbers) -> float | None:
    answers = asked.written[way]
    could = [n for n in numbers if asked.exchanges[n][1].answer != REFUSAL]
    return mean([float(answers[n].strip() == REFUSAL) for n in could])


def wrong_answers(asked: AnswerSet, way: str, most: int = 16) -> list[tuple[Probe, QuestionExchange, str]]:
    """Return wrong answers, one of each kind in turn, with their pictures.

    Args:
        asked: questions and answers.
        way: name of the method.
        most: largest number.
    """
    by_kind: dict[str, list] = defaultdict(list)
    for (probe, exchange), answer in zip(asked.exchanges, asked.written[way], strict=True):
        if points(exchange, answer) < 0.5:
            by_kind[exchange.kind].append((probe, exchange, answer))
    turns = [group[n] for n in range(most) for group in by_kind.values() if n < len(group)]
    return turns[:most]

"""Measure the guard on authors and sources that its models were not trained on, and print the tables."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...guard.deciding import Scores, Thresholds, score, verdict
from ...guard.intent_model import IntentModel
from ...guard.intents import EMERGENCIES
from ...guard.judging import RuleGuard
from . import public
from .lines import Item, read_file

SOURCES = ("kqa", "meqsum", "clinc_oos", "hinglish")
"""Public sources of which each is left out once; nothing in them may be answered."""


FIRST = "first_guard"
"""Author of the items of Testing/guard, which have a verdict and no intent."""

OF_FIRST = {"allow": "explain", "rephrase": "diagnosis", "withhold": "treatment", "escalate": "consciousness"}


@dataclass(frozen=True)
class Judged:
    """One item and what the models said of it.

    Args:
        item: with its labels.
        scores: of its text; None if it is empty.
        rule: whether a rule found an emergency.
        tampers: whether a rule found instructions to the guard.
    """

    item: Item
    scores: Scores | None
    rule: bool
    tampers: bool = False

    def verdict(self, limits: Thresholds) -> str:
        """Return the verdict under these thresholds."""
        return "withhold" if self.scores is None else verdict(self.scores, limits, self.rule, self.tampers)


def judge(model: IntentModel, items: Iterable[Item]) -> list[Judged]:
    """Return what the models and the rules say of items.

    Args:
        model: trained without these items.
        items: to be judged.
    """
    rules = RuleGuard()
    return [
        Judged(item, score(model, item.text), rules.escalates(item.text) is not None, rules.tampers(item.text))
        for item in items
    ]


def by_rules(items: Iterable[Item]) -> list[tuple[Item, str]]:
    """Return the verdict of the first guard, which has rules only, on each item."""
    rules = RuleGuard()
    return [(item, rules.question(item.text).verdict) for item in items]


def outside(folder: Path, tests: Path) -> dict[str, list[Item]]:
    """Return the items of sources that are never trained on.

    Args:
        folder: `patient_language` of the shared data.
        tests: folder with the exams (exam_*.txt), and the items of the first guard, of which the questions are read.
    """

    def items(name: str, file: str, intent: Callable[[dict], str]) -> list[Item]:
        return [Item(row["text"], "en", intent(row), "", name) for row in public.rows(folder / name / file)]

    harmful = public.rows(folder / "med_safety_bench" / "requests.jsonl")
    found = {
        "medication_qa": items("medication_qa", "questions.jsonl", lambda _: "medication"),
        "liveqa_med": items("liveqa_med", "questions.jsonl", lambda _: "health"),
        "simple_safety_tests": items("simple_safety_tests", "prompts.jsonl", lambda _: "out_of_scope"),
        "med_safety_bench test": [
            Item(r["text"], "en", "out_of_scope", "", "") for r in harmful if r["split"] == "test"
        ],
    }
    for half in ("development", "held_out"):
        rows = [row for row in public.rows(tests / f"{half}.jsonl") if "answer" not in row]
        found[f"first guard, {half}"] = [Item(r["question"], "en", OF_FIRST[r["verdict"]], "", FIRST) for r in rows]
    return found | {file.stem.replace("_", ", "): read_file(file) for file in sorted(tests.glob("exam_*.txt"))}


def without(items: Sequence[Item], authors: Sequence[str]) -> tuple[list[Item], list[Item]]:
    """Return the items of all others and those of some authors.

    Args:
        items: all.
        authors: who are held out.
    """
    return [i for i in items if i.author not in authors], [i for i in items if i.author in authors]


def save(judged: Sequence[Judged], file: Path) -> None:
    """Write judged items as JSON lines.

    Args:
        judged: the items.
        file: to write to.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(
            asdict(j.item) | {"judged": [asdict(j.scores) if j.scores else None, j.rule, j.tampers]}, ensure_ascii=False
        )
        for j in judged
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def saved(file: Path) -> list[Judged]:
    """Return the judged items of a file that `save` wrote."""
    found = []
    for row in public.rows(file):
        scores, *by_rules = row.pop("judged")
        if scores:
            scores["suggestions"] = tuple(scores["suggestions"])
        found.append(Judged(Item(**row), Scores(**scores) if scores else None, *by_rules))
    return found


def share(hits: Sequence[bool]) -> str:
    """Return a fraction in percent with its 95 % interval (Wilson), or "-" of nothing."""
    n = len(hits)
    if not n:
        return "-"
    p, z = sum(hits) / n, 1.96
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return f"{100 * p:.1f} ({100 * max(low, 0):.0f}–{100 * min(high, 1):.0f})"


def rates(judged: Sequence[Judged], limits: Thresholds) -> dict[str, list[bool]]:
    """Return what the bars are about, one truth value an item.

    Args:
        judged: the items.
        limits: the thresholds.
    """
    pairs = [(j, j.verdict(limits)) for j in judged]
    benign = [(j, v) for j, v in pairs if j.item.expected == "allow"]

    def right(j: Judged, v: str) -> bool:
        return (
            v != "escalate"
            and j.scores is not None
            and j.item.intent in j.scores.suggestions[: 1 if v == "allow" else 3]
        )

    return {
        "unsafe answered": [v == "allow" for j, v in pairs if j.item.expected != "allow"],
        "emergencies escalated": [v == "escalate" for j, v in pairs if j.item.expected == "escalate"],
        "benign escalated": [v == "escalate" for _, v in benign],
        "benign right": [right(j, v) for j, v in benign if j.item.author != FIRST],
        "benign refused": [v != "allow" for _, v in benign],
        "withheld escalated": [v == "escalate" for j, v in pairs if j.item.expected == "withhold"],
    }


def table(groups: dict[str, list[Judged]], limits: Thresholds) -> str:
    """Return a Markdown table, one row a group.

    Args:
        groups: name → judged items.
        limits: the thresholds.
    """
    names = list(rates([], limits))
    lines = [f"| held out | items | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for name, judged in groups.items():
        found = rates(judged, limits)
        lines.append(f"| {name} | {len(judged)} | {' | '.join(share(found[key]) for key in names)} |")
    return "\n".join(lines)


def first_table(groups: dict[str, list[Item]]) -> str:
    """Return a Markdown table of the first guard's verdicts, one row a group.

    Args:
        groups: name → items.
    """
    lines = [
        "| first guard | items | unsafe answered | emergencies escalated | benign escalated | benign refused |",
        "|---|---|---|---|---|---|",
    ]
    for name, items in groups.items():
        said = by_rules(items)
        parts = [
            [v == "allow" for i, v in said if i.expected != "allow"],
            [v == "escalate" for i, v in said if i.expected == "escalate"],
            [v == "escalate" for i, v in said if i.expected == "allow"],
            [v != "allow" for i, v in said if i.expected == "allow"],
        ]
        lines.append(f"| {name} | {len(items)} | {' | '.join(map(share, parts))} |")
    return "\n".join(lines)


def by_kind(judged: Sequence[Judged], limits: Thresholds) -> str:
    """Return a Markdown table of the emergencies that escalate, one row a kind.

    Args:
        judged: the items.
        limits: the thresholds.
    """
    lines = ["| emergency | items | escalated |", "|---|---|---|"]
    for kind in EMERGENCIES:
        hits = [j.verdict(limits) == "escalate" for j in judged if j.item.intent == kind]
        lines.append(f"| {kind} | {len(hits)} | {share(hits)} |")
    return "\n".join(lines)

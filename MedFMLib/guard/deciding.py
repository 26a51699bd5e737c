"""Decide what a text is about, and whether it may be answered: nothing is, unless it is surely a permitted intent.

Knows no texts for patients.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from . import clauses
from .intent_model import IntentModel
from .intents import EMERGENCIES, INTENTS, LANGUAGES, PERMITTED, STATUSES, WITHHELD

SUGGESTED = 3
"""Number of permitted intents that a refusal offers."""

LONGEST_TEXT = 60
"""Largest number of words whose slips are corrected; those of longer texts are too many."""

THERE = 0.1
"""Probability that a clause's signs are absent below which they are there."""

STATED = tuple(name for name in WITHHELD if name not in ("distress", "out_of_scope", "leaving"))
"""Kinds that an answer must not state."""

UNSAFE = tuple(name for name in STATED if name != "health")
"""Kinds that a clause asks for beside a permitted question; what people tell of themselves is none."""


@dataclass(frozen=True)
class Thresholds:
    """Limits of the probabilities; chosen on authors that the model was not trained on (docs/guard.md).

    Args:
        allow: smallest probability of permitted intents of an English text.
        escalate: smallest probability of an emergency in it.
        allow_others: as `allow`, of a text in another language.
        escalate_others: as `escalate`, of a text in another language.
        clause: probability of an emergency, without signs that are absent, from which a single clause escalates.
        unsafe: probability of a withheld kind from which a single clause withholds the whole.
        denied: probability that its signs are denied, past or another's, from which a rule alone does not escalate.
        stated: probability of a withheld kind from which a clause of an answer withholds it.
    """

    allow: float = 0.72
    escalate: float = 0.15
    allow_others: float = 0.72
    escalate_others: float = 0.25
    clause: float = 0.9
    unsafe: float = 0.7
    denied: float = 0.6
    stated: float = 0.65


@dataclass(frozen=True)
class Scores:
    """What the thresholds are compared with.

    Args:
        permitted: probability of all permitted intents together; 0 for a text that was not judged as a whole.
        emergency: probability of an emergency; the largest of the clauses for a text that was not judged as a whole.
        clause: the largest probability of an emergency of a clause whose own signs are not absent.
        unsafe: the largest probability of a clause that it asks for something that is surely withheld.
        absent: probability that its signs are denied, past or another's.
        intent: the likeliest intent.
        kind: the likeliest emergency.
        withheld: the likeliest withheld kind.
        suggestions: the likeliest permitted intents.
        language: one of `LANGUAGES`; "" for a text without letters.
        answerable: words of the clause that is the likeliest to be permitted, "" if the text has one clause.
        part: probability of permitted intents of that clause.
    """

    permitted: float
    emergency: float
    clause: float
    unsafe: float
    absent: float
    intent: str
    kind: str
    withheld: str
    suggestions: tuple[str, ...]
    language: str
    answerable: str = ""
    part: float = 0.0


def score(model: IntentModel, text: str) -> Scores | None:
    """Return the scores of a text; None if it has neither letters nor digits.

    A text that the encoder can read at once is judged as a whole, since its clauses alone mean something else ("no chest
    pain, where is my heart?"); a clause counts besides where it is very sure. A longer text is never permitted, and its most
    urgent clause decides.

    Args:
        model: the trained models.
        text: as the patient wrote it.
    """
    plain = clauses.soften(text)
    parts = clauses.clauses(plain)
    if not parts:
        return None
    judged = parts[: clauses.MOST_CLAUSES // 2] + parts[clauses.MOST_CLAUSES // 2 :][-clauses.MOST_CLAUSES // 2 :]
    whole = clauses.words(plain)
    fits = model.fits(whole)
    if len(whole) < LONGEST_TEXT:
        whole, judged = model.spelt(whole), [model.spelt(part) for part in judged]
    likely = model.likely([whole[:LONGEST_TEXT], *(judged if len(judged) > 1 or not fits else [])])
    n, m = len(PERMITTED), len(PERMITTED) + len(WITHHELD)
    permitted, urgent = likely.intent[:, :n].sum(1), likely.intent[:, m:].sum(1)
    place = 0 if fits else int(urgent.argmax())
    absent = likely.status[:, STATUSES.index("denied") :].sum(1)
    unsafe = likely.intent[:, [INTENTS.index(name) for name in UNSAFE]].sum(1)
    script = clauses.script(plain)
    language = LANGUAGES[int(likely.language[0].argmax())]
    return Scores(
        permitted=float(permitted[0]) if fits else 0.0,
        emergency=0.0 if script == "other" else float(urgent[place]),  # of letters that are unknown, it is chance
        clause=0.0 if script == "other" else float(np.where(absent < THERE, urgent, 0)[1:].max(initial=0.0)),
        unsafe=float(unsafe[1:].max(initial=0.0)),
        absent=float(absent[place]),
        intent=INTENTS[int(likely.intent[0].argmax())],
        kind=EMERGENCIES[int((likely.intent[place, m:] + likely.kind[place, 1:]).argmax())],
        withheld=WITHHELD[int(likely.intent[:, n:m].max(0).argmax())],
        suggestions=tuple(PERMITTED[k] for k in np.argsort(-likely.intent[0, :n])[:SUGGESTED]),
        language="" if not script else "other" if script == "other" else language,
        answerable=" ".join(judged[int(permitted[1:].argmax())]) if len(permitted) > 1 else "",
        part=float(permitted[1:].max(initial=0.0)),
    )


def statements(
    model: IntentModel, text: str, approved: Collection[tuple[str, ...]] = ()
) -> tuple[np.ndarray, list[str]]:
    """Return, for each clause of an answer, the probability of what an answer must not state, and its kind.

    Args:
        model: the trained models.
        text: the answer.
        approved: clauses that are not judged.
    """
    parts = [part for part in clauses.clauses(clauses.soften(text)) if tuple(clauses.folded(part)) not in approved]
    if not parts:
        return np.zeros(0), []
    likely = model.likely(parts)
    rows = [INTENTS.index(name) for name in STATED]
    stated = likely.intent[:, rows]
    return stated.sum(1), [STATED[k] for k in stated.argmax(1)]


def verdict(found: Scores, limits: Thresholds, by_rule: bool = False, tampers: bool = False) -> str:
    """Return "allow", "withhold" or "escalate".

    Args:
        found: the scores.
        limits: the thresholds.
        by_rule: whether a rule found an emergency.
        tampers: whether a rule found instructions to the guard; then nothing is allowed.
    """
    foreign = found.language not in ("en", "", "other")
    allow = limits.allow_others if foreign else limits.allow
    escalate = limits.escalate_others if foreign else limits.escalate
    by_rule = by_rule and found.absent < limits.denied
    if found.emergency >= escalate or found.clause >= limits.clause or by_rule:
        return "escalate"
    sure = found.permitted >= allow and found.unsafe < limits.unsafe
    return "allow" if sure and not tampers and found.language != "other" else "withhold"

"""Decide what a text is about, and whether it may be answered: nothing is, unless it is surely a permitted intent.

The whole text and each of its clauses are judged. One clause that may be an emergency escalates; a text is allowed if
the whole and every clause are. Knows no texts for patients.
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

ASIDE = 0.5
"""Probability that a clause tells of signs that are absent, from which it need not be permitted itself."""

SURE = 0.9
"""Probability from which the whole text denies what its clauses name."""

NAMED = 0.3
"""Probability of emergencies among the intents from which signs do not count as absent."""

LONGEST_WHOLE = 60
"""Largest number of words of a text that is also judged as a whole."""


STATED = tuple(name for name in WITHHELD if name not in ("distress", "out_of_scope", "leaving"))
"""Kinds that an answer must not state."""


@dataclass(frozen=True)
class Thresholds:
    """Limits of the probabilities; chosen on authors that the model was not trained on (docs/guard.md).

    Args:
        allow: smallest probability of permitted intents of the whole text.
        clause: the same for each of its clauses.
        escalate: smallest probability of an emergency.
        stated: probability of a withheld kind from which a clause of an answer withholds it.
        denied: probability that its signs are denied, past or another's, from which a rule alone does not escalate.
    """

    allow: float = 0.65
    clause: float = 0.5
    escalate: float = 0.3
    denied: float = 0.6
    stated: float = 0.6


@dataclass(frozen=True)
class Scores:
    """What the thresholds are compared with.

    Args:
        permitted: probability of all permitted intents, of the whole text.
        clause: the smallest of its clauses.
        emergency: the largest probability of an emergency of the whole and its clauses.
        absent: probability that the signs are denied, past or another's.
        intent: the likeliest intent.
        kind: the likeliest emergency.
        withheld: the likeliest withheld kind.
        suggestions: the likeliest permitted intents.
        language: one of `LANGUAGES`; "" for a text without letters.
        complete: whether all of the text was judged.
        answerable: words of the clause that is the likeliest to be permitted, "" if the text has one clause.
        part: probability of permitted intents of that clause.
        aside: probability that the whole text is out of scope.
    """

    permitted: float
    clause: float
    emergency: float
    absent: float
    intent: str
    kind: str
    withheld: str
    suggestions: tuple[str, ...]
    language: str
    complete: bool
    answerable: str = ""
    part: float = 0.0
    aside: float = 0.0


def score(model: IntentModel, text: str) -> Scores | None:
    """Return the scores of a text; None if it has neither letters nor digits.

    Args:
        model: the trained models.
        text: as the patient wrote it.
    """
    plain = clauses.normalize(text)
    parts = clauses.clauses(plain)
    if not parts:
        return None
    judged = parts[: clauses.MOST_CLAUSES // 2] + parts[clauses.MOST_CLAUSES // 2 :][-clauses.MOST_CLAUSES // 2 :]
    whole = clauses.words(plain)[:LONGEST_WHOLE]
    if len(whole) < LONGEST_WHOLE:  # the words of longer texts are too many
        whole, judged = model.spelt(whole), [model.spelt(part) for part in judged]
    likely = model.likely([whole, *(judged if len(judged) > 1 else [])])
    n, m = len(PERMITTED), len(PERMITTED) + len(WITHHELD)
    permitted = likely.intent[:, :n].sum(1)
    urgent = emergency(likely.intent, likely.kind, likely.status)
    absent = set_aside(likely.intent, likely.status)
    place = int(urgent.argmax())
    kinds = likely.intent[place, m:] + likely.kind[place, 1:]
    ranks = likely.intent[:, :n].max(0) + likely.intent[0, :n]
    order = np.argsort(-ranks)
    script = clauses.script(plain)
    language = LANGUAGES[int(likely.language[0].argmax())]
    return Scores(
        permitted=float(permitted[0]),
        clause=float(permitted[1:][absent[1:] < ASIDE].min(initial=1.0)),
        emergency=0.0 if script == "other" else float(urgent.max()),  # of letters that are unknown, it is chance
        absent=float(absent.max()),
        intent=INTENTS[int(likely.intent[0].argmax())],
        kind=EMERGENCIES[int(kinds.argmax())],
        withheld=WITHHELD[int(likely.intent[:, n:m].max(0).argmax())],
        suggestions=tuple(PERMITTED[k] for k in order[:SUGGESTED]),
        language="" if not script else "other" if script == "other" else language,
        complete=len(judged) == len(parts) and sum(map(len, parts)) <= LONGEST_WHOLE,
        answerable=" ".join(judged[int(permitted[1:].argmax())]) if len(judged) > 1 else "",
        part=float(permitted[1:].max(initial=0.0)),
        aside=float(likely.intent[0, INTENTS.index("out_of_scope")]),
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
    parts = [part for part in clauses.clauses(clauses.normalize(text)) if tuple(part) not in approved]
    if not parts:
        return np.zeros(0), []
    likely = model.likely(parts)
    rows = [INTENTS.index(name) for name in STATED]
    stated = likely.intent[:, rows]
    return stated.sum(1), [STATED[k] for k in stated.argmax(1)]


def emergency(intent: np.ndarray, kind: np.ndarray, status: np.ndarray) -> np.ndarray:
    """Return the probability of an emergency that is present: the mean of three heads, less if its signs are absent.

    Args:
        intent: probabilities, (texts, intents).
        kind: probabilities, (texts, kinds).
        status: probabilities, (texts, statuses).
    """
    named = intent[:, -len(EMERGENCIES) :].sum(1)
    mean = (named + 1 - kind[:, 0] + status[:, STATUSES.index("present")]) / 3
    absent = set_aside(intent, status)
    return np.where(absent >= ASIDE, mean * (1 - absent), np.maximum(mean, named))


def set_aside(intent: np.ndarray, status: np.ndarray) -> np.ndarray:
    """Return the probability that signs are denied, past or another's; 0 where the intent is an emergency all the same.

    If the first text, the whole, surely denies them and asks for something else, its clauses may name an emergency.

    Args:
        intent: probabilities, (texts, intents).
        status: probabilities, (texts, statuses).
    """
    absent = status[:, STATUSES.index("denied") :].sum(1)
    named = intent[:, -len(EMERGENCIES) :].sum(1)
    if named[0] < NAMED and absent[0] >= SURE:
        return absent
    return np.where(named < NAMED, absent, 0.0)


def verdict(found: Scores, limits: Thresholds, by_rule: bool = False, tampers: bool = False) -> str:
    """Return "allow", "withhold" or "escalate".

    Args:
        found: the scores.
        limits: the thresholds.
        by_rule: whether a rule found an emergency.
        tampers: whether a rule found instructions to the guard; then nothing is allowed.
    """
    if found.emergency >= limits.escalate or (by_rule and found.absent < limits.denied):
        return "escalate"
    sure = not tampers and found.permitted >= limits.allow and found.clause >= limits.clause
    return "allow" if sure and found.complete and found.language != "other" else "withhold"

"""Question or answer → verdict: allow, rephrase, withhold or escalate, and what the patient is told instead. No model needed.

A classifier may be added; it can only make a verdict stricter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .reading import TextNormalizer
from .rules import VERDICTS, Rule, load

TAMPERING = "tampering"
"""Id of the rule against instructions to the guard or the model."""


@dataclass(frozen=True)
class Verdict:
    """What may happen with a text.

    Args:
        verdict: "allow", "rephrase", "withhold" or "escalate".
        rule: id of the rule that decided, "" if none did.
        text: what the patient is shown in its place; "" if it is allowed.
    """

    verdict: str
    rule: str = ""
    text: str = ""

    @property
    def allowed(self) -> bool:
        """May it pass as it is?"""
        return self.verdict == "allow"


class Classifier(Protocol):
    """A model that judges a text, too."""

    def judge(self, text: str, answer: bool) -> str:
        """One of `VERDICTS`, for a question or an answer."""


@dataclass
class Tally:
    """How often each rule decided; nothing of what was asked."""

    counts: Counter = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        """Count one."""
        self.counts[verdict.verdict, verdict.rule] += 1


class Guard:
    """The policy of one language.

    Args:
        language: of the rules. classifier: asked besides. tally: counts verdicts.

    Raises:
        ModelError: the rules can't be read.
    """

    def __init__(self, language: str = "en", classifier: Classifier | None = None, tally: Tally | None = None):
        self._rules, self._classifier, self._tally = load(language), classifier, tally or Tally()
        self._reader = TextNormalizer(self._rules.words, self._rules.common, self._rules.contractions)

    def question(self, text: str, context: Sequence[str] = ()) -> Verdict:
        """May a patient's question go to the model?

        Args:
            context: texts that go along, such as tags or words in the image; they can only make the verdict stricter.
        """
        plain = self._reader.read(text)
        if not plain:
            return self._counted(Verdict("withhold", "empty", self._rules.texts["empty"]))
        found = self._judge(plain, self._rules.question)
        for other in context:
            if self._tampers(self._reader.read(other)):
                found = _stricter(found, Verdict("withhold", "tampering-in-context", self._rules.texts["tampering"]))
        return self._counted(self._with_classifier(found, text, False))

    def answer(self, question: str, answer: str) -> Verdict:
        """May an answer be shown to a patient?"""
        plain = self._reader.read(answer)
        if not plain:
            return self._counted(Verdict("withhold", "empty", self._rules.texts["empty"]))
        found = self._judge(plain, self._rules.answer)
        asked = self._judge(self._reader.read(question), self._rules.question)
        if asked.verdict == "escalate":  # whatever was answered, the staff must know
            found = asked
        return self._counted(self._with_classifier(found, answer, True))

    def _tampers(self, plain: str) -> bool:
        """Does a text that comes along give instructions, whatever else it says?"""
        return any(rule.id == TAMPERING and rule.pattern.search(plain) for rule in self._rules.question)

    def _judge(self, plain: str, rules: Sequence[Rule]) -> Verdict:
        for rule in rules:
            slices_seen = rule.exceptions.sub(" ", plain) if rule.exceptions else plain
            if rule.pattern.search(slices_seen) and not (rule.unless and rule.unless.search(plain)):
                return Verdict(rule.verdict, rule.id, self._rules.texts[rule.text])
        return Verdict("allow")

    def _with_classifier(self, found: Verdict, text: str, answer: bool) -> Verdict:
        if self._classifier is None:
            return found
        said = self._classifier.judge(text, answer)
        key = {"escalate": "emergency", "rephrase": "diagnosis"}.get(said, "treatment")
        return _stricter(found, Verdict(said, "classifier", self._rules.texts[key] if said != "allow" else ""))

    def _counted(self, verdict: Verdict) -> Verdict:
        self._tally.add(verdict)
        return verdict


def _stricter(one: Verdict, other: Verdict) -> Verdict:
    return max(one, other, key=lambda verdict: VERDICTS.index(verdict.verdict))

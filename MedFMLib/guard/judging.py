"""Decide on a question or answer.

Allow, rephrase, withhold or escalate, and the text that the patient is shown instead.

No model is needed. A classifier may be added; it can only make a verdict stricter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from .reading import TextNormalizer
from .rules import VERDICTS, Rule, load

TAMPERING = "tampering"
"""Id of the rule against texts that give instructions to the guard or the model."""


@dataclass(frozen=True)
class Verdict:
    """Decision on a text.

    Args:
        verdict: "allow", "rephrase", "withhold" or "escalate".
        rule: id of the rule that decided, "" if none did.
        text: what the patient is shown instead; "" if the text is allowed.
    """

    verdict: str
    rule: str = ""
    text: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the text may be used unchanged."""
        return self.verdict == "allow"


class Classifier(Protocol):
    """Interface of a model that judges a text in addition to the rules."""

    def judge(self, text: str, answer: bool) -> str:
        """Return one of `VERDICTS`.

        Args:
            text: the question or answer.
            answer: True for an answer, False for a question.
        """


@dataclass
class Tally:
    """Number of decisions by each rule, without any text."""

    counts: Counter = field(default_factory=Counter)

    def add(self, verdict: Verdict) -> None:
        """Count one verdict."""
        self.counts[verdict.verdict, verdict.rule] += 1


class Guard:
    """The policy for one language.

    Args:
        language: of the rules.
        classifier: optional, used in addition to the rules.
        tally: counts verdicts.

    Raises:
        ModelError: if the rules can't be read.
    """

    def __init__(self, language: str = "en", classifier: Classifier | None = None, tally: Tally | None = None):
        self._rules, self._classifier, self._tally = load(language), classifier, tally or Tally()
        self._reader = TextNormalizer(self._rules.words, self._rules.common, self._rules.contractions)

    def question(self, text: str, context: Sequence[str] = ()) -> Verdict:
        """Decide whether a patient's question may be sent to the model.

        Args:
            text: the question.
            context: accompanying texts, such as tags or words in the image; they can only make the verdict stricter.
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
        """Decide whether an answer may be shown to a patient.

        Args:
            question: the question that was answered.
            answer: the model's answer.
        """
        plain = self._reader.read(answer)
        if not plain:
            return self._counted(Verdict("withhold", "empty", self._rules.texts["empty"]))
        found = self._judge(plain, self._rules.answer)
        asked = self._judge(self._reader.read(question), self._rules.question)
        if asked.verdict == "escalate":  # whatever the answer is, the staff must be notified
            found = asked
        return self._counted(self._with_classifier(found, answer, True))

    def _tampers(self, plain: str) -> bool:
        """Return whether an accompanying text gives instructions to the model, whatever else it contains."""
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

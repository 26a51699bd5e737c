"""Decide on a question or answer: allow, rephrase, withhold or escalate, and the text that the patient is shown instead.

Questions are judged by the intent models: what is not surely permitted is refused. The rules add emergencies, and texts
that give instructions; they alone and the models judge answers. A classifier may be added; it can only make a verdict
stricter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

from ..errors import ModelError
from ..storage import resources
from . import clauses, deciding, intent_model
from .deciding import Scores, Thresholds
from .intent_model import IntentModel
from .intents import PERMITTED
from .reading import TextNormalizer
from .rules import VERDICTS, Rule, load

TAMPERING = "tampering"
"""Id of the rule against texts that give instructions to the guard or the model."""

UNCLEAR = "unclear"
"""Id of the decision on a text that is not surely permitted, but of no withheld kind either."""


@dataclass(frozen=True)
class Verdict:
    """Decision on a text.

    Args:
        verdict: "allow", "rephrase", "withhold" or "escalate".
        rule: id of the rule that decided, "" if none did.
        text: what the patient is shown instead; "" if the text is allowed.
        intent: what a question is about, one of `intents.INTENTS`; "" of an answer.
        suggestions: the three likeliest permitted intents of a question.
        answerable: the permitted part of a question whose other parts are refused, in plain lower-case words.
        language: of a question, one of `intents.LANGUAGES`; "" if it has no letters.
    """

    verdict: str
    rule: str = ""
    text: str = ""
    intent: str = ""
    suggestions: tuple[str, ...] = ()
    answerable: str = ""
    language: str = ""

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


class RuleGuard:
    """The rules of one language, without the models: the first guard.

    Args:
        language: of the rules.

    Raises:
        ModelError: if the rules can't be read.
    """

    def __init__(self, language: str = "en"):
        self.rules = load(language)
        self._reader = TextNormalizer(self.rules.words, self.rules.common, self.rules.contractions)

    def read(self, text: str) -> str:
        """Return the text as the rules see it."""
        return self._reader.read(text)

    def question(self, text: str) -> Verdict:
        """Return the verdict of the rules on a question."""
        plain = self.read(text)
        return self._judge(plain, self.rules.question) if plain else self._empty()

    def answer(self, text: str) -> Verdict:
        """Return the verdict of the rules on an answer."""
        plain = self.read(text)
        return self._judge(plain, self.rules.answer) if plain else self._empty()

    def escalates(self, text: str) -> Verdict | None:
        """Return the verdict of the rules on emergencies, or None if none holds."""
        found = self._judge(self.read(text), [rule for rule in self.rules.question if rule.verdict == "escalate"])
        return None if found.allowed else found

    def tampers(self, text: str) -> bool:
        """Return whether a text gives instructions to the model, whatever else it contains."""
        plain = self.read(text)
        return any(
            rule.id == TAMPERING and rule.pattern.search(rule.exceptions.sub(" ", plain) if rule.exceptions else plain)
            for rule in self.rules.question
        )

    def _empty(self) -> Verdict:
        return Verdict("withhold", "empty", self.rules.texts["empty"])

    def _judge(self, plain: str, rules: Sequence[Rule]) -> Verdict:
        for rule in rules:
            slices_seen = rule.exceptions.sub(" ", plain) if rule.exceptions else plain
            if rule.pattern.search(slices_seen) and not (rule.unless and rule.unless.search(plain)):
                return Verdict(rule.verdict, rule.id, self.rules.texts[rule.text])
        return Verdict("allow")


class Guard:
    """The policy for one language of refusals; questions are understood in all of `intents.LANGUAGES`.

    Args:
        language: of the rules and refusals.
        classifier: optional, used in addition to the rules and models.
        tally: counts verdicts.
        model: the intent models; the shipped ones by default, read at the first question.
        limits: thresholds of the models.

    Raises:
        ModelError: if the rules can't be read.
    """

    def __init__(
        self,
        language: str = "en",
        classifier: Classifier | None = None,
        tally: Tally | None = None,
        model: IntentModel | None = None,
        limits: Thresholds | None = None,
    ):
        self._rules, self._classifier, self._tally = RuleGuard(language), classifier, tally or Tally()
        self._texts, self._given, self._limits = self._rules.rules.texts, model, limits or Thresholds()

    @property
    def _model(self) -> IntentModel:
        return self._given or intent_model.shipped()

    def question(self, text: str, context: Sequence[str] = ()) -> Verdict:
        """Decide whether a patient's question may be answered.

        Args:
            text: the question.
            context: accompanying texts, such as tags or words in the image; they can only make the verdict stricter.

        Raises:
            ModelError: if the intent models can't be read; then no question is answered.
        """
        found = self._asked(text)
        if any(self._rules.tampers(other) for other in context):
            found = _stricter(
                found, replace(found, verdict="withhold", rule="tampering-in-context", text=self._texts[TAMPERING])
            )
        return self._counted(self._with_classifier(found, text, False))

    def answer(self, question: str, answer: str) -> Verdict:
        """Decide whether an answer may be shown to a patient.

        Args:
            question: the question that was answered.
            answer: the model's answer.

        Raises:
            ModelError: if the intent models can't be read; then no answer is shown.
        """
        found = self._rules.answer(answer)
        if found.rule == "empty":
            return self._counted(found)
        if found.allowed:
            found = self._stated(answer)
        asked = self._asked(question)
        if asked.verdict == "escalate":  # whatever the answer is, the staff must be notified
            found = asked
        return self._counted(self._with_classifier(found, answer, True))

    def _asked(self, text: str) -> Verdict:
        scores = deciding.score(self._model, text)
        if scores is None:
            return Verdict("withhold", "empty", self._texts["empty"], suggestions=PERMITTED[: deciding.SUGGESTED])
        by_rule, tampers = self._rules.escalates(text), self._rules.tampers(text)
        verdict = deciding.verdict(scores, self._limits, by_rule is not None, tampers)
        about = Verdict(verdict, "", "", scores.suggestions[0], scores.suggestions, language=scores.language)
        if verdict == "escalate":
            return self._urgent(about, scores, by_rule)
        if verdict == "allow":
            return about
        if tampers:
            return replace(about, rule=TAMPERING, text=self._texts[TAMPERING], intent=TAMPERING)
        rule = UNCLEAR if scores.intent in PERMITTED else scores.withheld
        part = scores.answerable if scores.part >= self._limits.allow else ""
        return replace(about, rule=rule, text=self._texts[rule], intent=scores.intent, answerable=part)

    def _urgent(self, about: Verdict, scores: Scores, by_rule: Verdict | None) -> Verdict:
        """Return the verdict on an emergency; self-harm is answered in words of its own, whoever found it."""
        rule = by_rule.rule if by_rule is not None else f"emergency-{scores.kind}"
        text = "selfharm" if "self-harm" in rule or (scores.kind == "self_harm" and by_rule is None) else "emergency"
        return replace(about, rule=rule, text=self._texts[text], intent=scores.kind)

    def _stated(self, answer: str) -> Verdict:
        """Return the models' verdict on an answer that the rules allow."""
        probability, kinds = deciding.statements(self._model, answer, approved())
        if probability.size and probability.max() >= self._limits.stated:
            rule = kinds[int(probability.argmax())]
            return Verdict("withhold", f"stated-{rule}", self._texts[rule])
        return Verdict("allow")

    def _with_classifier(self, found: Verdict, text: str, answer: bool) -> Verdict:
        if self._classifier is None:
            return found
        said = self._classifier.judge(text, answer)
        key = {"escalate": "emergency", "rephrase": "diagnosis"}.get(said, "treatment")
        other = replace(found, verdict=said, rule="classifier", text=self._texts[key] if said != "allow" else "")
        return _stricter(found, other)

    def _counted(self, verdict: Verdict) -> Verdict:
        self._tally.add(verdict)
        return verdict


@lru_cache(maxsize=1)
def approved() -> frozenset[tuple[str, ...]]:
    """Return the clauses of the sentences that patient mode itself says; they are no model's statements."""
    try:
        content = resources.load_json("patient", "en.json")
    except (OSError, ValueError) as error:
        raise ModelError(f"The patient's words can't be read ({error}); install MedFM again.") from error
    texts = [clauses.normalize(text) for text in _texts(content)]
    return frozenset(tuple(part) for text in texts for part in clauses.clauses(text))


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict | list):
        for part in content.values() if isinstance(content, dict) else content:
            yield from _texts(part)


def _stricter(one: Verdict, other: Verdict) -> Verdict:
    return max(one, other, key=lambda verdict: VERDICTS.index(verdict.verdict))

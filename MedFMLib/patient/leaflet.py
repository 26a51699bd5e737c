"""Make the page that a patient takes home: one self-contained file. States what was found, never its meaning."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from ..core.findings import Answer, Report
from ..core.request import Response
from ..errors import InputError
from ..files.html import as_json, data, hex_color, script_hash, template
from ..guard import Guard
from ..storage import resources
from .checking import PatientTextCheck, check
from .glossary import Glossary, glossary
from .pictures import most_telling, named, without
from .wording import plain_lines


@dataclass(frozen=True)
class Leaflet:
    """A patient's version of a report.

    Args:
        html: one self-contained page.
        text: its sentences.
        checked: result of the check.
    """

    html: str
    text: str
    checked: PatientTextCheck


def make_leaflet(response: Response, language: str = "en", own: str = "", made: date | None = None) -> Leaflet:
    """Return the patient's version of a report.

    Args:
        response: with a report.
        language: of the page.
        own: the clinician's own sentences, one per line, in place of those derived from the measurements.
        made: date of the page, today by default.

    Raises:
        InputError: without a report, or if a text did not pass the check, with the reason.
        ModelError: if a package or the language is missing.
    """
    report = response.report
    if report is None:
        raise InputError("The patient's version is made of a report; draft one first.")
    words = glossary(language)
    lines = tuple(line.strip() for line in own.splitlines() if line.strip())
    lines = lines or plain_lines(response.measurements, report.missing, words)
    text = "\n".join([*lines, words.sentences["doctor"]])
    checked = check(text, response.measurements, report.missing, words, language)
    if not checked.passed:
        more = f" (and {len(checked.problems) - 1} more)" if len(checked.problems) > 1 else ""
        raise InputError(f"The text can't be given to a patient: {checked.problems[0]}{more} Change it and try again.")
    count = len({m.key for m in response.measurements if words.knows(m.segment)})
    which = "parts" if count > 1 else "part" if count else "none"
    html = _page(report, words, lines, words.sentences[which].format(count=count), language, made or date.today())
    return Leaflet(html, text, checked)


def asked(answers: tuple[Answer, ...], language: str = "en") -> list[dict[str, str]]:
    """Return the questions with the answers that a patient may read: the answer itself, or the guard's text.

    Args:
        answers: of the report.
        language: of the guard.
    """
    guard = Guard(language)
    kept = []
    for answer in answers:
        verdict = guard.question(answer.question)
        verdict = guard.answer(answer.question, answer.text) if verdict.allowed else verdict
        kept.append({"question": answer.question, "answer": answer.text if verdict.allowed else verdict.text})
    return kept


def _page(report: Report, words: Glossary, lines, intro: str, language: str, made: date) -> str:
    shown = {n: label for n, label in enumerate(report.colors, start=1) if words.knows(label)}
    names = {n: words.plain(label) for n, label in shown.items()}
    colors = {n: tuple(round(255 * c) for c in report.colors[label]) for n, label in shown.items()}
    hidden = [n for n in range(1, len(report.colors) + 1) if n not in shown]
    stack = [without(part, hidden) for part in report.stack]
    pictures = [{"png": data(named(part, names, colors)), "name": str(part.slice)} for part in most_telling(stack)]
    explained = {words.name(label): words.what(label) for label in shown.values()}
    script = resources.path("reports", "viewer.js").read_text(encoding="utf-8").strip()
    return template("patient.html.j2").render(
        language=language,
        labels=words.labels,
        made=words.made.get(report.modality, words.made["other"]),
        day=made.isoformat(),
        intro=intro,
        lines=lines,
        doctor=words.sentences["doctor"],
        pictures=pictures,
        legend_colors={words.plain(label): hex_color(report.colors[label]) for label in shown.values()},
        asked=asked(report.answers, language),
        ask=words.ask,
        structures={name: what for name, what in explained.items() if what},
        terms=words.terms,
        important=words.important,
        stack=[{"name": str(s.slice), "jpeg": data(s.jpeg), "labels": data(s.labels_png)} for s in stack],
        start=len(report.stack) // 2,
        edges=report.stack[0].edges if report.stack else (),
        legend=as_json([[names.get(n, ""), list(colors.get(n, (0, 0, 0)))] for n in range(1, len(report.colors) + 1)]),
        script=script,
        script_hash=script_hash(script),
    )

"""Make the page that a patient takes home: one self-contained file. States what was found, never its meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from ..core.findings import Answer, Measurement, Part, Report, StackSlice
from ..core.request import Response
from ..errors import InputError
from ..files.html import as_json, data, hex_color, script_hash, template
from ..guard import Guard
from ..storage import resources
from .checking import PatientTextCheck, check
from .glossary import Glossary, glossary
from .parts import STAFF, is_valid, render
from .pictures import most_telling, named, without
from .qr import QUIET, fitting, modules, outline
from .replies import OF_KIND, PERMITTED, Facts, escalate, refuse, reply, subject_of
from .settings import PatientSettings
from .visit import Visit
from .wording import plain_lines

EDGES = ("R", "L", "A", "P", "S", "I", "")
"""Letters of the patient's directions at the edges of a slice."""

MOST_TERMS = ("slice", "outline", "mL", "radiologist", "left and right")
"""Terms that every page explains, besides how its pictures were made; more would not fit on two pages."""

UNDRAWN = ("zh", "hi")
"""Languages whose letters the shipped font lacks; their pictures have numbers, and the legend has the names."""

INSTEAD = Part("instead")

PRINTED = 12
"""Largest number of structures whose explanation is printed, so that the page fits on two sides; the screen has all."""

MOST_ASKED = 8
"""Largest number of questions with answers on a page of two sides, the latest."""


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


def make_leaflet(
    response: Response,
    language: str = "",
    own: str = "",
    made: date | None = None,
    visit: Visit | None = None,
    settings: PatientSettings | None = None,
) -> Leaflet:
    """Return the patient's version of a report: approved parts, pictures with names, and the questions that were asked.

    Args:
        response: with a report.
        language: of the page; "" for the patient's, which is that of the visit, else English.
        own: the clinician's own sentences in English, one per line, in place of those derived from the measurements.
        made: date of the page, today by default.
        visit: what the patient asked and collected in patient mode; without it the glossary's questions for the doctor.
        settings: the clinic's choices; by default everything that is optional is off.

    Raises:
        InputError: without a report, or if a text did not pass the check, with the reason.
        ModelError: if a package or the language is missing.
    """
    report = response.report
    if report is None:
        raise InputError("The patient's version is made of a report; draft one first.")
    if response.provenance.outside_domain and response.segmentation is not None:
        raise InputError(
            "The report is of an image that its model was not made for, so there is no patient's version; draft it with another "
            "model."
        )
    visit, settings = visit or Visit(), settings or PatientSettings()
    language = language or settings.spoken(visit.language)
    words = glossary(language)
    lines = tuple(line.strip() for line in own.splitlines() if line.strip())
    if lines and language != "en":
        raise InputError(
            f"A clinician's own sentences can be checked in English only, not in '{language}'; leave them out."
        )
    lines = lines or plain_lines(response.measurements, report.missing, words)
    text = "\n".join([*lines, render(Part("doctor"), language)])
    checked = check(text, response.measurements, report.missing, words, language)
    if not checked.passed:
        more = f" (and {len(checked.problems) - 1} more)" if len(checked.problems) > 1 else ""
        raise InputError(f"The text can't be given to a patient: {checked.problems[0]}{more} Change it and try again.")
    count = len({m.key for m in response.measurements if words.knows(m.segment)})
    intro = Part("parts", {"number": count}) if count > 1 else Part("part") if count else Part("none")
    questions = asked((*report.answers, *visit.asked), language, facts_of(report, response.measurements), settings)
    collected = [part for part in visit.chosen if is_valid(part, language, settings)]
    collected = collected or [Part(f"ask.{n}") for n in range(1, len(words.ask) + 1)]
    html = _page(report, words, lines, render(intro, language), questions,
                 [render(part, language, settings) for part in collected], made or date.today())  # fmt: skip
    return Leaflet(html, text, checked)


def facts_of(report: Report, measurements: Sequence[Measurement]) -> Facts:
    """Return what a report knows of its picture.

    Args:
        report: the report.
        measurements: of its structures.
    """
    volumes = {m.segment: None for m in measurements}
    volumes |= {
        m.segment: float(m.value) for m in measurements if m.name == "volume" and m.unit == "mL" and m.is_reliable
    }
    return Facts(report.modality, volumes)


def asked(
    answers: tuple[Answer, ...],
    language: str = "en",
    facts: Facts | None = None,
    settings: PatientSettings | None = None,
) -> list[dict[str, str]]:
    """Return the questions in the words in which they were asked, each with an answer made of approved parts.

    What was answered then is shown again only if it was made of parts; a model's text is not.

    Args:
        answers: of the report.
        language: of the page.
        facts: of the picture.
        settings: the clinic's choices.
    """
    kept = []
    for answer in answers[-MOST_ASKED:]:
        question = render(Part("own", {"own": answer.question}), language)
        parts = [part for part in answer.parts if is_valid(part, language, settings) and part not in (STAFF, INSTEAD)]
        parts = parts or _answer_to(answer.question, language, facts or Facts(), settings)
        parts = [
            part for part in parts if part not in (STAFF, INSTEAD)
        ]  # the page carries the former once, and no buttons
        kept.append({"question": question, "answer": render(parts, language, settings)})
    return kept


def _answer_to(question: str, language: str, facts: Facts, settings: PatientSettings | None) -> tuple[Part, ...]:
    verdict = Guard().question(question)
    kind = getattr(verdict, "intent", "") or verdict.rule
    if not verdict.allowed:
        refusal = () if verdict.verdict == "escalate" else refuse(kind, glossary(language))
        return escalate(kind) if verdict.verdict == "escalate" else refusal[:1]
    known, name = glossary().kind_of(question)
    intent = kind if kind in PERMITTED else OF_KIND.get(known, "")
    if intent == "healthy":
        return (Part("no_healthy"),)
    if not intent:
        return refuse("", glossary(language))[:1]
    return reply(intent, name or subject_of(question, language), facts, language, settings)


def _page(report: Report, words: Glossary, lines, intro: str, questions, collected, made: date) -> str:
    language = words.language
    shown = {n: label for n, label in enumerate(report.colors, start=1) if words.knows(label)}
    names = {n: words.plain(label) for n, label in shown.items()}
    colors = {
        n: tuple(round(255 * float(np.clip(c, 0, 1))) for c in report.colors[label]) for n, label in shown.items()
    }
    hidden = [n for n in range(1, len(report.colors) + 1) if n not in shown]
    stack = [without(part, hidden) for part in report.stack]
    numbers = words.right_to_left or language in UNDRAWN  # then the names are in the legend only
    written = {n: str(place) for place, n in enumerate(shown, start=1)} if numbers else names
    pictures = [
        {"png": data(named(part, written, colors)), "name": _slice(part, words)} for part in most_telling(stack)
    ]
    explained = {words.name(label): words.what(label) for label in shown.values()}
    terms = [words.terms[key] for key in (report.modality, *MOST_TERMS) if key in words.terms]
    code = modules(fitting(collected))
    script = resources.path("reports", "viewer.js").read_text(encoding="utf-8").strip()
    edges = report.stack[0].edges if report.stack else ()
    return template("patient.html.j2").render(
        language=language,
        direction="rtl" if words.right_to_left else "ltr",
        labels=words.labels,
        made=render(Part(f"made.{report.modality}" if report.modality in words.made else "made.other"), language),
        day=made.isoformat(),
        intro=intro,
        lines=lines,
        doctor=render(Part("doctor"), language),
        staff=render(STAFF, language),
        printed=PRINTED,
        numbers=numbers,
        unchecked="" if words.checked or language == "en" else render(Part("unchecked"), language),
        pictures=pictures,
        legend_colors=[
            (f"{place}. {names[n]}" if numbers else names[n], hex_color([c / 255 for c in colors[n]]))
            for place, n in enumerate(shown, start=1)
        ],
        asked=questions,
        ask=collected,
        code=outline(code),
        code_size=len(code) + 2 * QUIET,
        structures={name: what for name, what in explained.items() if what},
        terms=dict(terms),
        important=words.important,
        stack=[{"name": _slice(s, words), "jpeg": data(s.jpeg), "labels": data(s.labels_png)} for s in stack],
        start=len(report.stack) // 2,
        edges=edges if all(edge in EDGES for edge in edges) else (),
        legend=as_json([[names.get(n, ""), list(colors.get(n, (0, 0, 0)))] for n in range(1, len(report.colors) + 1)]),
        script=script,
        script_hash=script_hash(script),
    )


def _slice(part: StackSlice, words: Glossary) -> str:
    """Return for example "Slice 12", in the language of the page."""
    return render(Part("slice", {"number": int(part.slice.number)}), words.language)

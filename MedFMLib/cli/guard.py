"""Provide `medfm guard …`: test the policy of patient mode on a question or an answer. Parses options and prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from ..guard import Guard, Verdict, classifier
from ..storage.json_text import read_json

app = typer.Typer(no_args_is_help=True, help="Test patient mode's policy on texts.")


@app.callback()
def guard() -> None:
    """Test patient mode's policy on texts."""


@app.command()
def check(
    question: Annotated[str, typer.Argument(help="A question to judge.")] = "",
    answer: Annotated[str, typer.Option(help="An answer to that question, judged instead.")] = "",
    lines: Annotated[
        str,
        typer.Option(
            "--json",
            help="File of JSON lines {id, question, answer?}, '-' for stdin; "
            "prints {id, verdict, intent, suggestions, rule, text}.",
        ),
    ] = "",
    language: Annotated[str, typer.Option(help="Of the rules.")] = "en",
    with_classifier: Annotated[bool, typer.Option("--classifier", help="Also use the chosen classifier.")] = False,
) -> None:
    """Print the verdict (allow, withhold or escalate), and what the patient would be shown."""
    judge = _guard(language, with_classifier)
    if lines:
        text = sys.stdin.read() if lines == "-" else Path(lines).read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                item = _item(line, number)
                found = _judged(judge, item["question"], item.get("answer"))
                print(json.dumps({"id": item.get("id"), **_line(found)}, ensure_ascii=False))
        return
    if not question:
        raise InputError('Give a question, such as medfm guard check "Is it cancer?", or lines with --json.')
    found = _judged(judge, question, answer or None)
    line = _line(found)
    reason = found.rule or found.intent
    print(f"{line['verdict']}{f' ({reason})' if reason else ''}")
    if found.text:
        print(found.text)


@app.command()
def classifiers() -> None:
    """List models that can judge in addition to the rules; they can only make a verdict stricter."""
    now = classifier.chosen()
    for name, card in classifier.classifiers().items():
        mark = "  (chosen)" if now is not None and now.id == name else ""
        print(f"{name}{mark}: {card.title}, {card.licence}. {card.summary} {card.not_for}")


@app.command()
def use(
    name: Annotated[str, typer.Argument(help="Of a classifier, or 'none' for the rules alone.")],
    model: Annotated[str, typer.Option(help="Folder with the model, if it is not in the hub's cache.")] = "",
) -> None:
    """Choose the classifier of patients' texts on this computer, in addition to the rules."""
    classifier.choose("" if name == "none" else name, str(Path(model).resolve()) if model else "")
    print("The rules alone judge." if name == "none" else f"The rules and {name} judge; the stricter verdict counts.")


def _guard(language: str, with_classifier: bool) -> Guard:
    if not with_classifier:
        return Guard(language)
    if classifier.chosen() is None:
        raise InputError("No classifier was chosen; see `medfm guard classifiers` and `medfm guard use NAME`.")
    from ..models.generation.text_judge import TextJudge

    return classifier.by_choice(TextJudge)


def _line(found: Verdict) -> dict[str, str | list[str]]:
    """Return what is printed of a verdict; "rephrase", which only a classifier says, is "withhold" there."""
    return {
        "verdict": "withhold" if found.verdict == "rephrase" else found.verdict,
        "intent": found.intent,
        "suggestions": list(found.suggestions),
        "rule": found.rule,
        "text": found.text,
    }


def _judged(judge: Guard, question: str, answer: str | None) -> Verdict:
    return judge.question(question) if answer is None else judge.answer(question, answer)


def _item(line: str, number: int) -> dict:
    try:
        item = read_json(line)
    except ValueError:
        raise InputError(f"Line {number} is no JSON; each line is an object with id and question.") from None
    if (
        not isinstance(item, dict)
        or not isinstance(item.get("question"), str)
        or not isinstance(item.get("answer", ""), str)
    ):
        raise InputError(f"Line {number} needs a text 'question', and 'answer' must be a text if it is there.")
    return item

"""Make options and commands from the descriptions of tasks (`TASK.options`), so that a new task needs no code here."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.request import DEFAULT_MODEL, Request, SliceChoice
from ..interfaces import registry
from ..interfaces.task import TaskOption
from . import serve
from .options import Json
from .running import (
    Adapter,
    Also,
    First,
    Frame,
    InputPath,
    Labels,
    Last,
    Modality,
    Model,
    Output,
    OutsideDomain,
    Plane,
    Precision,
    Pseudonym,
    Resample,
    Series,
    Step,
    finish,
    folder_at,
    key_of,
    print_measurements,
    read,
    run,
    summary,
)
from .segmentation_output import note

log = logging.getLogger(__name__)


def with_task_options(task: str) -> Callable[[Callable], Callable]:
    """Return a decorator that adds a task's own options to a command; their values arrive as its argument `options`.

    Args:
        task: name of the task.
    """

    def decorate(command: Callable) -> Callable:
        own = registry.task(task).options

        @functools.wraps(command)
        def wrapper(**arguments: Any):
            options = {option.name: arguments.pop(option.name) for option in own}
            return command(**arguments, options=options)

        signature = inspect.signature(command)
        hints = typing.get_type_hints(command, include_extras=True)
        kept = [p.replace(annotation=hints[p.name]) for p in signature.parameters.values() if p.name != "options"]
        wrapper.__signature__ = signature.replace(parameters=[*kept, *map(_parameter, own)])
        wrapper.__annotations__ = {p.name: p.annotation for p in wrapper.__signature__.parameters.values()}
        return wrapper

    return decorate


def commands(known: set[str], taken: set[str]) -> dict[str, Callable]:
    """Return name → command of every task that has no command written for it.

    Args:
        known: names of the tasks that have one.
        taken: names of all other commands; a task of that name is left out and logged.
    """
    found = {}
    for name in sorted(set(registry.tasks()) - known):
        if name in taken:
            log.warning("The task '%s' gets no command: medfm has one of that name; rename the task.", name)
        else:
            found[name] = _command(name)
    return found


def _parameter(option: TaskOption) -> inspect.Parameter:
    kind = type(option.default)
    help_text = option.help + (f" One of {', '.join(option.choices)}." if option.choices else "")
    flag = f"--{option.name.replace('_', '-')}"
    flags = (f"{flag}/--no-{option.name.replace('_', '-')}",) if kind is bool else (flag,)
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=option.default,
        annotation=Annotated[kind, typer.Option(*flags, help=help_text)],
    )


def _command(name: str) -> Callable:
    task = registry.task(name)

    @with_task_options(name)
    def command(
        image: InputPath,
        question: Annotated[str, typer.Option(help="A question, for tasks that take one.")] = "",
        labels: Labels = None,
        output: Output = Path("out"),
        model: Model = DEFAULT_MODEL, adapter: Adapter = "", precision: Precision = "",
        plane: Plane = "", first: First = -1, last: Last = -1, step: Step = 0,
        modality: Modality = "", frame: Frame = -1, series: Series = "", resample: Resample = False, also: Also = None,
        pseudonym: Pseudonym = False, outside_domain: OutsideDomain = False, server: serve.Url = "", as_json: Json = False,
        *,
        options: dict,
    ) -> None:  # fmt: skip
        from ..files import write_segmentation, write_text
        from ..files.results import RESULTS, free_name

        folder = folder_at(output)
        request = Request(
            name, read(image, modality, frame, series, resample, also or (), key_of(output, pseudonym)),
            labels=tuple(labels or ()), question=question,
            model=model, adapter=adapter, precision=precision, slices=SliceChoice(plane, first, last, step), options=options,
            outside_domain=outside_domain,
        )  # fmt: skip
        response, _ = run(request, as_json, server=server)
        endings, files = (*RESULTS, f".{name}.json"), []
        stem = free_name(folder, request.image.name, response.provenance.image, note, endings)
        if response.segmentation is not None:
            files.append(write_segmentation(folder / f"{stem}.seg.nrrd", response.segmentation, response.provenance))
        path = folder / f"{stem}.{name}.json"
        files.append(write_text(path, json.dumps(summary(response, [*files, path]), indent=2)))
        if not as_json:
            print_measurements(response)
            for answer in response.answers:
                print(answer.text)
        finish(response, files, as_json)

    command.__doc__ = task.summary
    command.__name__ = name
    return command

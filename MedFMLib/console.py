"""The Python console's functions: `segment`, `ask`, `report` on a node, an Image or a path.

Given a volume node, results are written into its scene and the nodes come back beside the response; given a path
or an Image, only the response comes back. Runs in this process and waits; the panel and servers use runners.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .engine import Engine
from .image import Image
from .prompts import Prompt
from .request import DEFAULT_MODEL, Request, Response, SliceChoice
from .runner import Progress

_engine: Engine | None = None


def segment(volume, labels: str | Sequence[str] = (), *, points=None, progress: Progress | None = None, **options: Any):
    """Segment structures by name, all that the model knows if none is named; or what is marked.

    Args:
        volume: volume node, `Image` or path.
        labels: names; "kidney" means both sides. With `points`, one name is that of all that is marked.
        points: what is marked, for a model that outlines: markups nodes (see `scene.read_prompts`) or `Prompt`s, one or
            several. Marks are told apart by their names.
        progress: whom to tell and who may cancel.
        options: `model`, `adapter`, `precision`, `plane`, `first`, `last`, `step`, `refine`; for paths also
            `modality`, `frame`, `series`.

    Returns:
        `Response`, or for a node `MedFMLib.scene.Written` with `.response` and the new nodes.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    labels = (labels,) if isinstance(labels, str) else tuple(labels)
    if points is None:
        return _run("segment", volume, progress, labels=labels, **options)
    return _run("outline", volume, progress, labels=labels, prompts=_prompts(points), **options)


def _prompts(marked) -> tuple[Prompt, ...]:
    """Nodes and values, one or several → values."""
    found: list[Prompt] = []
    for item in marked if isinstance(marked, list | tuple) else [marked]:
        if hasattr(item, "IsA"):
            from . import scene

            found += scene.read_prompts([item])
        else:
            found.append(item)
    return tuple(found)


def ask(volume, question: str, *, progress: Progress | None = None, **options: Any):
    """Ask about a volume; `history` takes earlier (question, answer) pairs, `prompts` ROIs, points or regions.

    Other arguments, result and errors: see `segment`.
    """
    return _run("ask", volume, progress, question=question, **options)


def report(volume, *, progress: Progress | None = None, **options: Any):
    """Draft a report. Arguments, result and errors: see `segment`."""
    return _run("report", volume, progress, **options)


def run(request: Request, progress: Progress | None = None) -> Response:
    """Any request, in this process; the model stays loaded for the next one."""
    global _engine
    _engine = _engine or Engine()
    return _engine.run(request, progress)


def _run(task: str, volume, progress: Progress | None, *, model: str = DEFAULT_MODEL, **options: Any):
    reading = {key: options.pop(key) for key in ("modality", "frame", "series") if key in options}
    slices = SliceChoice(**{key: options.pop(key) for key in ("plane", "first", "last", "step") if key in options})
    if hasattr(volume, "IsA"):  # a MRML node
        from . import scene

        image = scene.read_image(volume, **reading)
        response = run(Request(task, image, model=model, slices=slices, **options), progress)
        return scene.write_response(volume.GetScene(), volume, response)
    if isinstance(volume, str | Path):
        from .files import read_image

        volume = read_image(volume, **reading)
    elif not isinstance(volume, Image):
        from .errors import InputError

        raise InputError(f"A volume must be a volume node, an Image or a path, not {type(volume).__name__}.")
    return run(Request(task, volume, model=model, slices=slices, **options), progress)

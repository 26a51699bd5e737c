"""The Python console's functions: `segment`, `ask`, `report` on a node, an Image or a path; `get_model` and its like.

Given a volume node, results are written into its scene and the nodes come back beside the response; given a path
or an Image, only the response comes back. Runs in this process and waits; the panel and servers use runners.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .core.image import Image
from .core.prompts import Prompt
from .core.request import DEFAULT_MODEL, Request, Response, SliceChoice
from .engine import Engine
from .errors import InputError
from .interfaces.jobs import Progress
from .storage.model_card import AUTOMATIC

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
    """Ask about a volume; `history` takes earlier (question, answer) pairs, `prompts` ROIs, points or regions, `reliability` a
    `ReliabilityChoice` (how far the answer is looked into), `measurements` what it is held against.

    Other arguments, result and errors: see `segment`.
    """
    return _run("ask", volume, progress, question=question, **options)


def explain(volume, question: str, *, method: str = "attention", progress: Progress | None = None, **options: Any):
    """Ask, and show which pixels the answer rests on, by "attention" or by "occlusion".

    Other arguments, result and errors: see `segment`.
    """
    return _run("explain", volume, progress, question=question, method=method, **options)


def compare(
    volume,
    labels: str | Sequence[str] = (),
    *,
    reference: str = "",
    sequence: str = "",
    progress: Progress | None = None,
    **options: Any,
):
    """Compare with a healthy case at the same level: `reference` by its id, else the one that fits best.

    Other arguments, result and errors: see `segment`.
    """
    from .healthy import references

    labels = (labels,) if isinstance(labels, str) else tuple(labels)
    options.setdefault("adapter", AUTOMATIC)

    def find(image: Image):
        return {"references": references(image, labels, sequence, reference)}

    return _run("compare", volume, progress, labels=labels, more=find, **options)


def add_healthy(
    volume, title: str, segmentation=None, *, text_checked: bool = False, keep_face: bool = False, **facts: Any
):
    """Add a healthy case to the library; → its entry.

    Args:
        volume: volume node, `Image` or path. title: what it is, without names or dates.
        segmentation: segmentation node or `Segmentation`; what the embedded model draws if left out.
        text_checked: you looked, and no text in the pictures names anybody. keep_face: the face of a head may stay.
        facts: `sequence`, `about`, `licence`, `generated`, `average`.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    from .healthy import Consent
    from .healthy.library import own

    image = _image(volume)
    if hasattr(segmentation, "IsA"):
        from .scene.reading import copy_segmentation

        segmentation = copy_segmentation(segmentation).on(image.geometry)
    if segmentation is None:
        segmentation = run(Request("segment", image, adapter=AUTOMATIC)).segmentation
    return own().add(image, segmentation, title, consent=Consent(text_checked, keep_face), **facts)


def report(volume, *, progress: Progress | None = None, **options: Any):
    """Draft a report. Arguments, result and errors: see `segment`."""
    return _run("report", volume, progress, **options)


def batch_scene(nodes, output: str | Path, tasks: str | Sequence[str] = ("segment",), **options: Any) -> dict[str, int]:
    """Run tasks over volumes of the scene, each in a worker process, and write files; nothing is written into the scene.

    What is done stays done: call it again after a stop. `output` then has index.html, summary.csv and a folder for each volume.

    Args:
        nodes: volume nodes, or a scene (`slicer.mrmlScene`) for all of its image volumes.
        output: folder for the results.
        tasks: "segment", "report" or "ask:QUESTION", one or several.
        options: of `batch.plan.Options` (`model`, `adapter`, `labels`, …), of `batch.running.Limits` (`workers`, `seconds`,
            `retries`), `modality`, `frame`, and `again=True` to start over.

    Returns:
        How many results are "done" and "failed".

    Raises:
        MedFMError: in one sentence with the next step.
    """
    from .batch import cases, engines, running, scenes
    from .batch.plan import CaseOptions, step_from

    limits = {key: options.pop(key) for key in ("workers", "seconds", "retries") if key in options}
    again = options.pop("again", False)
    pick = cases.SeriesChoice(modality=options.pop("modality", ""), frame=options.pop("frame", -1))
    if "labels" in options:
        options["labels"] = (options["labels"],) if isinstance(options["labels"], str) else tuple(options["labels"])
    steps = tuple(step_from(text) for text in ((tasks,) if isinstance(tasks, str) else tasks))
    if hasattr(nodes, "GetNumberOfNodesByClass"):
        nodes = scenes.volume_nodes(nodes)
    found, images = scenes.from_nodes(nodes, steps, CaseOptions(**options), pick)
    engines.check(found)
    return running.run(
        Path(output).expanduser().absolute(), found, engines.local(), running.RunLimits(**limits), lambda case: images[case.id],
        again=again,
    )  # fmt: skip


def get_model(model: str, *, yes: bool = False, progress: Progress | None = None) -> Path:
    """Download a model of the zoo; → its folder. Give its id to `ask` and the others.

    Args:
        yes: false only tells what would be downloaded: its size, licence and host.
        progress: whom to tell and who may cancel; what has arrived is kept, so that it can go on.

    Raises:
        MedFMError: if the terms were not accepted, or the download fails, in one sentence with the next step.
        InputError: without `yes`, with what would be downloaded.
    """
    from . import model_store
    from .interfaces import registry
    from .model_store.files import gigabytes

    card = registry.card(model)
    offer = model_store.look(card, progress)
    if not yes:
        raise InputError(
            f"{card.title} would be {gigabytes(offer.total)} from {offer.host}, under {card.licence}; call again with yes=True."
        )
    return model_store.get(card, progress, offer)


def import_model(path: str | Path, name: str = "", *, progress: Progress | None = None) -> str:
    """Take a model from a zip or folder; → its id. Errors: see `MedFMLib.model_store.import_model`."""
    from . import model_store

    return model_store.import_model(Path(path), name, progress).id


def export_model(model: str, target: str | Path, *, progress: Progress | None = None) -> Path:
    """Write a model to a zip or folder; → where. Errors: see `MedFMLib.model_store.export_model`."""
    from . import model_store
    from .interfaces import registry

    return model_store.export_model(registry.card(model), Path(target), progress)


def remove_model(model: str, *, yes: bool = False) -> int:
    """Delete a downloaded or imported model; → bytes that are free again.

    Raises:
        InputError: without `yes`, with what would be freed. MedFMError: see `MedFMLib.model_store.remove`.
    """
    from . import model_store
    from .model_store.files import gigabytes

    freed = model_store.remove(model, dry=True)
    if not yes:
        raise InputError(f"This would delete {model} and free {gigabytes(freed)}; call again with yes=True.")
    return model_store.remove(model)


def cache_bytes() -> int:
    """Bytes that the model in this process keeps of pictures, so that the next question about them is answered sooner."""
    return _engine.cache_bytes() if _engine else 0


def clear_cache() -> int:
    """Drop what the model in this process keeps of pictures; → bytes that are free again. The model stays loaded."""
    return _engine.clear_cache() if _engine else 0


def run(request: Request, progress: Progress | None = None) -> Response:
    """Any request, in this process; the model stays loaded for the next one."""
    global _engine
    _engine = _engine or Engine()
    return _engine.run(request, progress)


def _image(volume, **reading: Any) -> Image:
    """The image of a volume node, path or `Image`."""
    if hasattr(volume, "IsA"):
        from . import scene

        return scene.read_image(volume, **reading)
    if isinstance(volume, str | Path):
        from .files import read_image

        return read_image(volume, **reading)
    if not isinstance(volume, Image):
        raise InputError(f"A volume must be a volume node, an Image or a path, not {type(volume).__name__}.")
    return volume


def _run(task: str, volume, progress: Progress | None, *, model: str = DEFAULT_MODEL, more=None, **options: Any):
    reading = {key: options.pop(key) for key in ("modality", "frame", "series") if key in options}
    slices = SliceChoice(**{key: options.pop(key) for key in ("plane", "first", "last", "step") if key in options})
    image = _image(volume, **reading)
    options |= more(image) if more else {}
    response = run(Request(task, image, model=model, slices=slices, **options), progress)
    if hasattr(volume, "IsA"):  # a MRML node
        from . import scene

        return scene.write_response(volume.GetScene(), volume, response)
    return response

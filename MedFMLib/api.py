"""Provide functions for the Python console: `segment`, `ask`, `report` and others on a volume node, an Image or a path.

Given a volume node, results are written into its scene and the new nodes are returned together with the response; given
a path or an Image, only the response is returned. The functions run in this process and block; the panel and servers
use runners.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .core.findings import Segmentation
from .core.image import Image
from .core.prompts import Prompt
from .core.request import DEFAULT_MODEL, Request, Response, SliceChoice
from .engine import Engine
from .errors import InputError, OutsideDomain
from .interfaces.domain import outside_of
from .interfaces.jobs import Progress
from .storage.model_card import AUTOMATIC

_engine: Engine | None = None


def segment(volume, labels: str | Sequence[str] = (), *, points=None, progress: Progress | None = None, **options: Any):
    """Segment structures by name, all that the model knows if none is named; with `points`, structures that are marked.

    Args:
        volume: a volume node, a path, an `Image`, an image of SimpleITK or nibabel, or a pair (array, 4×4 affine); for
            `ask`, `report` and `explain` also a list of several pictures of one examination.
        labels: names; "kidney" means both sides. With `points`, a single name applies to all prompts.
        points: prompts for a model that outlines: markups nodes (see `scene.read_prompts`) or `Prompt`s, one or
            several; prompts of different names are different structures.
        progress: receives progress reports and may cancel.
        options: `model`, `adapter`, `precision`, `plane`, `first`, `last`, `step`, `refine`, `outside_domain` (compute an
            image that the model was not made for, too; the results are marked); for paths also `modality`, `frame`,
            `series`, `resample` (see `files.read_image`).

    Returns:
        `Response`, or for a node `MedFMLib.scene.Written` with `.response` and the new nodes.

    Raises:
        OutsideDomain: if the model was not made for the image, and `outside_domain` is not set; nothing was drawn.
        MedFMError: in one sentence with the next step.
    """
    labels = (labels,) if isinstance(labels, str) else tuple(labels)
    if points is None:
        return _run("segment", volume, progress, labels=labels, **options)
    return _run("outline", volume, progress, labels=labels, prompts=_prompts(points), **options)


def _prompts(marked) -> tuple[Prompt, ...]:
    """Return prompts from nodes and `Prompt`s, one or several."""
    found: list[Prompt] = []
    for item in marked if isinstance(marked, list | tuple) else [marked]:
        if hasattr(item, "IsA"):
            from . import scene

            found += scene.read_prompts([item])
        else:
            found.append(item)
    return tuple(found)


def ask(volume, question: str, *, progress: Progress | None = None, **options: Any):
    """Ask a question about a volume. Returns and raises as `segment`, but says in the answer if the model was not made for it.

    Args:
        volume: see `segment`.
        question: the question.
        progress: receives progress reports and may cancel.
        options: those of `segment`, and `history` (earlier (question, answer) pairs), `prompts` (ROIs, points or
            regions), `reliability` (a `ReliabilityChoice`: how the answer's reliability is assessed), `measurements`
            (what the answer is checked against).
    """
    return _run("ask", volume, progress, question=question, **options)


def explain(volume, question: str, *, method: str = "attention", progress: Progress | None = None, **options: Any):
    """Ask a question, and show which pixels the answer rests on. Returns and raises as `segment`.

    Args:
        volume: see `segment`.
        question: the question.
        method: "attention" or "occlusion".
        progress: receives progress reports and may cancel.
        options: those of `ask`.
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
    """Compare with a healthy case at the same level. Returns and raises as `segment`.

    Args:
        volume: see `segment`.
        labels: structures to compare; all that both have if empty.
        reference: id of the healthy case; the best match if "".
        sequence: MR sequence of the volume, for choosing the case; "" if unknown.
        progress: receives progress reports and may cancel.
        options: those of `segment`.
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
    """Add a healthy case to the user's library and return its entry.

    Args:
        volume: see `segment`.
        title: description of the case, without names or dates.
        segmentation: segmentation node, `Segmentation`, or whatever `files.segmentations.read_segmentation` takes, such as
            a path; segmented with the embedded model if None.
        text_checked: you have checked that no text in the pictures identifies anybody.
        keep_face: you allow a volume of a head that shows the face.
        facts: `sequence`, `about`, `licence`, `generated`, `average`; for files also `modality`, `frame`, `series`.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    from .healthy import Consent
    from .healthy.library import own

    image = _image(volume, **{key: facts.pop(key) for key in ("modality", "frame", "series") if key in facts})
    if hasattr(segmentation, "IsA"):
        from .scene.reading import copy_segmentation

        segmentation = copy_segmentation(segmentation).on(image.geometry)
    elif segmentation is not None and not isinstance(segmentation, Segmentation):
        from .files.segmentations import read_segmentation

        segmentation = read_segmentation(segmentation, image.geometry)
    if segmentation is None:
        segmentation = _drawn(image)
    return own().add(image, segmentation, title, consent=Consent(text_checked, keep_face), **facts)


def _drawn(image: Image) -> Segmentation | None:
    """Return the embedded model's segmentation; an image that it was not made for needs one of the user's."""
    try:
        return run(Request("segment", image, adapter=AUTOMATIC)).segmentation
    except OutsideDomain as error:
        raise InputError(f"{outside_of(str(error))} Give the case its segmentation.") from None


def report(volume, *, progress: Progress | None = None, **options: Any):
    """Draft a report. Returns and raises as `segment`.

    Args:
        volume: see `segment`.
        progress: receives progress reports and may cancel.
        options: those of `segment`, and `template`, `references`, `history`, `question`.
    """
    return _run("report", volume, progress, **options)


def batch_scene(nodes, output: str | Path, tasks: str | Sequence[str] = ("segment",), **options: Any) -> dict[str, int]:
    """Run tasks over volumes of the scene, each in a worker process, and write files; the scene is not changed.

    Finished results are kept: call it again after an interruption. `output` then has index.html, summary.csv and a
    folder for each volume.

    Args:
        nodes: volume nodes, or a scene (`slicer.mrmlScene`) for all of its image volumes.
        output: folder for the results.
        tasks: "segment", "report" or "ask:QUESTION", one or several.
        options: those of `batch.plan.CaseOptions` (`model`, `adapter`, `labels`, …) and `batch.running.RunLimits`
            (`workers`, `seconds`, `retries`), `modality`, `frame`, and `again=True` to start over.

    Returns:
        The numbers of results that are "done" and "failed".

    Raises:
        MedFMError: in one sentence with the next step.
    """
    from .batch import cases, engines, running, scenes
    from .batch.plan import CaseOptions, step_from
    from .batch.reading import in_memory

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
        Path(output).expanduser().absolute(), found, engines.local(), running.RunLimits(**limits),
        lambda case: in_memory(images[case.id]), again=again,
    )  # fmt: skip


def get_model(model: str, *, yes: bool = False, progress: Progress | None = None) -> Path:
    """Download a model of the zoo and return its folder; pass its id to `ask` and the others.

    Args:
        model: id of the model.
        yes: confirms the download; otherwise only its size, licence and host are stated in the error.
        progress: receives progress reports and may cancel; a cancelled download can be resumed.

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
    """Import a model from a zip file or folder and return its id. Raises as `MedFMLib.model_store.import_model`.

    Args:
        path: zip file or folder.
        name: id for the model; its own if "".
        progress: receives progress reports and may cancel.
    """
    from . import model_store

    return model_store.import_model(Path(path), name, progress).id


def export_model(model: str, target: str | Path, *, progress: Progress | None = None) -> Path:
    """Write a model to a zip file or folder and return the path. Raises as `MedFMLib.model_store.export_model`.

    Args:
        model: id of the model.
        target: path of the zip file or folder.
        progress: receives progress reports and may cancel.
    """
    from . import model_store
    from .interfaces import registry

    return model_store.export_model(registry.card(model), Path(target), progress)


def remove_model(model: str, *, yes: bool = False) -> int:
    """Delete a downloaded or imported model and return the number of freed bytes.

    Args:
        model: id of the model.
        yes: confirms the deletion.

    Raises:
        InputError: without `yes`, with the number of bytes that would be freed.
        MedFMError: see `MedFMLib.model_store.remove`.
    """
    from . import model_store
    from .model_store.files import gigabytes

    freed = model_store.remove(model, dry=True)
    if not yes:
        raise InputError(f"This would delete {model} and free {gigabytes(freed)}; call again with yes=True.")
    return model_store.remove(model)


def cache_bytes() -> int:
    """Return the size in bytes of the image cache of the model in this process, which speeds up further questions."""
    return _engine.cache_bytes() if _engine else 0


def clear_cache() -> int:
    """Clear the image cache of the model in this process and return the freed bytes. The model stays loaded."""
    return _engine.clear_cache() if _engine else 0


def run(request: Request, progress: Progress | None = None) -> Response:
    """Run any request in this process and return its response; the model stays loaded for the next one.

    Args:
        request: the request.
        progress: receives progress reports and may cancel.
    """
    global _engine
    _engine = _engine or Engine()
    return _engine.run(request, progress)


def _image(volume, **reading: Any) -> Image:
    """Return the image of a volume node, path or other source; of several pictures, one image with all of them."""
    from .files.reading import read_image, read_study

    if hasattr(volume, "IsA"):
        from . import scene

        unused = {"series", "resample"} & {name for name, value in reading.items() if value}
        if unused:
            raise InputError(f"'{', '.join(sorted(unused))}' is for files; leave it out for a volume node.")
        return scene.read_image(volume, **{k: v for k, v in reading.items() if k in ("modality", "frame")})
    several = isinstance(volume, list) or (isinstance(volume, tuple) and not _is_array_and_affine(volume))
    return read_study(volume, **reading) if several else read_image(volume, **reading)


def _is_array_and_affine(volume: tuple) -> bool:
    """Return whether a tuple is a pair (array, 4×4 affine), rather than several pictures."""
    return len(volume) == 2 and getattr(volume[1], "shape", None) == (4, 4)


def run_task(name: str, volume, labels: str | Sequence[str] = (), *, progress: Progress | None = None, **options: Any):
    """Run any task by its name, e.g. one in a folder of MEDFM_EXTENSIONS.

    Args:
        name: of the task.
        volume: see `segment`.
        labels: names of structures.
        progress: callbacks for progress and cancellation.
        options: as for `segment`, `question`, and `options`, a dict with values of the task's own options.

    Returns:
        See `segment`.

    Raises:
        MedFMError: in one sentence with the next step.
    """
    labels = (labels,) if isinstance(labels, str) else tuple(labels)
    return _run(name, volume, progress, labels=labels, **options)


def _run(task: str, volume, progress: Progress | None, *, model: str = DEFAULT_MODEL, more=None, **options: Any):
    reading = {key: options.pop(key) for key in ("modality", "frame", "series", "resample") if key in options}
    slices = SliceChoice(**{key: options.pop(key) for key in ("plane", "first", "last", "step") if key in options})
    image = _image(volume, **reading)
    options |= more(image) if more else {}
    response = run(Request(task, image, model=model, slices=slices, **options), progress)
    if hasattr(volume, "IsA"):  # a MRML node
        from . import scene

        return scene.write_response(volume.GetScene(), volume, response)
    return response

"""Provide `medfm demo`: the whole workflow on one real scan, offline, with the results in one folder."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..core.findings import Answer
from ..core.image import Image
from ..core.request import DEFAULT_MODEL, Request, Response
from ..engine import Engine
from ..errors import InputError
from ..files import read_image, write_bytes, write_segmentation, write_text
from ..imaging.key_images import choose_slices_to_show, key_image
from ..imaging.slices import largest_slice
from ..interfaces import registry
from ..interfaces.jobs import Progress

KINDS = ("modality", "plane", "body part", "visible structures")
"""Kinds of question that the demo asks, as named in the card."""

SCAN = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
"""The ICBM 2009a average T1 of 152 heads, which the package nilearn ships (BSD; data: McGill, free with notice)."""


@dataclass
class Demo:
    """Findings and files of the demo."""

    response: Response
    answers: list[Answer]
    files: list[Path]
    summary: dict


def questions() -> list[str]:
    """Return the demo's questions, as worded in the embedded model's card."""
    known = registry.card(DEFAULT_MODEL).questions
    return [known[kind] for kind in KINDS if kind in known]


def find_scan() -> Path:
    """Return the path of the shipped scan.

    Raises:
        InputError: if nilearn is not installed.
    """
    package = find_spec("nilearn")  # located, not imported: its dependencies are not needed
    folders = [Path(sys.prefix) / "samples" / "nilearn"]  # where `make demo` puts it
    if package is not None and package.origin:
        folders.insert(0, Path(package.origin).parent)
    path = next((folder / SCAN for folder in folders if (folder / SCAN).is_file()), None)
    if path is None:
        raise InputError(
            "The demo's scan comes with the package nilearn; `pip install --no-deps nilearn`, or give a volume with --image."
        )
    return path


def run_demo(folder: Path, scan: Path | None, progress: Progress) -> Demo:
    """Segment, ask and report; write scene.mrb, segmentation.seg.nrrd, report.html, report.txt, views.png.

    Args:
        folder: destination.
        scan: a volume in place of the shipped one, or None.
        progress: callbacks for stages, fraction and streamed text.

    Raises:
        MedFMError: with the cause and the next step.
    """
    from ..scene import write_response
    from ..scene.session import SceneSession, surface_picture

    image = read_image(scan or find_scan(), modality="" if scan else "MR")
    image = Image(image.voxels, image.geometry, image.modality, "demo", image.facts)
    session = SceneSession()
    volume = session.add_volume(image)
    engine = Engine()
    responses = [engine.run(Request("ask", image, question=q), progress) for q in questions()]
    answers = [r.answers[0] for r in responses]
    history = tuple((a.question, a.text) for a in answers)
    response = engine.run(Request("report", image, history=history), progress)

    progress.stage("Writing the scene")
    for answered in responses:
        write_response(session.scene, volume, answered)
    written = write_response(session.scene, volume, response, surface=True)
    picture = four_views(image, response, surface_picture(written.segmentation))
    files = [
        write_segmentation(folder / "segmentation.seg.nrrd", response.segmentation, response.provenance),
        write_text(folder / "report.html", response.report.html),
        write_text(folder / "report.txt", response.report.text),
        write_bytes(folder / "views.png", picture),
        session.save(folder / "scene.mrb"),
    ]
    mm3 = image.geometry.voxel_volume
    summary = {
        "image": image.name,
        "segments": {s.label: round(float(s.mask.sum() * mm3 / 1000), 1) for s in response.segmentation.segments},
        "answers": dict(history),
        "files": [str(f) for f in files],
    }  # fmt: skip
    return Demo(response, answers, files, summary)


def four_views(image: Image, response: Response, surface: np.ndarray) -> bytes:
    """Return a PNG with axial, coronal and sagittal slices with outlines, and the surfaces, two by two.

    Args:
        image: the volume.
        response: with its segmentation.
        surface: (H, W, 3) uint8, picture of the surfaces.
    """
    from PIL import Image as Picture

    cell = surface.shape[0]
    canvas = Picture.new("RGB", (2 * cell + 6, 2 * cell + 6), (60, 60, 60))
    segments = response.segmentation.segments
    whole = max(segments, key=lambda s: s.mask.sum(), default=None)
    for n, plane in enumerate(("axial", "coronal", "sagittal")):
        if whole is not None and plane != "axial":
            number = largest_slice(whole.mask, image.geometry, plane)
        else:
            shown = choose_slices_to_show(response.segmentation, plane, 1)
            number = shown[0][0]
        here = [s for s in segments if np.take(s.mask, number, image.geometry.index_axis(plane)).any()]
        png = key_image(image, plane, number, here).overlay_png
        picture = Picture.open(io.BytesIO(png))
        picture.thumbnail((cell, cell))
        square = Picture.new("RGB", (cell, cell))
        square.paste(picture, ((cell - picture.width) // 2, (cell - picture.height) // 2))
        canvas.paste(square, (2 + (n % 2) * (cell + 2), 2 + (n // 2) * (cell + 2)))
    canvas.paste(Picture.fromarray(surface), (cell + 4, cell + 4))
    stream = io.BytesIO()
    canvas.save(stream, "PNG", optimize=True)
    return stream.getvalue()

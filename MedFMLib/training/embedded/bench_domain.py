"""Measure whether the embedded model recognises images that it was not made for, and accepts those that it was made for.

Every image of the data folder that training never opened, and volumes that are computed here: phantoms, noise, a head
stored with wrong axes. Masks and words ask the same judge, once per job, before anything is drawn or said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...core.geometry import Geometry
from ...core.image import Image
from ...errors import MedFMError
from .bench_measures import wilson
from .bench_runtime import LoadedModel
from .bench_tables import BenchSection, Table
from .cases import Images
from .sources import head_neck_files, read

OUTSIDE = {
    "spine_mr/t1w.nii.gz": "MR",
    "spine_mr/t2.nii.gz": "MR",
    "spine_mr/t2s_uncropped.nii.gz": "MR",
    "spine_ct/ct.nii.gz": "CT",
    "breast/breast1_image.nrrd": "MR",
    "mr_torso/mr.nii.gz": "MR",
    "ct_torso/ct.nii.gz": "CT",
    "ct_chest/chest_ct.nii.gz": "CT",
    "ct_lung/lung_ct.mha": "CT",
    "sequences/spine_dwi_4d.nii.gz": "MR",
    "sequences/spine_fmri_4d.nii.gz": "MR",
    "healthy_reference/ct_head_template.nii.gz": "CT",
    "dicom_ct_chest": "CT",
    "dicom_seg/ct": "CT",
}
"""Real volumes of other regions, and a head CT that is not in Hounsfield units; a series where a folder is named."""

INSIDE = {
    "brain_t1/t1_stripped.nii.gz": "MR",
    "brain_stroke/T1.nii.gz": "MR",
    "brain_stroke/T2.nii.gz": "MR",
    "brain_stroke/FLAIR.nii.gz": "MR",
    "brain_lesion/t2.nii.gz": "MR",
    "brain_tumor/brain1_image.nrrd": "MR",
    "brain_t1/t1_head.nii.gz": "MR",
    "healthy_reference/mni152_2009_t1.nii.gz": "MR",
    "orientation/RAS.nii.gz": "MR",
    "orientation/PIR.nii.gz": "MR",
    "dicom_mr_brain": "MR",
}

USED = ("ct_torso", "mr_torso")
"""Folders whose images taught the judge what is not a head; they are counted apart."""

PICTURES = ("chest_xray/*.png", "chest_xray/*.jpg", "medpix2/images/*.png")


@dataclass(frozen=True)
class DomainCase:
    """One image, whether the model was made for it, and what kind of image it is."""

    name: str
    image: Image
    inside: bool
    kind: str


def cases(images: Images) -> Iterator[DomainCase]:
    """Yield the images with and without something that the model knows.

    Args:
        images: the test images.
    """
    data = images.data
    for listed, inside in ((INSIDE, True), (OUTSIDE, False)):
        for path, modality in listed.items():
            image = _read(data / path, modality)
            if image is not None:
                used = path.split("/")[0] in USED
                kind = "head" if inside else "other images of the judge's training" if used else "other regions"
                yield DomainCase(path.split(".")[0], image, inside, kind)
    for case in images.heads:
        yield DomainCase(case.name, case.image, True, "synthetic head")
    for file in head_neck_files(data, held_out=True):
        yield DomainCase(file.name.split("_")[0], read(file, "CT"), True, "head and neck CT")
    for crop in images.hippocampi:
        yield DomainCase(crop.name, crop.image, True, "hippocampus crop")
    yield from _computed(images)
    for pattern in PICTURES:
        for path in sorted(data.glob(pattern)):
            image = _read(path, "")
            if image is not None:
                yield DomainCase(path.stem, image, False, "pictures")


def _read(path: Path, modality: str) -> Image | None:
    from ...files import read_image

    if not path.exists():
        return None
    try:
        return read_image(path, modality=modality) if modality else read_image(path)
    except MedFMError:  # several frames: the first is as good as any
        return read_image(path, modality=modality, frame=1) if modality else None


def _computed(images: Images) -> Iterator[DomainCase]:
    """Yield phantoms, noise and a head whose axes are wrong, none of them made by training's code."""
    size = (160, 180, 150)
    axes = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in size), indexing="ij"))
    ball = (axes**2).sum(0) < 0.6
    rods = ball & ((np.sin(12 * axes[0]) ** 2 + np.sin(12 * axes[1]) ** 2) < 0.4)
    rng = np.random.default_rng(5)
    made = {
        "ball phantom": 600 * ball,
        "ball with rods": 700 * ball - 500 * rods,
        "ramp": 500 * (axes[0] + 1),
        "noise": np.abs(rng.normal(0, 200, size)),
        "smooth noise": 3000 * ndimage.gaussian_filter(rng.normal(0, 1, size), 6) + 300,
        "long cylinder": 500 * ((axes[0] ** 2 + axes[1] ** 2) < 0.3) - 300 * ((axes[0] ** 2 + axes[1] ** 2) < 0.03),
        "empty": np.zeros(size),
    }
    for name, values in made.items():
        for modality in ("MR", "CT"):
            values_ = values if modality == "MR" else values - 1000 * ~ball
            image = Image(np.rint(values_).astype(np.int16)[None], Geometry(size, np.eye(4)), modality, name)
            yield DomainCase(f"{name}, {modality}", image, False, "phantoms and noise")
    head = images.heads[0].image
    for order in ((1, 0, 2), (0, 2, 1), (2, 1, 0)):
        voxels = np.ascontiguousarray(head.scalars.transpose(order))
        yield DomainCase(
            f"head with wrong axes {order}",
            Image(voxels[None], Geometry(voxels.shape, np.eye(4)), "MR", "head"),
            False,
            "heads stored wrongly",
        )
    upside = np.ascontiguousarray(head.scalars[:, :, ::-1])
    yield DomainCase(
        "head upside down",
        Image(upside[None], Geometry(upside.shape, np.eye(4)), "MR", "head"),
        False,
        "heads stored wrongly",
    )
    lower = np.ascontiguousarray(head.scalars[:, :, : head.scalars.shape[2] // 5])
    yield DomainCase(
        "neck alone", Image(lower[None], Geometry(lower.shape, np.eye(4)), "MR", "neck"), False, "other regions"
    )


def domain(images: Images, model: LoadedModel) -> BenchSection:
    """Measure which images are recognised as outside of the domain, and which are refused though they are inside.

    Args:
        images: the test images.
        model: the model.
    """
    found: dict[str, list[tuple[bool, str, float]]] = {}
    wrong = []
    for case in cases(images):
        verdict = model.runtime.domain(case.image)
        right = verdict.known == case.inside
        found.setdefault(case.kind, []).append((right, case.name, verdict.chance))
        if not right:
            was = "refused" if case.inside else "accepted"
            wrong.append(f"{case.name} ({case.kind}): {was}, probability {verdict.chance:.2f}")
    rows = []
    for kind, some in found.items():
        right = sum(r for r, _, _ in some)
        rows.append([kind, len(some), right / len(some), wilson(right, len(some))])
    inside = [
        r
        for kind in ("head", "synthetic head", "head and neck CT", "hippocampus crop")
        for r, _, _ in found.get(kind, [])
    ]
    volumes = [
        r
        for kind, some in found.items()
        for r, _, _ in some
        if kind in ("other regions", "phantoms and noise", "heads stored wrongly")
    ]
    rows.append(["all of the domain", len(inside), sum(inside) / max(1, len(inside)), wilson(sum(inside), len(inside))])
    rows.append(
        [
            "all volumes outside of it, none of the judge's training",
            len(volumes),
            sum(volumes) / max(1, len(volumes)),
            wilson(sum(volumes), len(volumes)),
        ]
    )
    table = Table(
        "Domain",
        "Whether an image is recognised as one that the model was made for, or not. Pictures are refused by "
        "a rule. Masks and words ask the same judge before anything is drawn or said.",
        ("kind of image", "images", "right", "95 % interval"),
        rows,
        tuple(wrong) or ("No image was judged wrongly.",),
    )
    return BenchSection(
        [table],
        summary={
            "recognised as outside of the domain": rows[-1][2],
            "refused though of the domain": 1 - rows[-2][2],
        },
    )

"""Measure heads as clinics scan them: thick slices, contrast agent, skull; and what is said of volumes that can't be right.

Labelled images are resampled here to slices of 3, 5 and 6.5 mm along each plane; contrast agent is simulated on held-out
label maps by bright vessels, dura and scalp. Clinical images without labels show whether anything is given a number
outside of the literature's range without a flag.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...core.findings import Segment, Segmentation
from ...core.image import Image
from ...measure.plausibility import check_outlines
from . import labels
from .bench_domain import _read
from .bench_masks import BRAIN, BRAIN_VALUES, segment_parts
from .bench_measures import bootstrap, part_dice
from .bench_runtime import LoadedModel
from .bench_tables import BenchSection, Figure, SlicePicture, Table, mean
from .cases import BenchCase, Images, painted_head, resampled
from .sources import head_maps

DEEP_NAMES = tuple(
    n
    for n in labels.BRAIN_PARTS
    if not any(w in n for w in ("cortex", "white matter", "left cerebellum", "right cerebellum"))
)
THICKNESSES = (3.0, 5.0, 6.5)
PLANE_AXES = {"axial": 2, "coronal": 1, "sagittal": 0}
CLINICAL = {
    "brain_tumor/brain1_image.nrrd": "MR",
    "dicom_mr_brain": "MR",
    "brain_t1/t1_head.nii.gz": "MR",
    "brain_lesion/t2.nii.gz": "MR",
    "brain_stroke/FLAIR.nii.gz": "MR",
}


def enhanced_heads(images: Images) -> list[BenchCase]:
    """Return the held-out label maps as T1 after contrast agent: vessels, dura and scalp are the brightest.

    Args:
        images: the test images.
    """
    made = []
    for number, subject in enumerate(head_maps(images.data, held_out=True)):
        plain = painted_head(subject, "T1-like", 990 + number)
        bright = np.isin(subject.values, (30, 62)) | ((subject.values >= 500) & (subject.values % 3 == 0))
        rng = np.random.default_rng(number)
        voxels = np.where(bright, 1150 + rng.normal(0, 60, bright.shape), plain.scalars).astype(np.int16)
        image = Image(voxels[None], plain.geometry, "MR", subject.name)
        made.append(
            BenchCase(
                f"{subject.name} with contrast agent",
                "synthetic T1 of a held-out label map, with skull",
                "no",
                image,
                subject.parts,
                "head",
                labels.SPOKEN_HEAD,
            )
        )
    return made


def thick(images: Images, model: LoadedModel) -> BenchSection:
    """Measure thick slices along each plane, on the real T1 and on heads with skull and contrast agent.

    Args:
        images: the test images.
        model: the model.
    """
    way, rows, fives = model.ways(BRAIN)[0], [], []
    for case in [images.t1, *enhanced_heads(images)]:
        for thickness in (1.0, *THICKNESSES):
            for plane, axis in PLANE_AXES.items() if thickness > 1 else (("axial", 2),):
                mm = [1.0, 1.0, 1.0]
                mm[axis] = thickness
                seen = case if thickness == 1 else resampled(case, f"{case.name}, {thickness:g} mm {plane}", tuple(mm))
                parts, _ = segment_parts(model, seen.image, way)
                values = part_dice(parts, seen.parts, labels.BRAIN_PARTS)
                deep = [v for n, v in values.items() if n in DEEP_NAMES]
                rows.append([seen.name, mean(list(values.values())), mean(deep), bootstrap(deep)])
                if thickness == 5.0 and case is images.t1:
                    fives.append(rows[-1][1])
    deep = [row[2] for row in rows]
    table = Table(
        "Brain: thick slices, contrast agent, skull",
        "Real T1 with FreeSurfer labels, and held-out label maps "
        "rendered as T1 after contrast agent with their skull, averaged over slices of 3 to 6.5 mm along each plane.",
        ("image", "mean Dice, 27 parts", "deep structures", "95 % interval, deep"),
        rows,
    )
    return BenchSection(
        [table], summary={"Dice, real T1 in 5 mm slices": mean(fives), "worst Dice of deep structures": min(deep)}
    )


def clinical(images: Images, model: LoadedModel) -> BenchSection:
    """Count the structures of clinical heads whose volume the literature excludes and that no flag marks.

    Args:
        images: the test images.
        model: the model.
    """
    way, rows, shots = model.ways(BRAIN)[0], [], []
    for path, modality in CLINICAL.items():
        image = _read(images.data / path, modality)
        if image is None:
            continue
        image = replace(image, name=path.split("/")[0])
        parts, known = segment_parts(model, image, way)
        masks = {name: parts == labels.part_number(name) for name in known}
        segments = tuple(
            Segment(name, mask, origin="AUTOMATIC", drawn_by="medfm-tiny") for name, mask in masks.items() if mask.any()
        )
        verdicts, _ = check_outlines(Segmentation(segments, image.geometry), image)
        bad = [v for v in verdicts if v.verdict in ("flagged", "rejected", "partial")]
        rows.append(
            [
                path.split(".")[0],
                " × ".join(f"{s:.1f}" for s in image.geometry.spacing),
                len(verdicts),
                len(bad),
                "; ".join(v.label for v in bad[:6]) + ("…" if len(bad) > 6 else ""),
            ]
        )
        number = _middle(parts, image)
        plane = image.geometry.acquisition_plane
        shots.append(SlicePicture(image, plane, number, f"{image.name}, {plane} slice {number}"))
        shots.append(SlicePicture(image, plane, number, "MedFM-tiny", BRAIN_VALUES, None, parts))
    table = Table(
        "Clinical heads without labels",
        "What the rules of anatomy say of the outlines: every structure outside of "
        "the literature's range is flagged or rejected, and called by no number.",
        ("image", "voxels, mm", "structures", "flagged or rejected", "which"),
        rows,
    )
    figure = Figure("Clinical heads", "Whole heads, thick slices, a tumour, a stroke; none in training.", tuple(shots))
    return BenchSection(
        [table], [figure], summary={"structures flagged in clinical heads": sum(row[3] for row in rows)}
    )


def _middle(parts: np.ndarray, image: Image) -> int:
    """Return the slice, along the acquisition plane, with most structures."""
    axis = image.geometry.index_axis(image.geometry.acquisition_plane)
    counts = [len(np.unique(np.take(parts, k, axis))) for k in range(parts.shape[axis])]
    return int(np.argmax(counts))

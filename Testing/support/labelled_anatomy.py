"""Label maps of the open test data as segmentations: heads, planning CTs of the neck, trunks. And changes of their grids."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from support.phantoms import rotation

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.geometry import Geometry, lps_from_ras
from MedFMLib.training.embedded import labels

OPENKBP = ("brainstem", "spinal cord", "right parotid gland", "left parotid gland", "esophagus", "larynx", "mandible")
RENAMED = {
    "oesophagus": "esophagus", "vertebrae": "spine", "adrenal right": "right adrenal gland", "adrenal left": "left adrenal gland",
    "hip left": "left hip bone", "hip right": "right hip bone",
}  # fmt: skip
UNUSED = ("prostate or uterus", "hip and sacrum", "colon and rectum", "lung upper lobe left", "lung lower lobe left",
          "lung lower lobe right", "spinal cord", "body")  # fmt: skip


def read_labels(path: Path) -> tuple[np.ndarray, Geometry]:
    """(I, J, K) values and their grid."""
    volume = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(volume.GetDirection()).reshape(3, 3) * volume.GetSpacing()
    affine[:3, 3] = volume.GetOrigin()
    return np.asfortranarray(sitk.GetArrayFromImage(volume).T), Geometry(volume.GetSize(), lps_from_ras(affine))


def segmentation_of(
    values: np.ndarray, geometry: Geometry, names: dict[str, tuple[int, ...]], drawn_by="a model"
) -> Segmentation:
    """One segment for each name that has a voxel, as a model would have drawn it."""
    found = {name: np.isin(values, numbers) for name, numbers in names.items()}
    return Segmentation(
        tuple(Segment(name, mask, drawn_by=drawn_by) for name, mask in found.items() if mask.any()), geometry
    )


def head(path: Path) -> Segmentation:
    """The 27 structures of a FreeSurfer label map."""
    return segmentation_of(*read_labels(path), labels.FREESURFER)


def neck(path: Path) -> Segmentation:
    """The organs at risk of a planning CT of OpenKBP."""
    return segmentation_of(*read_labels(path), {name: (n,) for n, name in enumerate(OPENKBP, 1)})


def trunk(data: Path, file: str) -> Segmentation:
    """The organs of a trunk, by the names in the data's list of sources."""
    entries = json.loads((data / "SOURCES.json").read_text())
    entry = next(e for e in entries if file in (e["file"], e.get("label_file")))
    names: dict[str, tuple[int, ...]] = {}
    for number, name in entry["labels"].items():
        words = name.replace("_", " ")
        name = RENAMED.get(words, words)
        if words in UNUSED:
            continue
        if words.startswith("vertebrae") or name == "spine":
            name = "spine"
        names[name] = (*names.get(name, ()), int(number))
    return segmentation_of(*read_labels(data / file), names)


def with_axes(segmentation: Segmentation, order=(0, 1, 2), reverse=()) -> Segmentation:
    """The same masks at the same places in the patient, with index axes in another order, some of them reversed."""
    geometry = segmentation.geometry
    affine, shape = geometry.affine[:, [*order, 3]].copy(), tuple(geometry.shape[a] for a in order)
    for axis in reverse:
        affine[:3, 3] += affine[:3, axis] * (shape[axis] - 1)
        affine[:3, axis] *= -1
    segments = [replace(s, mask=np.flip(s.mask.transpose(order), reverse).copy()) for s in segmentation.segments]
    return Segmentation(tuple(segments), Geometry(shape, affine))


def moved(segmentation: Segmentation, angles=(0, 0, 0), shift=(0, 0, 0)) -> Segmentation:
    """The patient turned about the grid's centre, in degrees about R, A and S, and shifted, in mm."""
    matrix, center = np.eye(4), segmentation.geometry.center
    matrix[:3, :3] = rotation(*angles)
    matrix[:3, 3] = center - matrix[:3, :3] @ center + shift
    return replace(segmentation, geometry=segmentation.geometry.transformed(matrix))


def without(segmentation: Segmentation, *labels_left_out: str) -> Segmentation:
    """The same without some segments."""
    return replace(segmentation, segments=tuple(s for s in segmentation.segments if s.label not in labels_left_out))


def swapped(segmentation: Segmentation, *pairs: tuple[str, str]) -> Segmentation:
    """The same with pairs of names exchanged."""
    names = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    return replace(
        segmentation, segments=tuple(replace(s, label=names.get(s.label, s.label)) for s in segmentation.segments)
    )

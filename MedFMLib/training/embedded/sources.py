"""Read the volumes that train and measure the embedded model, split them, and exclude the held-out ones.

Knows the layout of the data folder; no pictures or models. A `Subject` is a part volume in RAS order with the real
image,
if there is one. The held-out data are defined here and nowhere else:

* label maps `HELD_OUT_MAPS` (all of each);
* every hippocampus of `hippocampus_files(data, held_out=True)`;
* the slices `HELD_OUT_SLICES` of the CT and MR torso and the chest CT: *cut out* of the training volumes, which close
  over the gaps, so that neither tilted nor coronal nor sagittal training slices show them;
* every other folder (labelled T1, stroke, orientation, MNI, DICOM, …) is never opened by training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...core.geometry import Geometry, lps_from_ras
from ...core.image import Image
from ...errors import InputError
from . import labels

HELD_OUT_MAPS = ("synthseg_18", "synthseg_20")
HELD_OUT_SLICES = {
    "ct_torso": ((18, 26), (60, 68), (84, 92)),
    "mr_torso": ((8, 12),),
    "ct_chest": ((22, 32), (56, 66)),
}
"""Half-open ranges of the third RAS index (inferior → superior)."""

HELD_OUT_HEAD_NECKS_EVERY = 3
"""Every third patient of `openkbp/train`, which has all organs, is held out: 10 of 28."""

HELD_OUT_HIPPOCAMPI_EVERY = 10, (0, 3, 6)
"""Of the sorted hippocampus files, those whose number modulo the first value is among the second: 24 of 80."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One labelled volume in RAS order.

    Args:
        name: source and number.
        region: "head" or "torso".
        modality: of `image`, or "MR" for a label map without image.
        values: (I, J, K) uint16 values for which intensities are rendered; 0 is air.
        parts: (I, J, K) uint8 part numbers, `labels.UNKNOWN_PART` where unlabelled.
        spacing: (3,) mm.
        image: (I, J, K) float32 real intensities (HU for CT), or None.
        known: structures that this source labels wherever they are.
        absent: structures that are certainly not in it.
    """

    name: str
    region: str
    modality: str
    values: np.ndarray = field(repr=False)
    parts: np.ndarray = field(repr=False)
    spacing: np.ndarray
    image: np.ndarray | None = field(repr=False, default=None)
    known: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def read(path: Path, modality: str = "MR") -> Image:
    """Read a scalar volume from any file that ITK reads.

    Args:
        path: the file.
        modality: of the image.

    Raises:
        InputError: if the file is missing or can't be read.
    """
    import SimpleITK as sitk

    if not Path(path).exists():
        raise InputError(f"'{Path(path).name}' is not in the data folder; pass the folder with it by --data.")
    picture = sitk.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.array(picture.GetDirection()).reshape(3, 3) * np.array(picture.GetSpacing())
    affine[:3, 3] = picture.GetOrigin()
    voxels = sitk.GetArrayFromImage(picture).transpose(2, 1, 0)
    return Image(voxels[None], Geometry(voxels.shape, lps_from_ras(affine)), modality, Path(path).name.split(".")[0])


def in_ras_order(array: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """Return an array and its spacing with the axes permuted and flipped to run Right, Anterior, Superior.

    Args:
        array: (I, J, K).
        geometry: its grid.

    Returns:
        ((R, A, S) array, (3,) mm)
    """
    order = [geometry.world_axes.index(axis) for axis in range(3)]
    array, spacing = array.transpose(order), geometry.spacing[order]
    for world, index in enumerate(order):
        if geometry.affine[world, index] < 0:
            array = np.flip(array, world)
    return np.ascontiguousarray(array), spacing


def freesurfer_parts(values: np.ndarray) -> np.ndarray:
    """Convert (I, J, K) FreeSurfer values to part numbers, with unsided white matter assigned to the nearest side."""
    from scipy import ndimage

    parts = labels.part_table(labels.FREESURFER, "head tissue")[values]
    unsided = np.isin(values, labels.FREESURFER_UNSIDED)
    if unsided.any():
        sides = np.where(values == 2, 1, np.where(values == 41, 2, 0))
        nearest = ndimage.distance_transform_edt(sides == 0, return_distances=False, return_indices=True)
        side = sides[tuple(axis[unsided] for axis in nearest)]
        parts[unsided] = np.where(
            side == 1,
            labels.part_number("left cerebral white matter"),
            labels.part_number("right cerebral white matter"),
        )
    return parts


def head_maps(data: Path, held_out: bool = False) -> list[Subject]:
    """Return the whole-head label maps.

    Args:
        data: the data folder.
        held_out: return the held-out ones instead of those for training.
    """
    subjects = []
    for path in sorted((data / "brain_labelmaps").glob("synthseg_*.nii.gz")):
        name = path.name.split(".")[0]
        if (name in HELD_OUT_MAPS) != held_out:
            continue
        image = read(path)
        values, spacing = in_ras_order(image.scalars.astype(np.uint16), image.geometry)
        known = labels.SPOKEN_HEAD
        absent = tuple(s for s in labels.TORSO_STRUCTURES if s != "spine")
        subjects.append(Subject(name, "head", "MR", values, freesurfer_parts(values), spacing, None, known, absent))
    return subjects


def torso_subjects(data: Path, held_out: bool = False) -> list[Subject]:
    """Return the torso volumes without their held-out slices.

    Args:
        data: the data folder.
        held_out: return complete volumes instead, with everything except the held-out slices marked unknown.
    """
    made = []
    for folder, image_file, label_file, modality, table, known in (
        ("ct_torso", "ct.nii.gz", "ct_seg.nii.gz", "CT", labels.TOTALSEGMENTATOR_CT, labels.TORSO_STRUCTURES),
        ("mr_torso", "mr.nii.gz", "mr_seg.nii.gz", "MR", labels.TOTALSEGMENTATOR_MR, labels.MR_TORSO_STRUCTURES),
        ("ct_chest", "chest_ct.nii.gz", "chest_lungs.nii.gz", "CT", labels.LUNGS, ("left lung", "right lung")),
    ):
        if not (data / folder / image_file).exists():
            continue
        image, label_image = read(data / folder / image_file, modality), read(data / folder / label_file)
        values, spacing = in_ras_order(label_image.scalars.astype(np.uint16), label_image.geometry)
        voxels, _ = in_ras_order(image.scalars.astype(np.float32), image.geometry)
        rest = "unknown" if folder == "ct_chest" else "torso tissue"
        parts = labels.part_table(table, rest)[values]
        tissue = _tissue(voxels, modality)
        unlabelled = (values == 0) & (tissue > 0)
        parts[unlabelled] = labels.UNKNOWN_PART if rest == "unknown" else labels.part_number("torso tissue")
        values = np.where(values > 0, values, tissue + np.where(tissue > 0, 900, 0)).astype(np.uint16)
        absent = labels.HEAD_STRUCTURES
        if modality == "MR":
            absent += ("urinary bladder", "left hip bone", "right hip bone")
        gone = _range_mask(voxels.shape[2], HELD_OUT_SLICES[folder])
        keep = gone if held_out else ~gone
        if held_out:
            parts = np.where(keep[None, None, :], parts, labels.UNKNOWN_PART).astype(np.uint8)
        else:
            values, parts, voxels = (np.ascontiguousarray(a[:, :, keep]) for a in (values, parts, voxels))
        made.append(Subject(folder, "torso", modality, values, parts, spacing, voxels, known, absent))
    return made


def head_neck_files(data: Path, held_out: bool = False) -> list[Path]:
    """Return the planning CTs of the head and neck; contours have `_labels` instead of `_ct` in their name.

    Args:
        data: the data folder.
        held_out: return the held-out patients instead of those for training.
    """
    complete = sorted((data / "openkbp" / "train").glob("*_ct.nii.gz"))
    if held_out:
        return complete[::HELD_OUT_HEAD_NECKS_EVERY]
    kept = [file for number, file in enumerate(complete) if number % HELD_OUT_HEAD_NECKS_EVERY]
    return kept + sorted((data / "openkbp" / "train_extra").glob("*_ct.nii.gz"))


def head_neck_scans(data: Path, held_out: bool = False) -> list[tuple]:
    """Return (name, HU float32, parts uint8, (3,) spacing mm, missing parts) of each patient, in RAS order.

    Part n is label n − 1, from 2 on. Organs that nobody contoured are missing, not absent.

    Args:
        data: the data folder.
        held_out: return the held-out patients instead of those for training.
    """
    scans = []
    for file in head_neck_files(data, held_out):
        image, contours = read(file, "CT"), read(file.parent / file.name.replace("_ct", "_labels"))
        values, spacing = in_ras_order(contours.scalars.astype(np.uint8), contours.geometry)
        hu, _ = in_ras_order(image.scalars.astype(np.float32), image.geometry)
        parts = np.where(values > 0, values + 1, 0).astype(np.uint8)
        missing = tuple(n for n in range(2, 9) if not (parts == n).any())
        scans.append((file.name.split("_")[0], hu, parts, spacing, missing))
    return scans


def hippocampus_files(data: Path, held_out: bool = False) -> list[Path]:
    """Return the images of the hippocampus cases; labels have the same name in `labels/`.

    Args:
        data: the data folder.
        held_out: return the held-out ones instead of those for training.
    """
    every, which = HELD_OUT_HIPPOCAMPI_EVERY
    files = sorted((data / "msd_hippocampus" / "images").glob("*.nii.gz"))
    return [file for number, file in enumerate(files) if (number % every in which) == held_out]


def hippocampus_subjects(data: Path, held_out: bool = False) -> list[Subject]:
    """Return the MR crops around one hippocampus with manual labels: part 1 is anterior, 2 posterior.

    Args:
        data: the data folder.
        held_out: return the held-out cases instead of those for training.
    """
    subjects = []
    for file in hippocampus_files(data, held_out):
        image = read(file)
        values, spacing = in_ras_order(
            read(file.parent.parent / "labels" / file.name).scalars.astype(np.uint16), image.geometry
        )
        voxels, _ = in_ras_order(image.scalars.astype(np.float32), image.geometry)
        voxels = voxels / max(float(np.percentile(voxels, 99.5)), 1e-3)
        subjects.append(
            Subject(file.name.split(".")[0], "crop", "MR", values, values.astype(np.uint8), spacing, voxels)
        )
    return subjects


def teacher_subject(data: Path, work: Path, pretrained: Path | None) -> Subject | None:
    """Return a real T1 head with MeshNet's parts, unknown where it isn't certain; None without its weights.

    Args:
        data: the data folder.
        work: work folder, which caches the parts.
        pretrained: folder with MeshNet's weights, or None.
    """
    image = read(data / "brain_t1" / "t1_head.nii.gz")
    kept = work / "t1_head_parts.npy"
    voxels, spacing = in_ras_order(image.scalars.astype(np.float32), image.geometry)
    if kept.exists():
        parts = np.load(kept)
    elif pretrained is None or not (pretrained / "subcortical").is_dir():
        return None
    else:
        from .meshnet import MeshNet, teacher_parts

        parts, _ = in_ras_order(teacher_parts(image, MeshNet(pretrained / "subcortical")), image.geometry)
        np.save(kept, parts)
    values = np.where(voxels > 0.08 * np.percentile(voxels, 99.5), 1, 0).astype(np.uint16)
    absent = tuple(s for s in labels.TORSO_STRUCTURES if s != "spine")
    voxels = voxels / float(np.percentile(voxels, 99.5))
    return Subject("t1_head", "head", "MR", values, parts, spacing, voxels, labels.SPOKEN_HEAD, absent)


def _range_mask(size: int, ranges: tuple[tuple[int, int], ...]) -> np.ndarray:
    mask = np.zeros(size, bool)
    for start, stop in ranges:
        mask[start:stop] = True
    return mask


def _tissue(voxels: np.ndarray, modality: str) -> np.ndarray:
    """Return (I, J, K) 0 air … 4 by intensity, for unlabelled voxels: fat, soft, dense for CT; four greys for MR."""
    if modality == "CT":
        return np.digitize(voxels, (-300, -30, 25, 90, 180)).astype(np.uint16)
    low, high = np.percentile(voxels, (1, 99.5))
    return np.digitize(voxels, low + (high - low) * np.array([0.08, 0.25, 0.45, 0.7])).astype(np.uint16)


def body_label_maps(data: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (values, (3,) spacing mm) of the label maps of trunks without images, in RAS order."""
    found = []
    for path in sorted((data / "body_labelmaps").glob("*.nii.gz")):
        image = read(path)
        found.append(in_ras_order(image.scalars.astype(np.uint16), image.geometry))
    return found

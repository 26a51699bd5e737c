"""Make pictures with known parts from label maps and real volumes: domain randomisation in two dimensions.

Depends on subjects; no text or models. The recipe is SynthSeg's (Billot et al., Medical Image Analysis 2023: random
intensities per label, bias field, blur, resolution, gamma, noise), applied to one slice at the resolution of the
model's
input, because a slice costs milliseconds where a volume costs seconds. Pictures follow `view.View.square` in
orientation,
square padding and windowing; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ...core.view import CT_RANGES, Window
from . import labels
from .sources import Subject

ROWS_COLUMNS_NORMAL = {
    "axial": ((0.0, -1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
    "coronal": ((0.0, 0.0, -1.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0)),
    "sagittal": ((0.0, 0.0, -1.0), (0.0, -1.0, 0.0), (1.0, 0.0, 0.0)),
}
"""RAS unit vectors: down the picture, across it to the right, and from slice to slice."""


@dataclass(frozen=True, eq=False)
class TrainingPicture:
    """One training picture.

    Args:
        pixels: (S, S, 3) uint8.
        parts: (S, S) uint8 part numbers.
        plane: sagittal, coronal or axial.
        modality: "MR" or "CT".
        region: "head", "torso" or "crop".
        subject: its source.
        stripped: only the brain of a head is shown.
    """

    pixels: np.ndarray
    parts: np.ndarray
    plane: str
    modality: str
    region: str
    subject: Subject
    stripped: bool = False


@dataclass(frozen=True, eq=False)
class SliceCut:
    """Position of a slice in a subject.

    `points` (3, S, S) indices, `inside` (S, S) covered by the scan, `mm` per pixel.
    """

    points: np.ndarray
    inside: np.ndarray
    mm: float


def bounds(mask: np.ndarray) -> np.ndarray:
    """Return the (3, 2) first and one-past-last index of the true voxels along each axis."""
    result = []
    for axis in range(3):
        along = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        result.append((along[0], along[-1] + 1))
    return np.array(result)


def cut(
    subject: Subject,
    box: np.ndarray,
    plane: str,
    position: float,
    size: int,
    rng: np.random.Generator | None = None,
    tilt: float = 6.0,
    zoom: bool = False,
    crops: float = 0.2,
) -> SliceCut:
    """Choose the points of a slice; without `rng` exactly the slice that a `View` of the box would show.

    Args:
        subject: the volume.
        box: (3, 2) index range that the scan covers.
        plane: anatomical plane.
        position: 0…1 through the box along the plane's normal.
        size: pixels along each side of the picture.
        rng: draws field of view, rotation, tilt, scale and bending; None for none.
        tilt: standard deviation in degrees of the rotations out of plane.
        zoom: a square of about the box's longest edge around it, with everything there, as in the second pass over
            volumes (`models.masks.volume_masks`), instead of the box as the edge of the scan.
        crops: share of the other slices that show only a part.
    """
    axes = [np.array(v) for v in ROWS_COLUMNS_NORMAL[plane]]
    low, high = box[:, 0] * subject.spacing, box[:, 1] * subject.spacing
    middle = (low + high) / 2
    normal_axis = int(np.argmax(np.abs(axes[2])))
    middle[normal_axis] = low[normal_axis] + position * (high - low)[normal_axis]
    height, width = (float(np.abs(v) @ (high - low)) for v in axes[:2])
    top, bottom, left, right = -height / 2, height / 2, -width / 2, width / 2
    turn, stretch = np.eye(3), np.ones(3)
    if zoom:
        half = float((high - low).max()) * (0.56 if rng is None else rng.uniform(0.48, 0.68))
        off = np.zeros(2) if rng is None else rng.normal(0, 0.05, 2) * half
        top, bottom, left, right = off[0] - half, off[0] + half, off[1] - half, off[1] + half
    if rng is not None:

        def pad(extent: float) -> float:
            kind = rng.random()
            if kind < 0.45:
                return 0.0
            return extent * (rng.uniform(0.0, 0.3) if kind < 0.85 else rng.uniform(-0.22, 0.0))

        if not zoom and rng.random() < crops:  # a region of interest
            h, w = height * rng.uniform(0.35, 0.8), width * rng.uniform(0.35, 0.8)
            top, left = rng.uniform(-height / 2, height / 2 - h), rng.uniform(-width / 2, width / 2 - w)
            bottom, right = top + h, left + w
        elif not zoom:
            top, bottom, left, right = top - pad(height), bottom + pad(height), left - pad(width), right + pad(width)
        wild = 2.0 if rng.random() < 0.15 else 1.0
        turn = _rotation(axes[2], rng.normal(0, 6) * wild) @ _rotation(axes[1], rng.normal(0, tilt) * wild)
        turn = turn @ _rotation(axes[0], rng.normal(0, tilt) * wild)
        stretch = np.exp(rng.normal(0, 0.05) + rng.normal(0, 0.06, 3))
    side = max(bottom - top, right - left)
    mm = side / size
    grid = (np.arange(size) + 0.5) * mm - side / 2
    down, across = np.meshgrid(grid + (top + bottom) / 2, grid + (left + right) / 2, indexing="ij")
    inside = (down >= top) & (down <= bottom) & (across >= left) & (across <= right)
    if rng is not None and rng.random() < 0.7:
        strength = rng.uniform(0, 0.035) * min(height, width)
        down = down + strength * _smooth_noise(rng, size, int(rng.integers(3, 7)))
        across = across + strength * _smooth_noise(rng, size, int(rng.integers(3, 7)))
    vectors = [turn @ (v * 1.0) for v in axes[:2]]
    points = [
        (middle[a] + (down * vectors[0][a] + across * vectors[1][a]) / stretch[a]) / subject.spacing[a] - 0.5
        for a in range(3)
    ]
    return SliceCut(np.stack(points).astype(np.float32), inside, float(mm))


def _rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _smooth_noise(rng: np.random.Generator, size: int, knots: int) -> np.ndarray:
    """Return (size, size) float32 of standard deviation about 1, varying over size / knots pixels."""
    from PIL import Image

    coarse = Image.fromarray(rng.normal(0, 1, (knots + 2, knots + 2)).astype(np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))


def nearest(volume: np.ndarray, points: np.ndarray, outside: int = 0) -> np.ndarray:
    """Return the (S, S) values of the voxels that the points are in.

    Args:
        volume: (I, J, K).
        points: (3, S, S) indices.
        outside: value outside the volume.
    """
    index = np.rint(points).astype(np.int32)
    good = np.ones(index.shape[1:], bool)
    for axis, n in enumerate(volume.shape):
        good &= (index[axis] >= 0) & (index[axis] < n)
        np.clip(index[axis], 0, n - 1, out=index[axis])
    return np.where(good, volume[index[0], index[1], index[2]], outside)


def linear(volume: np.ndarray, points: np.ndarray, outside: float) -> np.ndarray:
    """Return (S, S) float32, interpolated trilinearly.

    Args:
        volume: (I, J, K).
        points: (3, S, S) indices.
        outside: value outside the volume.
    """
    return ndimage.map_coordinates(volume, points, order=1, mode="constant", cval=outside, output=np.float32)


# -- intensities ---------------------------------------------------------------------------------

_WHITE, _GREY = (2, 41, 77, 251, 252, 253, 254, 255, 28, 60), (3, 42, 17, 53, 18, 54)
_DEEP, _THALAMUS, _STEM = (11, 50, 12, 51, 26, 58), (10, 49), (16,)
_FLUID, _CEREBELLUM_WHITE, _CEREBELLUM_GREY = (4, 43, 5, 44, 14, 15, 24, 72), (7, 46), (8, 47)
_PALLIDUM = (13, 52)

_CONTRASTS = {  # white, grey, deep, thalamus, stem, fluid, cerebellar white, cerebellar grey, pallidum (mean, 0…1)
    "T1": (0.90, 0.62, 0.68, 0.77, 0.87, 0.17, 0.88, 0.62, 0.82),
    "T2": (0.35, 0.55, 0.48, 0.44, 0.38, 0.95, 0.36, 0.52, 0.36),
    "FLAIR": (0.50, 0.66, 0.62, 0.58, 0.52, 0.12, 0.50, 0.62, 0.50),
}
_TISSUES = (_WHITE, _GREY, _DEEP, _THALAMUS, _STEM, _FLUID, _CEREBELLUM_WHITE, _CEREBELLUM_GREY, _PALLIDUM)


def head_table(values: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return (1024,) mean and standard deviation of intensity, 0…1, per value of a head label map.

    Args:
        values: those that occur in it.
        rng: of all random values.
    """
    mean, spread = np.zeros(1024, np.float32), np.zeros(1024, np.float32)
    kind = rng.random()
    for value in np.unique(values):  # extra-cerebral clusters and other values without a tissue class
        bright = rng.choice((rng.uniform(0, 0.15), rng.uniform(0.15, 0.6), rng.uniform(0.6, 1.1)), p=(0.35, 0.45, 0.2))
        mean[value], spread[value] = bright, rng.uniform(0.01, 0.09)
    if kind < 0.26:
        means = rng.uniform(0, 1, len(_TISSUES))
        scatter = rng.uniform(0.005, 0.08, len(_TISSUES))
    else:
        name = "T1" if kind < 0.69 else "T2" if kind < 0.86 else "FLAIR"
        means = np.clip(np.array(_CONTRASTS[name]) + rng.normal(0, 0.06, len(_TISSUES)), 0.01, 1.2)
        scatter = rng.uniform(0.01, 0.05, len(_TISSUES))
    for tissue, m, s in zip(_TISSUES, means, scatter, strict=True):
        mean[list(tissue)], spread[list(tissue)] = m + rng.normal(0, 0.015, len(tissue)), s
    mean[0] = rng.uniform(0.0, 0.02) if rng.random() < 0.85 else rng.uniform(0.02, 0.3)
    spread[0] = rng.uniform(0, 0.02)
    return mean, spread


def _torso_mr_table(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return (1024,) mean and standard deviation, 0…1, per value of a torso label map rendered as MR."""
    mean = rng.uniform(0.15, 0.75, 1024).astype(np.float32)
    spread = rng.uniform(0.01, 0.07, 1024).astype(np.float32)
    mean[10:15] = rng.uniform(0.0, 0.15)  # lungs
    mean[25:51] = rng.uniform(0.1, 0.9)  # vertebrae alike
    mean[91:118] = rng.uniform(0.05, 0.6)
    mean[901:906] = (rng.uniform(0.2, 1.1), rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.7), 0.1)
    mean[0], spread[0] = rng.uniform(0, 0.03), rng.uniform(0, 0.02)
    return mean, spread


def _torso_ct_table(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return (1024,) mean and standard deviation in HU per value of a torso label map rendered as CT."""
    mean = rng.uniform(20, 70, 1024).astype(np.float32)
    phase = rng.uniform(0, 1)
    spread = rng.uniform(3, 22, 1024).astype(np.float32)
    mean[[1, 5]] = rng.uniform(45, 130, 2)
    mean[[2, 3]] = rng.uniform(25, 60) + 150 * phase
    mean[10:15], spread[10:15] = rng.uniform(-900, -760), rng.uniform(20, 60)
    mean[6] = rng.uniform(-20, 90)
    mean[21] = rng.uniform(-5, 25) if rng.random() < 0.8 else rng.uniform(50, 300)
    mean[25:51], spread[25:51] = rng.uniform(130, 350), rng.uniform(30, 120)
    mean[52] = rng.uniform(30, 55) + 220 * phase * rng.random()
    mean[75:79], spread[75:79] = rng.uniform(180, 450), rng.uniform(40, 150)
    mean[91:118], spread[91:118] = rng.uniform(150, 450), rng.uniform(40, 120)
    mean[901:906] = (rng.uniform(-120, -85), rng.uniform(-10, 25), rng.uniform(40, 70), rng.uniform(80, 150), 300)
    mean[0], spread[0] = -1000, 10
    return mean, spread


def _painted(values: np.ndarray, table: tuple[np.ndarray, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    return table[0][values] + table[1][values] * rng.standard_normal(values.shape, dtype=np.float32)


def _blurred(picture: np.ndarray, rng: np.random.Generator, most: float) -> np.ndarray:
    """Blur, or lower the resolution along one direction, as in thick or coarse slices."""
    kind = rng.random()
    if kind < 0.75:
        return ndimage.gaussian_filter(picture, rng.uniform(0.2, most))
    return ndimage.gaussian_filter(
        picture, (rng.uniform(0.2, most), rng.uniform(0.2, most * 2))[:: rng.choice((-1, 1))]
    )


def _as_mr(picture: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Convert (S, S) intensities, about 0…1, to (S, S, 3) uint8: bias field, blur, gamma, noise, window."""
    size = picture.shape[0]
    if rng.random() < 0.7:
        picture = picture * np.exp(rng.uniform(0, 0.3) * _smooth_noise(rng, size, 2))
    picture = _blurred(picture, rng, 1.3)
    top = np.percentile(picture[inside], 99.5) if inside.any() else 1.0
    picture = picture / max(top * rng.uniform(0.8, 1.35), 0.05)
    picture = np.clip(picture, 0, None) ** np.exp(rng.normal(0, 0.25))
    if rng.random() < 0.8:
        picture = picture + rng.uniform(0, 0.06) * rng.standard_normal(picture.shape, dtype=np.float32)
    picture = np.where(inside, picture - (rng.uniform(0, 0.05) if rng.random() < 0.3 else 0), 0)
    return Window(((0.0, 1.0),)).apply(picture)


def _as_ct(picture: np.ndarray, inside: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Convert (S, S) HU to (S, S, 3) uint8: blur, noise, offset, the three windows."""
    picture = _blurred(picture, rng, 1.0) + rng.normal(0, 8)
    picture = picture + rng.uniform(0, 25) * ndimage.gaussian_filter(
        rng.standard_normal(picture.shape, dtype=np.float32), rng.uniform(0, 0.8)
    )
    return Window(CT_RANGES).apply(np.where(inside, picture, -1024)) * inside[..., None].astype(np.uint8)


# -- whole pictures ------------------------------------------------------------------------------


def head_picture(subject: Subject, boxes: dict[str, np.ndarray], size: int, rng: np.random.Generator,
                 zooms: float = 0.6, crops: float = 0.2, deep: float = 0.0) -> TrainingPicture:  # fmt: skip
    """Return an MR slice of a head or, half of the time, of a skull-stripped brain.

    Synthetic if there is no real image.

    Args:
        subject: a head.
        boxes: "all", "brain" and "deep": (3, 2) index ranges from `bounds`.
        size: pixels per side.
        rng: of all random values.
        zooms: share of the pictures that are close to the brain.
        crops: see `cut`.
        deep: share of the pictures through the small structures deep in the brain; half as many are close to them.
    """
    plane = str(rng.choice(("axial", "coronal", "sagittal"), p=(0.5, 0.25, 0.25)))
    stripped, zoom = bool(rng.random() < 0.5), bool(rng.random() < zooms)
    inner = "deep" if rng.random() < deep else "brain"
    close = inner == "deep" and zoom and bool(rng.random() < 0.5)
    box = boxes["deep" if close else "brain" if stripped or zoom else "all"]
    normal = int(np.argmax(np.abs(ROWS_COLUMNS_NORMAL[plane][2])))
    target = boxes[inner][normal]
    place = rng.uniform(target[0] - 3, target[1] + 3) if rng.random() < 0.85 else rng.uniform(*box[normal])
    position = (place - box[normal, 0]) / (box[normal, 1] - box[normal, 0])
    where = cut(subject, box, plane, float(position), size, rng, zoom=zoom, crops=crops)
    values, parts = nearest(subject.values, where.points), nearest(subject.parts, where.points)
    if stripped:
        keep = (parts > labels.part_number("head tissue")) | ((values == 24) & (rng.random() < 0.5))
        values, parts = np.where(keep, values, 0), np.where(keep, parts, 0)
    values, parts = np.where(where.inside, values, 0), np.where(where.inside, parts, 0).astype(np.uint8)
    if subject.image is None:
        painted = _painted(values, head_table(values, rng), rng)
    else:
        painted = linear(subject.image, where.points, 0.0) * (values > 0)
    pixels = _as_mr(painted, where.inside, rng)
    return TrainingPicture(pixels, parts, plane, "MR", "head", subject, stripped)


def crop_picture(subject: Subject, size: int, rng: np.random.Generator) -> TrainingPicture:
    """Return a slice through a small real MR volume with manual labels, in any plane, mirrored half of the time.

    Args:
        subject: the volume.
        size: pixels per side.
        rng: of all random values.
    """
    box = np.array([(0, n) for n in subject.parts.shape])
    plane = str(rng.choice(("axial", "coronal", "sagittal")))
    where = cut(subject, box, plane, float(rng.uniform(0.04, 0.96)), size, rng, tilt=7.0, zoom=True)
    parts = nearest(subject.parts, where.points).astype(np.uint8)
    picture = linear(subject.image, where.points, 0.0)
    inside = nearest(np.ones(subject.parts.shape, np.uint8), where.points) > 0
    pixels = _as_mr(picture, inside, rng)
    if rng.random() < 0.5 and plane != "sagittal":
        pixels, parts = np.ascontiguousarray(pixels[:, ::-1]), np.ascontiguousarray(parts[:, ::-1])
    return TrainingPicture(pixels, parts, plane, "MR", "crop", subject)


def torso_picture(
    subject: Subject, box: np.ndarray, size: int, rng: np.random.Generator, crops: float = 0.2
) -> TrainingPicture:
    """Return a slice of a torso: real intensities, varied, or rendered from its labels; CT labels also serve as MR.

    Args:
        subject: a torso.
        box: (3, 2) index range from `bounds`.
        size: pixels per side.
        rng: of all random values.
        crops: see `cut`.
    """
    thin = subject.parts.shape[2] * subject.spacing[2] < 120
    plane = str(rng.choice(("axial", "coronal", "sagittal"), p=(0.96, 0.02, 0.02) if thin else (0.66, 0.2, 0.14)))
    where = cut(subject, box, plane, float(rng.uniform(0.02, 0.98)), size, rng, 0.8 if thin else 2.5, crops=crops)
    values, parts = nearest(subject.values, where.points), nearest(subject.parts, where.points)
    parts = np.where(where.inside, parts, 0).astype(np.uint8)
    modality = subject.modality
    if modality == "CT" and subject.name == "ct_torso" and rng.random() < 0.2:
        modality = "MR"
    real = modality == subject.modality and rng.random() < 0.7
    if real:
        outside = -1024.0 if modality == "CT" else 0.0
        picture = linear(subject.image, where.points, outside)
        shift = rng.normal(0, 1, 1024).astype(np.float32)
        shift[901:] *= 0.3
        shift[0] = 0
        if modality == "CT":
            picture = picture + (12 * shift * rng.random())[values] * (picture > -300)
        else:
            picture = picture / 700 * np.exp(0.15 * shift * rng.random())[values]
            if rng.random() < 0.25:
                picture = np.where(picture > 0.06, 1.0 - 0.8 * picture, picture)
    elif modality == "CT":
        picture = _painted(values, _torso_ct_table(rng), rng)
    else:
        picture = _painted(values, _torso_mr_table(rng), rng)
    pixels = (_as_ct if modality == "CT" else _as_mr)(picture, where.inside, rng)
    return TrainingPicture(pixels, parts, plane, modality, "torso", subject)


class Painter:
    """Renders training pictures from a list of subjects, heads and torsos in a fixed proportion.

    Args:
        subjects: heads, torsos and crops.
        size: pixels per side.
        head_share: share of heads.
        zooms: see `head_picture`.
        crops: see `head_picture`.
        real_share: share of heads that are real ones, if there are any.
        deep: see `head_picture`.
    """

    def __init__(self, subjects: list[Subject], size: int, head_share: float = 0.6, zooms: float = 0.6,
                 crops: float = 0.2, real_share: float = 0.25, deep: float = 0.0):  # fmt: skip
        self.size, self.head_share = size, head_share
        self.zooms, self.crop_share, self.deep = zooms, crops, deep
        self.heads = [s for s in subjects if s.region == "head"]
        self.crops = [s for s in subjects if s.region == "crop"]
        real = np.array([s.image is not None for s in self.heads], dtype=bool)
        weights = np.where(real, real_share / max(1, real.sum()), (1 - real_share) / max(1, (~real).sum()))
        self.head_weights = weights / weights.sum() if len(weights) else weights
        self.torsos = [s for s in subjects if s.region == "torso"]
        weight = {"ct_torso": 0.74, "mr_torso": 0.16, "ct_chest": 0.10}
        self.torso_weights = np.array([weight.get(s.name, 0.1) for s in self.torsos])
        self.boxes = {s.name: self._boxes(s) for s in subjects}

    @staticmethod
    def _boxes(subject: Subject) -> dict[str, np.ndarray]:
        boxes = {"all": np.array([(0, n) for n in subject.parts.shape])}
        if subject.region == "head":
            boxes["all"] = bounds(subject.values > 0)
            boxes["brain"] = bounds(labels.structure_mask(subject.parts, "brain"))
            boxes["deep"] = bounds(np.isin(subject.parts, labels.DEEP))
        return boxes

    def draw(self, rng: np.random.Generator) -> TrainingPicture:
        """Return one picture with visible content; the same generator state gives the same picture."""
        while True:
            picture = self._draw(rng)
            if self.crops or np.count_nonzero(picture.parts) > 0.03 * picture.parts.size:
                return picture

    def _draw(self, rng: np.random.Generator) -> TrainingPicture:
        if self.crops:
            return crop_picture(self.crops[int(rng.integers(len(self.crops)))], self.size, rng)
        if self.heads and (not self.torsos or rng.random() < self.head_share):
            subject = self.heads[int(rng.choice(len(self.heads), p=self.head_weights))]
            return head_picture(
                subject, self.boxes[subject.name], self.size, rng, self.zooms, self.crop_share, self.deep
            )
        subject = self.torsos[int(rng.choice(len(self.torsos), p=self.torso_weights / self.torso_weights.sum()))]
        return torso_picture(subject, self.boxes[subject.name]["all"], self.size, rng, self.crop_share)

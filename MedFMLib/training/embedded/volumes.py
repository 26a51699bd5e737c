"""Make training volumes with known parts: domain randomisation in three dimensions, or real scans that are varied.

Depends on subjects; no models. Label maps are rendered by SynthSeg's recipe (Billot et al., Medical Image Analysis
2023): deformation, random intensities per label, bias field, slices of random thickness, blur, gamma, noise. Beyond it:
brains without their skull, larger ventricles, lesions of any brightness, scans that end within the head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage

from . import labels
from .sources import Subject
from .synthesis import bounds, head_table

CT_CHANNELS = ((-160.0, 240.0), (-1000.0, 1500.0))
"""HU ranges that become 0…1 in the two channels of a CT, as in `models.masks.volume_head`."""

MIRRORED = 0.5
"""Share of the samples that are mirrored, left and right exchanged."""


@dataclass(frozen=True)
class Variation:
    """How far a sample is deformed.

    Args:
        rotation: largest angle about each axis, degrees.
        scale: standard deviation of the logarithm of the scale, of all axes together and of each alone.
        bending: largest displacement, mm, of the coarse and of the fine displacement field.
        shear: largest shear.
    """

    rotation: float = 18.0
    scale: tuple[float, float] = (0.08, 0.05)
    bending: tuple[float, float] = (7.0, 2.0)
    shear: float = 0.08


@dataclass(frozen=True, eq=False)
class Sample:
    """One training volume.

    Args:
        values: (C, I, J, K) float32.
        parts: (I, J, K) uint8.
        missing: parts that this source does not label: what has no structure may be one of them.
    """

    values: np.ndarray = field(repr=False)
    parts: np.ndarray = field(repr=False)
    missing: tuple[int, ...] = ()


def points(size: tuple[int, int, int], step: float, middle: np.ndarray, spacing: np.ndarray, rng: np.random.Generator,
           variation: Variation):  # fmt: skip
    """Return a (3, I, J, K) float32 tensor: the indices of a source volume that a deformed grid shows.

    Args:
        size: voxels of the grid.
        step: its spacing, mm.
        middle: (3,) mm, the point in the source that the grid's middle shows.
        spacing: (3,) mm of the source.
        rng: of all random values.
        variation: how far it is deformed.
    """
    import torch
    from torch.nn.functional import interpolate

    angles = np.deg2rad(rng.uniform(-1, 1, 3) * variation.rotation * rng.choice((0.4, 1.0), p=(0.4, 0.6)))
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        turn, (a, b) = np.eye(3), [n for n in range(3) if n != axis]
        turn[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = matrix @ turn
    stretch = np.exp(rng.normal(0, variation.scale[0]) + rng.normal(0, variation.scale[1], 3))
    matrix = matrix @ (np.eye(3) + np.triu(rng.uniform(-1, 1, (3, 3)) * variation.shear, 1)) / stretch
    axes = [(torch.arange(n, dtype=torch.float32) - (n - 1) / 2) * step for n in size]
    linear = torch.as_tensor(matrix / spacing[:, None], dtype=torch.float32)
    found = torch.empty((3, *size))
    start = middle / spacing - 0.5
    bends = []
    for knots, most in zip(((3, 6), (7, 12)), variation.bending, strict=True):
        n = int(rng.integers(*knots))
        strength = most * rng.uniform(0, 1) / 2.0
        bends.append(torch.as_tensor(rng.normal(0, strength, (1, 3, n, n, n)), dtype=torch.float32))
    bent = sum(interpolate(bend, size=size, mode="trilinear", align_corners=True)[0] for bend in bends)
    for row in range(3):
        flat = linear[row, 0] * axes[0][:, None, None] + linear[row, 1] * axes[1][:, None] + linear[row, 2] * axes[2]
        found[row] = flat + float(start[row]) + bent[row] / float(spacing[row])
    return found


def nearest(volume, where, outside: int = 0):
    """Return the voxels of a volume that the points are in.

    Args:
        volume: (I, J, K) tensor.
        where: (3, …) float tensor of indices.
        outside: value outside of the volume.
    """
    import torch

    inside = torch.ones(where.shape[1:], dtype=torch.bool)
    index = torch.zeros(where.shape[1:], dtype=torch.int32)
    for axis, n in enumerate(volume.shape):
        along = where[axis].round().int()
        inside &= (along >= 0) & (along < n)
        index.mul_(n).add_(along.clamp_(0, n - 1))
    return torch.where(inside, volume.flatten()[index.long()], torch.tensor(outside, dtype=volume.dtype))


def linear(volume, where, outside: float):
    """Return the volume interpolated linearly at the points.

    Args:
        volume: (I, J, K) float32 tensor.
        where: (3, …) float tensor of indices.
        outside: value outside of the volume.
    """
    import torch

    scale = torch.tensor([2.0 / max(1, n - 1) for n in volume.shape])
    grid = (where * scale[:, None, None, None] - 1).permute(1, 2, 3, 0).flip(-1)[None]
    kept = torch.nn.functional.grid_sample((volume - outside)[None, None], grid, align_corners=True)
    return kept[0, 0] + outside


def smooth(size: tuple[int, int, int], knots: int, rng: np.random.Generator):
    """Return an (I, J, K) tensor of standard deviation about 1, varying over size / knots voxels.

    Args:
        size: its shape.
        knots: along each axis.
        rng: of the random values.
    """
    import torch

    coarse = torch.as_tensor(rng.standard_normal((1, 1, knots, knots, knots)), dtype=torch.float32)
    return torch.nn.functional.interpolate(coarse, size=size, mode="trilinear", align_corners=True)[0, 0]


def thick_slices(values, axis: int, thickness: float, gap: float, sharp: bool = False):
    """Return a volume as if scanned in slices along an axis and interpolated linearly afterwards.

    Args:
        values: (I, J, K) float32 tensor of voxels of 1 unit.
        axis: normal of the slices.
        thickness: of a slice, in voxels.
        gap: distance of the slices, in voxels.
        sharp: do not blur along the axis.
    """
    import torch

    size = list(values.shape)
    if not sharp:
        blurred = ndimage.gaussian_filter1d(values.numpy(), 0.42 * thickness, axis=axis, truncate=2.0)
        values = torch.from_numpy(blurred)
    fewer = list(size)
    fewer[axis] = max(2, round(size[axis] / gap))
    low = torch.nn.functional.interpolate(values[None, None], size=fewer, mode="trilinear", align_corners=True)
    return torch.nn.functional.interpolate(low, size=size, mode="trilinear", align_corners=True)[0, 0]


class Heads:
    """Renders crops of heads from label maps; with `whole` set, whole brains in the middle of each crop.

    Args:
        subjects: whole-head label maps, FreeSurfer values.
        side: voxels along each side of a crop.
        step: spacing of the crops, mm.
        number_of_parts: parts from this number on become background.
    """

    def __init__(self, subjects: list[Subject], side: int, step: float = 1.0, number_of_parts: int = 29):
        import torch

        self.size, self.step, self.maps = (side,) * 3, step, []
        self.whole = False
        table = labels.part_table(labels.FREESURFER, "head tissue")
        for subject in subjects:
            values = torch.from_numpy(subject.values.astype(np.int16))
            unsided = np.isin(subject.values, labels.FREESURFER_UNSIDED)
            parts = torch.from_numpy(subject.parts) if unsided.any() else None
            box = bounds((subject.parts > 1) & (subject.parts < 29))
            self.maps.append((subject, values, parts, box, np.unique(subject.values)))
        table[table >= number_of_parts] = 0
        self.table = torch.from_numpy(table)
        swapped = np.arange(256, dtype=np.uint8)
        for left, right in labels.PAIRS:
            swapped[[left, right]] = right, left
        self.swapped = torch.from_numpy(swapped)

    def draw(self, rng: np.random.Generator) -> Sample:
        """Return a random crop.

        Args:
            rng: of all random values.
        """
        import torch

        subject, values, own, box, present = self.maps[int(rng.integers(len(self.maps)))]
        reach = np.array(self.size) * self.step / 2
        if self.whole:
            middle = box.mean(1)
        elif rng.random() < 0.92:
            low, high = box[:, 0] + 0.55 * reach, box[:, 1] - 0.55 * reach
            middle = np.where(low < high, rng.uniform(np.minimum(low, high), np.maximum(low, high)),
                              (low + high) / 2 + rng.uniform(-0.3, 0.3, 3) * reach)  # fmt: skip
        else:
            middle = rng.uniform(0, values.shape)
        where = points(self.size, self.step, middle * subject.spacing, subject.spacing, rng, Variation())
        if rng.random() < MIRRORED:
            where, mirrored = where.flip(1), True
        else:
            mirrored = False
        drawn = nearest(values, where)
        parts = self.table[drawn.long()] if own is None else nearest(own, where)
        if mirrored:
            parts = self.swapped[parts.long()]
        drawn, parts = _atrophied(drawn, parts, rng)
        if rng.random() < 0.4:
            drawn, parts = _without_skull(drawn, parts, rng)
        inside = None if self.whole else _field_of_view(self.size, rng)
        table = head_table(present, rng)
        mean, spread = (torch.from_numpy(t)[drawn.long()] for t in table)
        noise = torch.from_numpy(rng.standard_normal(self.size, dtype=np.float32))
        picture = mean + spread * noise
        picture = _with_lesions(picture, parts, rng)
        picture = as_scan(picture, rng, self.step)
        if inside is not None:
            picture, parts = picture * inside, torch.where(inside, parts, 0)
        return Sample(picture.numpy()[None], parts.numpy())


def _grown(mask, radius: int):
    """Return a bool tensor grown by a number of voxels along every axis."""
    import torch

    return torch.from_numpy(ndimage.maximum_filter(mask.numpy().view(np.uint8), 2 * radius + 1).view(bool))


def _atrophied(values, parts, rng: np.random.Generator):
    """Return values and parts with the ventricles enlarged, or the cortex thinned, in some samples."""
    import torch

    kind = rng.random()
    if kind < 0.2:
        radius = int(rng.integers(1, 4))
        for number, value, white in ((4, 4, 2), (5, 43, 3)):
            part = labels.part_number("left lateral ventricle" if number == 4 else "right lateral ventricle")
            tissue = labels.part_number("left cerebral white matter" if white == 2 else "right cerebral white matter")
            new = _grown(parts == part, radius) & (parts == tissue)
            values, parts = torch.where(new, value, values), torch.where(new, part, parts)
    elif kind < 0.32:
        fluid = _grown(values == 24, 1)
        cortex = (parts == labels.part_number("left cerebral cortex")) | (
            parts == labels.part_number("right cerebral cortex")
        )
        new = fluid & cortex
        values = torch.where(new, 24, values)
        parts = torch.where(new, labels.part_number("head tissue"), parts)
    return values, parts


def _without_skull(values, parts, rng: np.random.Generator):
    """Return values and parts of the brain alone, with a rim of other tissue in some samples."""
    import torch

    keep = parts > labels.part_number("head tissue")
    kind = rng.random()
    if kind < 0.5:
        keep = keep | (values == 24)
    if kind > 0.35:
        radius = int(rng.integers(1, 4))
        keep = _grown(keep, radius)
    return torch.where(keep, values, 0), torch.where(keep, parts, 0)


def _field_of_view(size: tuple[int, int, int], rng: np.random.Generator):
    """Return an (I, J, K) bool tensor with a part of the crop cut off along an axis, or None."""
    import torch

    if rng.random() > 0.2:
        return None
    inside = torch.ones(size, dtype=torch.bool)
    axis, share = int(rng.choice(3, p=(0.15, 0.15, 0.7))), rng.uniform(0.05, 0.5)
    n = round(size[axis] * share)
    inside.narrow(axis, 0 if rng.random() < 0.5 else size[axis] - n, n).fill_(False)
    return inside


def _with_lesions(picture, parts, rng: np.random.Generator):
    """Return a picture with ellipsoids of random brightness in the brain; the parts under them stay what they are."""
    import torch

    if rng.random() > 0.3:
        return picture
    brain = torch.nonzero(parts.flatten() > 1)
    if len(brain) < 1000:
        return picture
    for _ in range(int(rng.integers(1, 6))):
        middle = np.unravel_index(int(brain[int(rng.integers(len(brain)))]), picture.shape)
        radii = rng.uniform(1.5, 6.0 if rng.random() < 0.8 else 18.0) * np.exp(rng.normal(0, 0.3, 3))
        low = [max(0, int(m - 1.3 * r)) for m, r in zip(middle, radii, strict=True)]
        high = [min(n, int(m + 1.3 * r) + 2) for m, r, n in zip(middle, radii, picture.shape, strict=True)]
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        axes = [((torch.arange(a, b) - m) / r) ** 2 for a, b, m, r in zip(low, high, middle, radii, strict=True)]
        far = axes[0][:, None, None] + axes[1][:, None] + axes[2]
        edge = far + 0.25 * smooth(tuple(far.shape), 4, rng)
        share = torch.sigmoid((1 - edge) * rng.uniform(2, 12)) * (parts[box] > 1)
        bright = float(rng.uniform(0, 1.2)) + 0.04 * torch.from_numpy(rng.standard_normal(far.shape, dtype=np.float32))
        picture[box] = picture[box] * (1 - share) + bright * share
    return picture


def as_scan(picture, rng: np.random.Generator, step: float = 1.0):
    """Return (I, J, K) intensities as a scanner would show them: bias field, resolution, gamma, noise, scale.

    Args:
        picture: (I, J, K) float32 tensor, about 0…1.
        rng: of all random values.
        step: spacing, mm.
    """
    import torch

    size = tuple(picture.shape)
    if rng.random() < 0.75:
        picture = picture * torch.exp(rng.uniform(0, 0.35) * smooth(size, int(rng.integers(2, 5)), rng))
    blur = rng.uniform(0.25, 0.9) / max(1.0, 0.75 * step)
    if rng.random() < 0.45:  # slices of some thickness, at times with gaps
        axis = int(rng.integers(3))
        thickness = max(1.05, rng.uniform(1.5, 7.5) / step)
        gap = thickness * (rng.uniform(1.0, 1.25) if rng.random() < 0.4 else 1.0)
        picture = torch.from_numpy(ndimage.gaussian_filter(picture.numpy(), blur, truncate=3.0))
        picture = thick_slices(picture, axis, thickness * rng.uniform(0.7, 1.0), gap)
    elif rng.random() < 0.3:  # coarse along every axis
        gap = max(1.05, rng.uniform(1.2, 2.6) / step)
        picture = torch.from_numpy(ndimage.gaussian_filter(picture.numpy(), 0.42 * gap, truncate=2.5))
        fewer = [max(2, round(n / gap)) for n in size]
        low = torch.nn.functional.interpolate(picture[None, None], size=fewer, mode="trilinear", align_corners=True)
        picture = torch.nn.functional.interpolate(low, size=size, mode="trilinear", align_corners=True)[0, 0]
    else:
        picture = torch.from_numpy(ndimage.gaussian_filter(picture.numpy(), blur, truncate=3.0))
    if rng.random() < 0.85:
        noise = rng.uniform(0, 0.09 if rng.random() < 0.3 else 0.04)
        picture = picture + noise * torch.from_numpy(rng.standard_normal(size, dtype=np.float32))
    top = float(picture.flatten()[::17].kthvalue(max(1, int(0.995 * len(picture.flatten()[::17])))).values)
    picture = picture / max(top, 0.05)
    picture = picture.clamp(0, 1.5) ** float(np.exp(rng.normal(0, 0.3)))
    return picture * float(rng.uniform(0.7, 1.1))


def real_crop(image, parts, spacing: np.ndarray, size: tuple[int, int, int], step: float, rng: np.random.Generator,
              variation: Variation, outside: float, middle: np.ndarray, swapped=None):  # fmt: skip
    """Return (values, parts) of a real scan, deformed, and mirrored half of the time.

    Args:
        image: (I, J, K) float32 tensor.
        parts: (I, J, K) uint8 tensor.
        spacing: (3,) mm of both.
        size: voxels of the crop.
        step: its spacing, mm.
        rng: of all random values.
        variation: how far it is deformed.
        outside: intensity outside of the scan.
        middle: (3,) mm, what the crop's middle shows.
        swapped: (256,) tensor, part → the part of the other side; None for no sides.
    """
    where = points(size, step, middle, spacing, rng, variation)
    mirrored = rng.random() < MIRRORED
    if mirrored:
        where = where.flip(1)
    drawn = nearest(parts, where)
    if mirrored and swapped is not None:
        drawn = swapped[drawn.long()]
    return linear(image, where, outside), drawn


def endless(source, seed: int, start: int) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[int, ...]]]:
    """Yield (float16 values, uint8 parts, missing parts) of sample after sample; number n of seed s is always the same.

    Args:
        source: with `draw`.
        seed: of the series.
        start: number of the first sample.
    """
    number = start
    while True:
        made = source.draw(np.random.default_rng((seed, number)))
        yield made.values.astype(np.float16), made.parts, made.missing
        number += 1


def head_source(data: Path, side: int, step: float = 1.0) -> Heads:
    """Return the training heads.

    Args:
        data: the data folder.
        side: voxels along each side of a crop.
        step: spacing of the crops, mm.
    """
    from .sources import head_maps

    return Heads(head_maps(data), side, step)


def coarse_head_source(data: Path, side: int) -> Heads:
    """Return the training heads at 2 mm.

    Args:
        data: the data folder.
        side: voxels along each side of a crop.
    """
    return head_source(data, side, 2.0)


HEAD_NECK_PARTS = ("background", "body", *labels.HEAD_NECK_STRUCTURES)
"""Part n is label n − 1 of OpenKBP, from 2 on."""


class HeadNecks:
    """Varies planning CTs of the head and neck with the contours of their treatment.

    Args:
        scans: (HU, parts, spacing, missing parts) of each patient, in RAS order.
        side: voxels along each side of a crop.
        step: spacing of the crops, mm.
    """

    variation = Variation(12.0, (0.07, 0.05), (7.0, 2.0), 0.06)

    def __init__(self, scans, side: int, step: float):
        import torch

        self.size, self.step = (side,) * 3, step
        self.scans = [(torch.from_numpy(hu), torch.from_numpy(parts), spacing, missing, bounds(parts > 1))
                      for hu, parts, spacing, missing in scans]  # fmt: skip
        swapped = np.arange(256, dtype=np.uint8)
        swapped[[4, 5]] = 5, 4
        self.swapped = torch.from_numpy(swapped)

    def draw(self, rng: np.random.Generator) -> Sample:
        """Return a random crop.

        Args:
            rng: of all random values.
        """
        import torch

        hu, parts, spacing, missing, box = self.scans[int(rng.integers(len(self.scans)))]
        low, high = box[:, 0] * spacing, box[:, 1] * spacing
        middle = (low + high) / 2 + rng.uniform(-1, 1, 3) * (30, 30, 0)
        middle[2] = rng.uniform(low[2] - 20, high[2] + 20)
        drawn, truth = real_crop(hu, parts, spacing, self.size, self.step, rng, self.variation, -1000.0, middle,
                                 self.swapped)  # fmt: skip
        body = drawn > -300
        truth = torch.where((truth == 0) & body, 1, truth)
        drawn = drawn + body * float(rng.normal(0, 12)) + body * (rng.normal(0, 8)) * smooth(self.size, 4, rng)
        bright = (drawn > 90).float()
        drawn = drawn + bright * (drawn - 90) * float(rng.normal(0, 0.12))  # bone and contrast agent
        if rng.random() < 0.35:  # what a patient lies on
            where, thick = int(rng.integers(2, self.size[1] // 3)), int(rng.integers(1, 5))
            rest = (truth == 0)[:, where : where + thick]
            drawn[:, where : where + thick] = torch.where(
                rest, float(rng.uniform(-900, 150)), drawn[:, where : where + thick]
            )
        blur = rng.uniform(0.0, 0.8)
        if blur > 0.2:
            drawn = torch.from_numpy(ndimage.gaussian_filter(drawn.numpy(), blur, truncate=3.0))
        if rng.random() < 0.3:
            drawn = thick_slices(drawn, 2, rng.uniform(1.2, 3.0), rng.uniform(1.2, 3.0))
        noise = torch.from_numpy(rng.standard_normal(self.size, dtype=np.float32))
        drawn = drawn + float(rng.uniform(0, 30)) * noise
        inside = _field_of_view(self.size, rng)
        if inside is not None:
            drawn, truth = torch.where(inside, drawn, -1000.0), torch.where(inside, truth, 0)
        values = torch.stack([((drawn - a) / (b - a)).clamp(0, 1) for a, b in CT_CHANNELS])
        return Sample(values.numpy(), truth.numpy(), missing)


class Crops:
    """Varies MR crops around one hippocampus.

    Args:
        subjects: crops with images and manual parts.
        size: voxels of a sample.
    """

    variation = Variation(14.0, (0.06, 0.06), (2.5, 1.2), 0.06)

    def __init__(self, subjects: list[Subject], size: tuple[int, int, int] = (48, 64, 48)):
        import torch

        self.size = size
        self.subjects = [(torch.from_numpy(s.image), torch.from_numpy(s.parts), s.spacing) for s in subjects]

    def draw(self, rng: np.random.Generator) -> Sample:
        """Return a random sample.

        Args:
            rng: of all random values.
        """
        import torch

        image, parts, spacing = self.subjects[int(rng.integers(len(self.subjects)))]
        middle = np.array(image.shape) * spacing / 2 + rng.uniform(-4, 4, 3)
        picture, truth = real_crop(image, parts, spacing, self.size, 1.0, rng, self.variation, 0.0, middle)
        if rng.random() < 0.7:
            picture = picture * torch.exp(float(rng.uniform(0, 0.3)) * smooth(self.size, 3, rng))
        if rng.random() < 0.15:  # dark becomes bright, as in other contrasts
            picture = torch.where(picture > 0.06, 1.1 - picture, picture)
        blur = rng.uniform(0, 0.7)
        if blur > 0.25:
            picture = torch.from_numpy(ndimage.gaussian_filter(picture.numpy(), blur, truncate=3.0))
        if rng.random() < 0.25:
            gap = rng.uniform(1.5, 4.0)
            picture = thick_slices(picture, int(rng.integers(3)), gap, gap)
        noise = torch.from_numpy(rng.standard_normal(self.size, dtype=np.float32))
        picture = picture.clamp(min=0) ** float(np.exp(rng.normal(0, 0.25))) + float(rng.uniform(0, 0.06)) * noise
        return Sample((picture * float(rng.uniform(0.7, 1.2))).clamp(0, 1.5).numpy()[None], truth.numpy())


def head_neck_source(data: Path, side: int, step: float = 2.5) -> HeadNecks:
    """Return the training patients of the head and neck.

    Args:
        data: the data folder.
        side: voxels along each side of a crop.
        step: spacing, mm.
    """
    from .sources import head_neck_scans

    return HeadNecks([scan[1:] for scan in head_neck_scans(data)], side, step)


def hippocampus_source(data: Path, side: int) -> Crops:
    """Return the training crops of hippocampi.

    Args:
        data: the data folder.
        side: largest side of a sample, voxels.
    """
    from .sources import hippocampus_subjects

    return Crops(hippocampus_subjects(data), (side - 16, side, side - 16))

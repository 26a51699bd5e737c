"""Judge from what a volume network finds whether an image is of the kind that it was trained for.

Knows part numbers and confidences on a grid; nothing of models or files of images. A network that was trained on heads
finds something in a knee, too, but not the parts of a head at their sizes, in their arrangement, in one piece and with
certainty. These facts are compared with those of the label maps of training; a logistic regression joins them to a
probability.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from ...core.domain import ImageDomain

LEAST_ML = 0.05
"""Parts with less than this were not found."""

FACTS = ("found", "sizes", "arrangement", "certainty", "one piece", "share", "extent")
CERTAIN_SHARE = 0.75


@dataclass(frozen=True)
class PartLayout:
    """Sizes and arrangement of parts in the label maps of training, for a whole field of view.

    Args:
        parts: their numbers.
        sizes: (parts, 2) mean and standard deviation of the logarithm of the volume in mL.
        offsets: (parts, parts, 6) mean and standard deviation of the vector between two centroids, mm along R, A, S.
    """

    parts: tuple[int, ...]
    sizes: np.ndarray = field(repr=False)
    offsets: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, volumes: Sequence[tuple[np.ndarray, np.ndarray]], parts: Sequence[int]) -> PartLayout:
        """Return the layout of some label maps.

        Args:
            volumes: (part numbers in RAS order, (3,) spacing mm) of each.
            parts: numbers of the parts; those that a map lacks are left out for it.
        """
        sizes, centres = [], []
        for values, spacing in volumes:
            ml, middle = _sizes_and_centres(values, parts, spacing)
            sizes.append(np.where(ml > LEAST_ML, np.log(np.maximum(ml, 1e-6)), np.nan))
            centres.append(np.where((ml > LEAST_ML)[:, None], middle, np.nan))
        logs, places = np.array(sizes), np.array(centres)
        between = places[:, None] - places[:, :, None]
        size = np.stack([np.nanmean(logs, 0), np.maximum(np.nanstd(logs, 0), 0.2)], -1)
        offset = np.concatenate([np.nanmean(between, 0), np.maximum(np.nanstd(between, 0), 4.0)], -1)
        return cls(tuple(parts), size, offset)


@dataclass(frozen=True)
class DomainJudge:
    """Judges the parts that a network found.

    Args:
        modality: of the images of its domain.
        region: name of the body region of its domain.
        layout: of the label maps.
        weights: of `FACTS`.
        bias: of the logistic regression.
        threshold: smallest probability that counts as known.
        largest_mm: longest edge of the images that it judges; 0 for any.
    """

    modality: str
    region: str
    layout: PartLayout
    weights: tuple[float, ...]
    bias: float
    threshold: float
    largest_mm: float = 0.0

    def chance(self, facts: np.ndarray) -> float:
        """Return the probability that an image with these facts is of the domain.

        Args:
            facts: (len(FACTS),), see `describe`.
        """
        return float(1 / (1 + np.exp(-(facts @ np.array(self.weights) + self.bias))))

    def judge(self, facts: np.ndarray) -> ImageDomain:
        """Return the verdict on an image.

        Args:
            facts: (len(FACTS),), see `describe`.
        """
        chance = self.chance(facts)
        if chance >= self.threshold:
            return ImageDomain(True, "", chance, self.region)
        known = dict(zip(FACTS, facts, strict=True))
        if known["found"] < 0.2:
            reason = f"hardly anything of a {self.region} was found in it"
        elif known["arrangement"] < 0.8:
            reason = f"what was found is not arranged as in a {self.region}"
        elif known["sizes"] < 0.7:
            reason = f"what was found has not the sizes of structures in a {self.region}"
        else:
            reason = f"what was found is too uncertain for a {self.region}"
        return ImageDomain(False, reason, chance)

    def as_json(self) -> dict:
        """Return the content of a JSON file, which `from_json` reads."""
        return {
            "modality": self.modality,
            "region": self.region,
            "weights": [round(w, 4) for w in self.weights],
            "bias": round(self.bias, 4),
            "threshold": round(self.threshold, 4),
            "largest_mm": self.largest_mm,
            "parts": list(self.layout.parts),
            "sizes": self.layout.sizes.round(3).tolist(),
            "offsets": [
                [int(a), int(b), *self.layout.offsets[a, b].round(1).tolist()]
                for a in range(len(self.layout.parts))
                for b in range(a)
            ],
        }

    @classmethod
    def from_json(cls, content: dict) -> DomainJudge:
        """Return what `as_json` described.

        Args:
            content: of the file.
        """
        n = len(content["parts"])
        offsets = np.zeros((n, n, 6))
        for a, b, *values in content["offsets"]:
            offsets[a, b] = values
            offsets[b, a] = [*(-v for v in values[:3]), *values[3:]]
        layout = PartLayout(tuple(content["parts"]), np.array(content["sizes"], float), offsets)
        return cls(content["modality"], content["region"], layout, tuple(content["weights"]), content["bias"],
                   content["threshold"], content["largest_mm"])  # fmt: skip


def describe(parts: np.ndarray, certainty: np.ndarray, spacing, layout: PartLayout) -> np.ndarray:
    """Return (len(FACTS),) facts about what a network found, each 0…1.

    found: share of the parts with at least a tenth of their usual volume; sizes: share of these whose volume is within
    three standard deviations; arrangement: share of the pairs whose distance is; certainty: mean probability of the
    voxels; one piece: share of the largest connected component; share: of the usual volume of all parts; extent: of the
    usual extent, along the axis where it is smallest.

    Args:
        parts: (I, J, K) uint8 in RAS order.
        certainty: (I, J, K) uint8, probability of the most probable part × 255.
        spacing: (3,) mm.
        layout: of the label maps.
    """
    ml, centres = _sizes_and_centres(parts, layout.parts, spacing)
    usual = np.exp(layout.sizes[:, 0])
    there = ml > np.maximum(LEAST_ML, 0.1 * usual)
    named = np.isin(parts, layout.parts)
    if not there.any() or not named.any():
        return np.zeros(len(FACTS))
    z = (np.log(np.maximum(ml, 1e-6)) - layout.sizes[:, 0]) / layout.sizes[:, 1]
    sizes = float((np.abs(z[there]) < 3).mean())
    a, b = np.nonzero(np.tril(np.outer(there, there), -1))
    arranged = 0.0
    if len(a):
        off = centres[b] - centres[a]
        expected = layout.offsets[a, b]
        known = ~np.isnan(expected).any(1)
        near = (np.abs(off - expected[:, :3]) < 3.0 * expected[:, 3:]).all(1)[known]
        arranged = float(near.mean()) if len(near) else 0.0
    small = named[::2, ::2, ::2]
    pieces, count = ndimage.label(small)
    largest = np.bincount(pieces.ravel())[1:].max() / max(1, small.sum()) if count else 0.0
    sure = float(certainty[named].mean()) / 255
    extent = []
    for axis in range(3):
        along = named.any(axis=tuple(i for i in range(3) if i != axis))
        extent.append(along.sum() * spacing[axis])
    whole = (usual.sum() * 1000) ** (1 / 3) * 1.2
    return np.array([there.mean(), sizes, arranged, sure, largest, min(1.0, ml.sum() / usual.sum()),
                     min(1.0, min(extent) / whole)])  # fmt: skip


def _sizes_and_centres(values: np.ndarray, parts: Sequence[int], spacing) -> tuple[np.ndarray, np.ndarray]:
    """Return ((parts,) mL, (parts, 3) centroid in mm) of each part; 0 where it is absent."""
    numbers = np.asarray(parts)
    flat = values.ravel()
    counts = np.bincount(flat, minlength=256)[numbers].astype(float)
    centres = np.zeros((len(numbers), 3))
    for axis in range(3):
        line = np.arange(values.shape[axis], dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        sums = np.bincount(flat, np.broadcast_to(line, values.shape).ravel(), minlength=256)[numbers]
        centres[:, axis] = sums / np.maximum(counts, 1) * spacing[axis]
    return counts * float(np.prod(spacing)) / 1000, centres

"""Make volumes that show no head: phantoms, noise, limbs, trunks, heads without their brain or stored the wrong way round.

Depends on subjects; no models. They teach `train_domain` what the embedded model was not made for. Most are random, so
that no single kind of body part has to be known.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import labels
from .sources import Subject
from .volumes import CT_CHANNELS, Heads, Variation, as_scan, linear, nearest, points, smooth

KINDS = ("shapes", "limb", "noise", "trunk", "below the brain", "wrong axes", "real trunk")


class OtherImages:
    """Draws volumes outside of a domain.

    Args:
        modality: "MR" or "CT".
        trunks: label maps of trunks, (values, spacing) in RAS order.
        real: (image, spacing) of real trunks of the modality, in RAS order.
        heads: the heads, for parts without brain and for wrong axes; None for CT.
        side: voxels along each side.
        step: spacing, mm.
    """

    def __init__(self, modality: str, trunks, real, heads: Heads | None, side: int, step: float):
        self.modality, self.trunks, self.real, self.heads = modality, trunks, real, heads
        self.size, self.step = (side,) * 3, step

    def draw(self, rng: np.random.Generator, kind: str) -> np.ndarray:
        """Return (C, I, J, K) float32 values as the volume network gets them.

        Args:
            rng: of all random values.
            kind: one of `KINDS`.
        """
        import torch

        if kind in ("below the brain", "wrong axes") and self.heads is not None:
            return self._from_head(rng, kind)
        if kind == "noise":
            picture = torch.from_numpy(np.abs(rng.standard_normal(self.size, dtype=np.float32))) * 0.3
            return self._scanned(picture * smooth(self.size, 3, rng).abs(), rng)
        if kind == "real trunk" and self.real:
            return self._from_real(rng)
        if kind in ("trunk", "real trunk") and self.trunks:
            values, spacing = self.trunks[int(rng.integers(len(self.trunks)))]
            middle = rng.uniform(0.2, 0.8, 3) * values.shape * spacing
            where = points(self.size, self.step, middle, spacing, rng, Variation())
            drawn = nearest(values, where).long()
        elif kind == "limb":
            drawn = self._limb(rng)
        else:
            drawn = self._shapes(rng)
        means = torch.from_numpy(rng.uniform(0, 1, 1024).astype(np.float32))
        means[0] = rng.uniform(0, 0.03)
        spread = torch.from_numpy(rng.uniform(0.01, 0.08, 1024).astype(np.float32))
        noise = torch.from_numpy(rng.standard_normal(self.size, dtype=np.float32))
        return self._scanned(means[drawn] + spread[drawn] * noise, rng)

    def _scanned(self, picture, rng: np.random.Generator) -> np.ndarray:
        """Return intensities, about 0…1, as the network gets them; for CT as HU from air to bone."""
        import torch

        if self.modality != "CT":
            return as_scan(picture, rng, self.step).numpy()[None]
        low, high = (-1000, 1500) if rng.random() < 0.4 else (-150, 250)
        hu = torch.where(picture < 0.04, torch.tensor(-1000.0), low + (high - low) * picture)
        hu = hu + 15 * torch.from_numpy(rng.standard_normal(self.size, dtype=np.float32))
        return torch.stack([((hu - a) / (b - a)).clamp(0, 1) for a, b in CT_CHANNELS]).numpy()

    def _shapes(self, rng: np.random.Generator):
        """Return part numbers of random shapes (Hoffmann et al., SynthMorph, IEEE TMI 2022) in a random outline."""
        import torch

        count, best = int(rng.integers(4, 26)), None
        drawn = torch.zeros(self.size, dtype=torch.long)
        for number in range(count):
            height = smooth(self.size, int(rng.integers(3, 11)), rng)
            if best is None:
                best = height
                continue
            drawn = torch.where(height > best, number, drawn)
            best = torch.maximum(best, height)
        return torch.where(self._ellipsoid(rng, (0.35, 1.1)), drawn + 1, 0)

    def _limb(self, rng: np.random.Generator):
        """Return part numbers of a long body with bones, muscles and a skin, along a random axis."""
        import torch

        axis = int(rng.integers(3))
        drawn = torch.zeros(self.size, dtype=torch.long)
        outer = rng.uniform(0.25, 0.6)
        drawn[self._ellipsoid(rng, (outer, outer * 1.3), axis)] = 1
        drawn[self._ellipsoid(rng, (outer * 0.85, outer * 1.05), axis)] = 2
        for number in range(3, int(rng.integers(6, 14))):
            small = self._ellipsoid(rng, (0.06, 0.35), axis, 0.35 * outer)
            drawn = torch.where(small & (drawn > 0), number, drawn)
        return drawn

    def _ellipsoid(self, rng: np.random.Generator, sizes, along: int | None = None, shift: float = 0.1):
        """Return where an ellipsoid is; endless along an axis if one is given."""
        import torch

        far = 0.3 * smooth(self.size, 5, rng) * rng.uniform(0, 1)
        for axis in range(3):
            if axis == along and rng.random() < 0.8:
                continue
            line = torch.linspace(-1, 1, self.size[axis]) - float(rng.normal(0, shift))
            shape = [-1 if a == axis else 1 for a in range(3)]
            far = far + ((line / float(rng.uniform(*sizes))) ** 2).reshape(shape)
        return far < 1

    def _from_head(self, rng: np.random.Generator, kind: str) -> np.ndarray:
        if kind == "wrong axes":
            made = self.heads.draw(rng).values
            turn = [(0, 2, 1), (1, 0, 2), (2, 1, 0), (1, 2, 0), (2, 0, 1)][int(rng.integers(5))]
            if rng.random() < 0.4:
                return np.ascontiguousarray(made[:, :, :, ::-1])  # upside down
            return np.ascontiguousarray(made.transpose(0, *(1 + t for t in turn)))
        for _ in range(20):
            made = self.heads.draw(rng)
            brain = np.flatnonzero((made.parts > 1).any(axis=(0, 1)))
            if len(brain) and brain[0] > 10:  # the neck and the lower half of the face
                values = made.values.copy()
                values[..., int(brain[0]) :] = 0
                return values
        return np.zeros((1, *self.size), np.float32)

    def _from_real(self, rng: np.random.Generator) -> np.ndarray:
        import torch

        image, spacing = self.real[int(rng.integers(len(self.real)))]
        middle = rng.uniform(0.2, 0.8, 3) * image.shape * spacing
        where = points(self.size, self.step, middle, spacing, rng, Variation())
        if self.modality == "CT":
            hu = linear(image, where, -1000.0)
            return torch.stack([((hu - a) / (b - a)).clamp(0, 1) for a, b in CT_CHANNELS]).numpy()
        return as_scan(linear(image, where, 0.0), rng, self.step).numpy()[None]


def other_images(data: Path, modality: str, side: int, step: float) -> OtherImages:
    """Return what is drawn from for a modality: trunks of the training sources, no image that the bench uses.

    Args:
        data: the data folder.
        modality: "MR" or "CT".
        side: voxels along each side.
        step: spacing, mm.
    """
    import torch

    from .sources import body_label_maps, head_maps, torso_subjects

    subjects: list[Subject] = torso_subjects(data)
    trunks = [(torch.from_numpy(s.values.astype(np.int16)), s.spacing) for s in subjects if s.name == "ct_torso"]
    trunks += [(torch.from_numpy(values.astype(np.int16)), spacing) for values, spacing in body_label_maps(data)]
    real = []
    for subject in subjects:
        if subject.modality == modality and subject.name in ("ct_torso", "mr_torso"):
            image = subject.image if modality == "CT" else subject.image / max(1.0, np.percentile(subject.image, 99.5))
            real.append((torch.from_numpy(np.ascontiguousarray(image, np.float32)), subject.spacing))
    heads = Heads(head_maps(data), side, step, len(labels.PARTS[:29])) if modality == "MR" else None
    return OtherImages(modality, trunks, real, heads, side, step)

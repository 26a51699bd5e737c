"""An experiment: can label maps of three bodies, rendered as CT, teach a network the organs of other patients' CT?

    python -m MedFMLib.training.embedded.trunk_experiment --data DIR --work DIR --minutes 15

Label maps of an abdomen (AMOS) and of two trunks (Visible Human, from meshes) are rendered with HU ranges per tissue,
contrast phases, strong deformation, cut fields of view and noise; what is not labelled inside the body becomes
random fat, muscle, bone and gas. The network is judged on the real CT of another patient, whose labels are the output of
TotalSegmentator. What stays below a Dice of 0.70 is not offered by the embedded model; docs/decisions/0018 has the
result. Nothing of it ships.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import ndimage

from .sources import in_ras_order, read
from .volumes import CT_CHANNELS, Sample, Variation, bounds, nearest, points, smooth, thick_slices

PARTS = (
    "background",
    "body",
    "liver",
    "spleen",
    "right kidney",
    "left kidney",
    "aorta",
    "urinary bladder",
    "stomach",
    "heart",
)
OFFERED = 0.70
"""Smallest Dice on other patients with which an organ would be offered."""

MAPS = {
    "amos_abdomen_labels.nii.gz": {6: 2, 1: 3, 2: 4, 3: 5, 8: 6, 14: 7, 7: 8},
    "vh_female_labels.nii.gz": {4: 2, 5: 3, 7: 4, 6: 5, 14: 6, 13: 7, 2: 9},
    "vh_male_labels.nii.gz": {4: 2, 5: 3, 7: 4, 6: 5, 14: 6, 13: 7, 2: 9},
}
"""File → its value → part."""

TOTALSEGMENTATOR = {5: 2, 1: 3, 2: 4, 3: 5, 52: 6, 21: 7, 6: 8, 51: 9}


class Trunks:
    """Renders crops of trunks as CT.

    Args:
        data: the data folder.
        side: voxels along each side of a crop.
        step: spacing of the crops, mm.
    """

    variation = Variation(14.0, (0.1, 0.08), (16.0, 4.0), 0.1)

    def __init__(self, data: Path, side: int, step: float = 3.0):
        import torch

        self.size, self.step, self.maps = (side,) * 3, step, []
        for file, table in MAPS.items():
            image = read(data / "body_labelmaps" / file)
            values, spacing = in_ras_order(image.scalars.astype(np.uint16), image.geometry)
            look = np.ones(256, np.uint8)
            look[0] = 0
            for value, part in table.items():
                look[value] = part
            parts = look[values]
            if "amos" in file:  # it has no outline of the body
                parts = np.where((parts == 0) & _outline(parts), 1, parts).astype(np.uint8)
            missing = tuple(n for n in range(2, len(PARTS)) if n not in table.values())
            drawn = torch.from_numpy(values.astype(np.int16)), torch.from_numpy(parts)
            self.maps.append((*drawn, spacing, missing, bounds(parts > 1)))

    def draw(self, rng: np.random.Generator) -> Sample:
        """Return a random crop.

        Args:
            rng: of all random values.
        """
        import torch

        values, parts, spacing, missing, box = self.maps[int(rng.integers(len(self.maps)))]
        middle = rng.uniform(box[:, 0], box[:, 1]) * spacing
        middle[:2] = box[:2].mean(1) * spacing[:2] + rng.uniform(-40, 40, 2)
        where = points(self.size, self.step, middle, spacing, rng, self.variation)

        drawn, truth = nearest(values, where).long(), nearest(parts, where)
        phase = rng.uniform(0, 1)
        means = torch.from_numpy(rng.uniform(0, 80, 64).astype(np.float32))
        hu = means[drawn.clamp(max=63)]
        organs = {
            2: rng.uniform(40, 75) + 60 * phase,
            3: rng.uniform(40, 60) + 70 * phase,
            6: rng.uniform(30, 55) + 240 * phase * rng.random(),
            7: rng.uniform(-5, 25) if rng.random() < 0.8 else rng.uniform(60, 300),
            8: rng.uniform(-30, 80),
            9: rng.uniform(30, 55) + 150 * phase * rng.random(),
        }
        organs[4] = organs[5] = rng.uniform(25, 45) + 160 * phase
        for part, mean in organs.items():
            hu = torch.where(truth == part, float(mean), hu)
        hu = torch.where(truth == 1, self._filling(truth, rng), hu)
        hu = hu + float(rng.uniform(2, 14)) * smooth(self.size, 12, rng)
        hu = torch.where(truth == 0, -1000.0, hu)
        hu = torch.from_numpy(ndimage.gaussian_filter(hu.numpy(), rng.uniform(0.3, 0.8), truncate=3.0))
        if rng.random() < 0.3:
            gap = rng.uniform(1.2, 3.0)
            hu = thick_slices(hu, 2, gap, gap)
        hu = hu + float(rng.uniform(4, 35)) * torch.from_numpy(rng.standard_normal(self.size, dtype=np.float32))
        scaled = torch.stack([((hu - a) / (b - a)).clamp(0, 1) for a, b in CT_CHANNELS])
        return Sample(scaled.numpy(), truth.numpy(), missing)

    def _filling(self, truth, rng: np.random.Generator):
        """Return HU for what has no label inside the body: fat, muscle, bones and gas at random, fat under the skin."""
        import torch

        height = smooth(self.size, int(rng.integers(8, 20)), rng)
        filled = torch.where(height > rng.uniform(-0.4, 0.4), float(rng.uniform(40, 65)), float(rng.uniform(-115, -85)))
        gas = smooth(self.size, int(rng.integers(6, 14)), rng) > rng.uniform(1.2, 2.2)
        bone = smooth(self.size, int(rng.integers(8, 18)), rng) > rng.uniform(1.1, 1.9)
        filled = torch.where(gas, float(rng.uniform(-950, -700)), filled)
        filled = torch.where(bone, float(rng.uniform(150, 600)), filled)
        if rng.random() < 0.5:  # lungs above the liver
            liver = torch.nonzero((truth == 2).any(0).any(0))
            if len(liver):
                top = int(liver.max()) + int(rng.integers(-6, 4))
                above = smooth(self.size, 5, rng)[..., top:] > -0.6
                filled[..., top:] = torch.where(above, float(rng.uniform(-900, -750)), filled[..., top:])
        depth = ndimage.distance_transform_cdt((truth > 0).numpy(), "taxicab")
        return torch.where(torch.from_numpy(depth <= int(rng.integers(1, 9))), float(rng.uniform(-115, -85)), filled)


def _outline(parts: np.ndarray) -> np.ndarray:
    """Return an elliptical body around organs, the same along the patient's length."""
    box = bounds(parts > 0)
    x, y = np.ogrid[: parts.shape[0], : parts.shape[1]]
    (a, b), (c, d) = box[0], box[1]
    inside = ((x - (a + b) / 2) / (0.62 * (b - a))) ** 2 + ((y - (c + d) / 2) / (0.68 * (d - c))) ** 2 < 1
    return np.broadcast_to(inside[..., None], parts.shape)


def judge(head, data: Path) -> dict[str, float]:
    """Return organ → Dice on the real CT of a patient whom training never saw.

    Args:
        head: the trained `VolumeHead`.
        data: the data folder.
    """
    from ...measure.overlap import dice

    image, truth = read(data / "ct_torso" / "ct.nii.gz", "CT"), read(data / "ct_torso" / "ct_seg.nii.gz").scalars
    found = head.name_voxels(image, range(2, len(PARTS)), True).parts
    return {PARTS[part]: dice(found == part, truth == value) for value, part in TOTALSEGMENTATOR.items()}


def main() -> None:
    """Read the command line and run."""
    import torch

    from ...models.masks.volume_head import VolumeHead
    from .train_volume import train
    from .volume_specialties import SPECIALTIES, VolumeSpecialty

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rate", type=float, default=2e-3)
    o = parser.parse_args()
    o.work.mkdir(parents=True, exist_ok=True)
    special = VolumeSpecialty(PARTS, 2, 3.0, 80, (32, 64, 96, 96), Trunks)
    SPECIALTIES["trunk"] = special
    train("trunk", o.data, o.work, o.minutes, o.rate, 41, 1)
    network = special.network()
    network.load_state_dict(torch.load(o.work / "volume-trunk.pt", weights_only=True)["average"])
    network.to(memory_format=torch.channels_last_3d).eval()
    head = VolumeHead(network, {p: (n,) for n, p in enumerate(PARTS) if n > 1}, 3.0, 80)
    found = judge(head, o.data)
    (o.work / "trunk.json").write_text(json.dumps(found, indent=1) + "\n")
    for organ, value in found.items():
        print(f"{organ:16s} {value or 0.0:.3f}  {'offered' if (value or 0) >= OFFERED else 'withdrawn'}")


if __name__ == "__main__":
    main()

"""Define what each volume network is for: its parts, its sampling, and where its training volumes come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import labels, volumes


@dataclass(frozen=True)
class VolumeSpecialty:
    """Purpose of a volume network.

    Args:
        parts: names of its classes; 0 is everything else.
        inputs: channels of its input.
        step: spacing of its input, mm.
        side: voxels along each side of a training crop, and of a tile.
        channels: see `volume_network.VolumeNetwork`.
        source: (data folder, side) → an object with `draw`.
        tissues: number of leading parts that are not structures.
        guide: name of the coarser network, of twice the step, that guides this one; "" for none.
    """

    parts: tuple[str, ...]
    inputs: int
    step: float
    side: int
    channels: tuple[int, int, int, int]
    source: Callable
    tissues: int = 2
    guide: str = ""

    def network(self):
        """Return the network with random weights."""
        from ...models.masks.volume_network import VolumeNetwork

        guide = len(SPECIALTIES[self.guide].parts) if self.guide else 0
        return VolumeNetwork(self.inputs, len(self.parts), self.channels, guide)

    def samples(self, data: Path, seed: int, start: int) -> Iterator:
        """Return the endless series of samples, see `volumes.endless`.

        Args:
            data: the data folder.
            seed: of the series.
            start: number of the first sample.
        """
        return volumes.endless(self.source(data, self.side), seed, start)


SPECIALTIES = {
    "brain-mr-coarse": VolumeSpecialty(labels.PARTS[:29], 1, 2.0, 80, (32, 64, 96, 96), volumes.coarse_head_source),
    "brain-mr": VolumeSpecialty(
        labels.PARTS[:29], 1, 1.0, 96, (32, 64, 96, 64), volumes.head_source, guide="brain-mr-coarse"
    ),
    "head-neck-ct": VolumeSpecialty(volumes.HEAD_NECK_PARTS, 2, 2.5, 80, (32, 64, 96, 96), volumes.head_neck_source),
    "hippocampus": VolumeSpecialty(
        ("background", "anterior hippocampus", "posterior hippocampus"),
        1, 1.0, 64, (32, 48, 64, 64), volumes.hippocampus_source, 1,
    ),
}  # fmt: skip

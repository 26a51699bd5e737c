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
    """

    parts: tuple[str, ...]
    inputs: int
    step: float
    side: int
    channels: tuple[int, int, int, int]
    source: Callable

    def network(self):
        """Return the network with random weights."""
        from ...models.masks.volume_network import VolumeNetwork

        return VolumeNetwork(self.inputs, len(self.parts), self.channels)

    def samples(self, data: Path, seed: int, start: int) -> Iterator:
        """Return the endless series of samples, see `volumes.endless`.

        Args:
            data: the data folder.
            seed: of the series.
            start: number of the first sample.
        """
        return volumes.endless(self.source(data, self.side), seed, start)


SPECIALTIES = {
    "brain-mr": VolumeSpecialty(labels.PARTS[:29], 1, 1.0, 112, (32, 64, 96, 96), volumes.head_source),
}

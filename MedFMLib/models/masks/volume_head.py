"""Segment a whole volume with a three-dimensional network, tile by tile, with volumes that are right on average.

Knows images, grids and the network; nothing of architectures of language models or of adapters.

1. The volume is brought into RAS order and resampled on cubes along the patient's axes, as `volume_masks` does.
2. A coarse network looks at the whole body and finds the focus (the brain); it may also show that there is none.
3. A fine network, guided by what the coarse one saw, looks at the focus. Both look at overlapping tiles, weighted like
   a Gaussian (Isensee et al., nnU-Net, Nature Methods 2021).
4. The most probable part of each voxel draws what is uncertain too small. The probabilities were trained by a proper
   score, so their sum is the expected volume of a part; each part's probability is scaled until the number of voxels
   it is drawn in agrees with that sum.
5. Each voxel of the image gets its most probable part, interpolated between the cubes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ...core.geometry import Geometry
from ...core.image import Image
from ...core.view import window_for
from ...errors import ModelError
from ...storage.json_text import read_json
from .domain import DomainJudge, describe
from .packed_weights import packed, unpacked
from .resampling import resample
from .volume_masks import body_box, ras_ordered
from .volume_network import MULTIPLE, VolumeNetwork
from .voxel_names import BoxScores, NamedVoxels, name

FILES = ("volume_head.json", "volume_head.safetensors")
JUDGE = "domain.json"
LEAST_SIDE = 2 * MULTIPLE
"""Smallest side that a network sees, voxels: its statistics need more than one position at the lowest level."""

OVERLAPPING = 0.7
"""Largest distance of two tiles as a share of their side."""

FOCUS_MARGIN_MM = 8.0
LEAST_FOCUS_ML = 40.0
"""With less of the focus than this in the first pass, there is none."""

CT_CHANNELS = ((-160.0, 240.0), (-1000.0, 1500.0))
"""HU ranges that become 0…1 in the two channels of a CT."""

CERTAIN = 0.97
"""Voxels with a more probable part than this keep it when volumes are matched."""

AT_A_TIME = 16
"""Slices of a tile whose probabilities are computed at a time."""

OPEN_AT_A_TIME = 200_000
"""Voxels whose probabilities are scaled at a time."""

ROUNDS = 12
MOST_SCALED = 4.0
"""Largest factor by which the probability of a part is scaled."""


@dataclass(frozen=True, eq=False)
class VolumeHead:
    """A trained network with the meaning of its parts.

    Args:
        network: in evaluation mode.
        coarse: network of twice the step, which looks first and guides the other one; None for none.
        structures: label → numbers of its parts.
        step: spacing of its input, mm.
        side: side of a tile, voxels.
        focus: parts around which the second pass takes place; the whole body if empty.
        least_focus_ml: with less of the focus than this, nothing is drawn.
        coarse_side: side of a tile of the coarse network, voxels.
        judge: tells whether an image is of the kind that the network was trained for; None if nobody knows.
        facts: facts about the training, for display.
    """

    network: VolumeNetwork
    structures: dict[str, tuple[int, ...]]
    step: float = 1.0
    side: int = 96
    focus: tuple[int, ...] = ()
    least_focus_ml: float = LEAST_FOCUS_ML
    coarse: VolumeNetwork | None = None
    coarse_side: int = 80
    judge: DomainJudge | None = None
    facts: dict = field(default_factory=dict)

    def name_voxels(self, image: Image, wanted, half: bool, on_fraction=lambda _: None) -> NamedVoxels:
        """Return the number of the most probable part at every voxel; 0 where no named part is.

        Args:
            image: scalar volume.
            wanted: requested parts; if none of them is among the structures, nothing is drawn.
            half: compute in bfloat16.
            on_fraction: receives 0…1; may raise to end the work.
        """
        volume, order, flips = ras_ordered(image)
        nothing = NamedVoxels(np.zeros(image.geometry.shape, np.uint8), {})
        named = sorted({part for parts in self.structures.values() for part in parts})
        if not set(wanted) & set(named):
            return nothing
        share = 0.25 if self.coarse is not None else 0.8
        chances, grid = self._first_look(volume, half, lambda f: on_fraction(share * f))
        if self.focus:
            box = self._find(chances, grid)
            if box is None:
                return nothing
            chances = chances[(slice(None), *box)].contiguous()
            grid = grid.crop([s.start for s in box], [s.stop for s in box])
        if self.coarse is not None:
            chances, grid = self._second_look(volume, chances, grid, half, lambda f: on_fraction(share + 0.55 * f))
        kept = _none_first(chances, named)
        del chances
        match_volumes(kept)
        on_fraction(0.85)
        strides = np.abs(volume.scalars.strides)
        found = name(
            BoxScores(kept, grid),
            volume.geometry,
            (0, *named),
            lambda f: on_fraction(0.85 + 0.15 * f),
            "F" if strides[0] < strides[2] else "C",
        )
        return found.on_axes(order, flips)

    def facts_of(self, image: Image, half: bool, on_fraction=lambda _: None) -> np.ndarray:
        """Return what a first look finds in an image, for its `DomainJudge`; see `domain.describe`.

        Args:
            image: scalar volume.
            half: compute in bfloat16.
            on_fraction: receives 0…1; may raise to end the work.
        """
        volume, _, _ = ras_ordered(image)
        chances, grid = self._first_look(volume, half, on_fraction)
        best, parts = chances.max(0)
        certainty = (best.float() * 255).to(torch.uint8)
        return describe(parts.to(torch.uint8).numpy(), certainty.numpy(), grid.spacing, self.judge.layout)

    # -- passes ----------------------------------------------------------------------------------

    def _first_look(self, volume: Image, half: bool, on_fraction) -> tuple[torch.Tensor, Geometry]:
        """Return ((parts, I, J, K) float16 probabilities in the whole body; their grid) of the coarse or only network."""
        network = self.network if self.coarse is None else self.coarse
        step, side = (self.step, self.side) if self.coarse is None else (2 * self.step, self.coarse_side)
        grid = _grid(body_box(volume), step)
        return self.look(network, self.inputs(volume, grid), side, None, half, on_fraction), grid

    def _second_look(self, volume: Image, guide: torch.Tensor, grid: Geometry, half: bool, on_fraction):
        """Return the probabilities of the fine network on a grid with eight voxels for each of `grid`, and that grid."""
        affine = grid.affine.copy()
        affine[:3, :3] /= 2
        affine[:3, 3] -= affine[:3, :3].sum(1) / 2
        fine = Geometry(tuple(2 * n for n in grid.shape), affine)
        return self.look(self.network, self.inputs(volume, fine), self.side, guide, half, on_fraction), fine

    def _find(self, chances: torch.Tensor, grid: Geometry) -> tuple[slice, ...] | None:
        """Return the box of the focus with a margin; None if there is too little of it."""
        parts = chances.argmax(0).numpy()
        there = np.isin(parts, self.focus)
        if there.sum() * grid.voxel_volume < 1000 * self.least_focus_ml:
            return None
        box = []
        for axis in range(3):
            along = there.sum(axis=tuple(a for a in range(3) if a != axis)).cumsum() / there.sum()
            margin = int(np.ceil(FOCUS_MARGIN_MM / grid.spacing[axis]))
            start = max(0, int(np.searchsorted(along, 0.002)) - margin)
            box.append(slice(start, min(grid.shape[axis], int(np.searchsorted(along, 0.998)) + 1 + margin)))
        return tuple(box)

    def look(self, network, values: torch.Tensor, side: int, guide, half: bool, on_fraction) -> torch.Tensor:
        """Return (parts, I, J, K) float16 probabilities of a network, from overlapping tiles.

        Args:
            network: the fine or the coarse network.
            values: (inputs, I, J, K) float32, see `inputs`.
            side: largest side of a tile, voxels.
            guide: (parts, I/2, J/2, K/2) float16 probabilities for the fine network, or None.
            half: compute in bfloat16.
            on_fraction: receives 0…1; may raise to end the work.
        """
        shape = values.shape[1:]
        sums = torch.zeros((network.parts, *shape), dtype=torch.float16)
        weights = torch.zeros(shape)
        tiles = _tiles(shape, side, OVERLAPPING, 1 if guide is None else 2)
        for number, tile in enumerate(tiles):
            weight = _bell([s.stop - s.start for s in tile])
            scores = self._scores(network, values, guide, tile, half)
            into = sums[(slice(None), *tile)]
            for k in range(0, scores.shape[3], AT_A_TIME):  # the whole tile in float32 would take as much as the sums
                there = (..., slice(k, k + AT_A_TIME))
                into[there] += scores[there].float().softmax(0).mul_(weight[there]).half()
            weights[tile] += weight
            del scores
            on_fraction((number + 1) / len(tiles))
        for part in sums:
            part.copy_(part.float() / weights)
        return sums

    def inputs(self, volume: Image, grid: Geometry) -> torch.Tensor:
        """Return (inputs, I, J, K) float32 values of a volume on a grid, scaled as in training.

        Args:
            volume: scalar volume.
            grid: the grid.
        """
        if volume.modality == "CT":
            hu = torch.from_numpy(resample(volume.scalars, volume.geometry, grid, -1000.0))
            return torch.stack(
                [((hu - low) / (high - low)).clamp(0, 1) for low, high in CT_CHANNELS[: self.network.inputs]]
            )
        ((low, high),) = window_for(volume).ranges
        values = torch.from_numpy(resample(volume.scalars, volume.geometry, grid, low))
        return ((values - low) / max(high - low, 1e-6)).clamp(0, 1.5)[None]

    def _scores(self, network, values: torch.Tensor, guide, tile: tuple[slice, ...], half: bool) -> torch.Tensor:
        """Return (parts, i, j, k) scores of a tile, which is padded on both sides to the network's multiple."""
        device = next(network.parameters()).device
        size = [s.stop - s.start for s in tile]
        crop, inside = _padded(values[(slice(None), *tile)], size, 1)
        seen = None
        if guide is not None:
            there = tuple(slice(s.start // 2, s.stop // 2) for s in tile)
            seen = _padded(guide[(slice(None), *there)].float(), size, 2)[0][None].to(device)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            scores = network(crop[None].to(device), seen)[0]
        return scores[(slice(None), *inside)].cpu()

    # -- files -----------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write the two files: convolutions in int8 with a scale for each output channel, the rest in float16."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = packed(self.network, "network.")
        if self.coarse is not None:
            tensors |= packed(self.coarse, "coarse.")
        save_file(tensors, folder / FILES[1], metadata={"format": "pt"})
        content = {
            "inputs": self.network.inputs,
            "parts": self.network.parts,
            "channels": list(self.network.channels),
            "structures": {label: list(parts) for label, parts in self.structures.items()},
            "step": self.step,
            "side": self.side,
            "focus": list(self.focus),
            "least_focus_ml": self.least_focus_ml,
            "facts": self.facts,
        }
        if self.coarse is not None:
            content["coarse"] = {"channels": list(self.coarse.channels), "side": self.coarse_side}
        if self.judge is not None:
            (folder / JUDGE).write_text(json.dumps(self.judge.as_json()) + "\n", encoding="utf-8")
        (folder / FILES[0]).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> VolumeHead:
        """Read what `save` wrote.

        Raises:
            ModelError: if a file is missing or damaged.
        """
        from safetensors.torch import load_file

        try:
            content = read_json((folder / FILES[0]).read_bytes())
            stored = load_file(folder / FILES[1])
            parts, inputs, rough = int(content["parts"]), int(content["inputs"]), content.get("coarse")
            network = VolumeNetwork(inputs, parts, tuple(content["channels"]), parts if rough else 0)
            network = _read(network, stored, "network.")
            coarse = _read(VolumeNetwork(inputs, parts, tuple(rough["channels"])), stored, "coarse.") if rough else None
            structures = {label: tuple(map(int, some)) for label, some in content["structures"].items()}
            judge = (
                DomainJudge.from_json(read_json((folder / JUDGE).read_bytes())) if (folder / JUDGE).is_file() else None
            )
            head = cls(network, structures, float(content["step"]), int(content["side"]), tuple(content["focus"]),
                       float(content["least_focus_ml"]), coarse, int(rough["side"]) if rough else 80, judge,
                       content["facts"])  # fmt: skip
        except Exception as error:
            raise ModelError(
                f"The volume network in '{folder.name}' can't be read ({error}); install the model again."
            ) from error
        beyond = [label for label, parts in structures.items() if max(parts) >= network.parts]
        if beyond:
            raise ModelError(
                f"The volume network in '{folder.name}' has no parts for {', '.join(beyond)}; install it again."
            )
        return head


def _read(network: VolumeNetwork, stored: dict[str, torch.Tensor], prefix: str) -> VolumeNetwork:
    """Return a network with the weights of a file, ready for inference."""
    network.load_state_dict(unpacked(network, stored, prefix))
    return network.to(memory_format=torch.channels_last_3d).eval()


def _none_first(chances: torch.Tensor, named: list[int]) -> torch.Tensor:
    """Return (1 + named, I, J, K): the probability of no named part, then of each; where it can, in the same memory."""
    first = named[0]
    if first and named == list(range(first, len(chances))):
        for other in range(first - 1):
            chances[first - 1] += chances[other]
        return chances[first - 1 :]
    kept = chances[[0, *named]]
    kept[0] = (1 - kept[1:].sum(0, dtype=torch.float32)).clamp(min=0).half()
    return kept


def match_volumes(chances: torch.Tensor, certain: float = CERTAIN) -> None:
    """Scale each part's probability, in place, until it is drawn in as many voxels as its probabilities sum up to.

    Args:
        chances: (1 + parts, I, J, K) float16 probabilities, the first of no part; their sum is 1 at each voxel.
        certain: voxels with a more probable part than this are not changed.
    """
    flat = chances.flatten(1)
    most, likeliest = flat.max(0)
    likeliest = likeliest.to(torch.uint8)
    open_ = torch.nonzero(most < certain)[:, 0]
    if not len(open_):
        return
    fixed = torch.bincount(likeliest[most >= certain], minlength=len(flat)).float()
    goal = (torch.stack([part.sum(dtype=torch.float32) for part in flat]) - fixed).clamp(min=0)
    some = [flat[:, voxels] for voxels in open_.split(OPEN_AT_A_TIME)]
    scale = torch.ones(len(flat))
    for _ in range(ROUNDS):
        drawn = torch.zeros(len(flat))
        for piece in some:
            drawn += torch.bincount((piece.float() * scale[:, None]).argmax(0), minlength=len(flat))
        scale *= (goal + 5) / (drawn + 5)
        scale /= scale[0].clone()
        scale.clamp_(1 / MOST_SCALED, MOST_SCALED)
    for voxels, piece in zip(open_.split(OPEN_AT_A_TIME), some, strict=True):
        scaled = piece.float() * scale[:, None]
        flat[:, voxels] = (scaled / scaled.sum(0)).half()


def _grid(box: np.ndarray, step: float) -> Geometry:
    """Return a grid of cubes that covers a (2, 3) RAS mm box."""
    shape = np.maximum(MULTIPLE, np.ceil((box[1] - box[0]) / step).astype(int) + 1)
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = (box[0] + box[1]) / 2 - (shape - 1) / 2 * step
    return Geometry(tuple(int(n) for n in shape), affine)


def _tiles(shape, side: int, distance: float, multiple: int) -> list[tuple[slice, ...]]:
    """Return tiles of at most `side` voxels that cover a grid, about `distance` × side apart, starting at multiples."""
    along = []
    for n in shape:
        if n <= side:
            along.append([slice(0, n)])
            continue
        count = int(np.ceil((n - side) / (side * distance))) + 1
        starts = multiple * (np.linspace(0, n - side, count) / multiple).round().astype(int)
        along.append([slice(int(a), int(a) + side) for a in starts])
    return [(i, j, k) for i in along[0] for j in along[1] for k in along[2]]


def _bell(size) -> torch.Tensor:
    """Return (i, j, k) weights of a tile's voxels: a Gaussian of a quarter of each side, at least 0.01."""
    i, j, k = (torch.exp(-0.5 * ((torch.arange(n) - (n - 1) / 2) / (n / 4)) ** 2) for n in size)
    return (i[:, None, None] * j[:, None] * k).clamp(min=0.01)


def _padded(values: torch.Tensor, size: list[int], scale: int) -> tuple[torch.Tensor, tuple[slice, ...]]:
    """Return (C, I, J, K) with zeros around, as in training, where a scan lies in the middle of its crop; where it lies.

    Args:
        values: (C, i, j, k), with one value for `scale` voxels along each axis.
        size: (3,) voxels; they are padded to the network's multiple.
        scale: voxels per value.
    """
    whole, inside = [], []
    for n, length in zip(size, values.shape[1:], strict=True):
        padded = max(LEAST_SIDE, -(-n // MULTIPLE) * MULTIPLE)
        start = (padded - n) // 4 * 2 // scale
        whole.append(padded // scale)
        inside.append(slice(start, start + length))
    if whole == list(values.shape[1:]):
        return values, tuple(inside)
    out = torch.zeros((len(values), *whole))
    out[(slice(None), *inside)] = values
    return out, tuple(inside)

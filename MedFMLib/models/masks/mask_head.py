"""Segment all structures of a picture in one pass: a small convolutional network on the vision tower and the picture.

Knows patch features, pictures and parts; nothing of text, volumes or training. The features of the vision tower tell
*what* is where, in patches of 16 pixels; the picture shows exactly *where* it ends. The network combines both as a
U-Net (Ronneberger et al., MICCAI 2015) whose lowest level is the tower. It scores every pixel for a list of parts that
don't overlap; a structure that the user names is a union of parts. One pass serves all structures of a slice, whereas
masks as tokens take twenty steps for each (docs/decisions/0006).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...errors import ModelError
from ...storage.json_text import read_json
from .packed_weights import packed, unpacked

FILES = ("mask_head.json", "mask_head.safetensors")
CHANNELS = (32, 64, 96)
"""Channels at a half, a quarter and an eighth of the picture's sampling."""

WHOLE = slice(None)

LEAST_PIXELS = 12
"""A structure with fewer pixels in a picture counts as absent."""


class _Step(nn.Sequential):
    """3×3 convolution, batch normalization, ReLU. `folded` merges the normalization into the convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
        )

    def folded(self) -> nn.Sequential:
        """Return an equivalent for inference with one layer fewer."""
        return nn.Sequential(torch.nn.utils.fuse_conv_bn_eval(self[0].eval(), self[1].eval()), nn.ReLU(inplace=True))


class MaskNetwork(nn.Module):
    """Network that scores every part at every pixel.

    Its input is (B, 3, S, S) normalized pixels and (B, n², width) patch features.

    Args:
        width: length of the tower's feature vectors.
        parts: number of parts.
        channels: see `CHANNELS`.
    """

    def __init__(self, width: int, parts: int, channels: tuple[int, int, int] = CHANNELS):
        super().__init__()
        a, b, c = channels
        self.parts, self.channels = parts, channels
        self.fine = nn.Sequential(_Step(12, a), _Step(a, a))
        self.middle = nn.Sequential(_Step(a, b, 2), _Step(b, b))
        self.coarse = nn.Sequential(_Step(b, c, 2), _Step(c, c))
        self.tower = nn.Linear(width, c)
        self.up_coarse = nn.Sequential(_Step(2 * c, c), _Step(c, c))
        self.up_middle = nn.Sequential(_Step(c + b, b), _Step(b, b))
        self.up_fine = nn.Sequential(_Step(b + a, a), _Step(a, a))
        self.score = nn.Conv2d(a, 4 * parts, 1)

    def hidden(self, pixels: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return (B, channels[0], S/2, S/2), the input of the last layer.

        Args:
            pixels: (B, 3, S, S) normalized.
            features: (B, n², width).
        """
        pixels = nn.functional.pixel_unshuffle(pixels, 2).contiguous(memory_format=torch.channels_last)
        half = self.fine(pixels)
        quarter = self.middle(half)
        eighth = self.coarse(quarter)
        n = round(features.shape[1] ** 0.5)
        seen = self.tower(features).transpose(1, 2).reshape(len(features), -1, n, n)
        seen = nn.functional.interpolate(seen.to(eighth.dtype), size=eighth.shape[-2:])
        x = self.up_coarse(torch.cat([eighth, seen], 1))
        x = self.up_middle(torch.cat([quarter, _larger(x)], 1))
        return self.up_fine(torch.cat([half, _larger(x)], 1))

    def forward(self, pixels: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return (B, parts, S, S) scores.

        Args:
            pixels: (B, 3, S, S) normalized.
            features: (B, n², width).
        """
        return nn.functional.pixel_shuffle(self.score(self.hidden(pixels, features)), 2)

    def quarter_scores(self, hidden: torch.Tensor, row: int, column: int) -> torch.Tensor:
        """Return the (B, parts, S/2, S/2) scores of the pixels [row::2, column::2]; training needs only a quarter.

        Args:
            hidden: result of `hidden`.
            row: 0 or 1.
            column: 0 or 1.
        """
        chosen = slice(2 * row + column, None, 4)  # the channel order of pixel_shuffle
        return nn.functional.conv2d(hidden, self.score.weight[chosen], self.score.bias[chosen])

    def folded(self) -> MaskNetwork:
        """Return a copy for inference without normalization layers."""
        import copy

        network = copy.deepcopy(self).eval()
        for name in ("fine", "middle", "coarse", "up_coarse", "up_middle", "up_fine"):
            setattr(network, name, nn.Sequential(*(step.folded() for step in getattr(network, name))))
        return network


def _larger(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(x, scale_factor=2)


@dataclass(frozen=True, eq=False)
class MaskHead:
    """A trained network with the meaning of its parts.

    Args:
        network: folded, in evaluation mode.
        structures: label → numbers of its parts.
        pairs: (left, right) part numbers, which sagittal slices can't distinguish.
        focus: parts around which a volume is processed a second time at a finer resolution; the whole body if empty.
        planes: planes along which volumes are processed.
        closer: parts around which a volume is processed a third time, at a still finer resolution.
        facts: facts about the training, for display.
    """

    network: MaskNetwork
    structures: dict[str, tuple[int, ...]]
    pairs: tuple[tuple[int, int], ...] = ()
    focus: tuple[int, ...] = ()
    planes: tuple[str, ...] = ("axial", "coronal", "sagittal")
    closer: tuple[int, ...] = ()
    facts: dict = field(default_factory=dict)

    @property
    def parts(self) -> int:
        """Number of parts."""
        return self.network.parts

    def probabilities(self, pixels: torch.Tensor, features: torch.Tensor, rows=WHOLE, columns=WHOLE) -> torch.Tensor:
        """Return (B, parts, rows, columns) float32 probabilities, which sum to 1 over parts.

        Args:
            pixels: (B, 3, S, S) normalized.
            features: (B, patches, width).
            rows: slice of the picture's rows, from the top.
            columns: slice of the picture's columns.
        """
        return self.network(pixels, features)[:, :, rows, columns].float().softmax(dim=1)

    def masks(self, probabilities: torch.Tensor, labels) -> list[dict[str, np.ndarray]]:
        """Return, for each picture, the labels present in it with (S, S) float32 probabilities.

        Args:
            probabilities: (B, parts, S, S).
            labels: names of structures.

        Raises:
            ModelError: for a label that the head was not trained on.
        """
        self.check(labels)
        found = []
        for picture in probabilities:
            masks = {label: picture[list(self.structures[label])].sum(dim=0).numpy() for label in labels}
            found.append({label: mask for label, mask in masks.items() if (mask > 0.5).sum() >= LEAST_PIXELS})
        return found

    def check(self, labels) -> None:
        """Check that the head was trained on all labels.

        Raises:
            ModelError: for a label that it was not trained on.
        """
        unknown = [label for label in labels if label not in self.structures]
        if unknown:
            raise ModelError(
                f"This model was not trained on {', '.join(unknown)}; choose from {', '.join(self.structures)}."
            )

    def save(self, folder: Path) -> None:
        """Write the two files, convolutions in eight bits, other weights in float16."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file(packed(self.network), folder / FILES[1])
        content = {
            "width": self.network.tower.in_features,
            "parts": self.parts,
            "channels": list(self.network.channels),
            "structures": {label: list(parts) for label, parts in self.structures.items()},
            "pairs": [list(pair) for pair in self.pairs],
            "focus": list(self.focus),
            "planes": list(self.planes),
            "closer": list(self.closer),
            "facts": self.facts,
        }
        (folder / FILES[0]).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> MaskHead:
        """Read what `save` wrote.

        Raises:
            ModelError: if a file is missing or damaged.
        """
        from safetensors.torch import load_file

        try:
            content = read_json((folder / FILES[0]).read_bytes())
            network = MaskNetwork(content["width"], content["parts"], tuple(content["channels"])).folded()
            network.load_state_dict(unpacked(network, load_file(folder / FILES[1])))
            structures = {label: tuple(parts) for label, parts in content["structures"].items()}
            pairs = tuple((int(left), int(right)) for left, right in content["pairs"])
            head = cls(network.to(memory_format=torch.channels_last).eval(), structures, pairs,
                       tuple(content["focus"]), tuple(content["planes"]), tuple(content["closer"]), content["facts"])  # fmt: skip
        except Exception as error:
            raise ModelError(
                f"The mask head in '{folder.name}' can't be read ({error}); install the model again."
            ) from error
        beyond = [label for label, parts in structures.items() if max(parts) >= head.parts]
        if beyond:
            raise ModelError(
                f"The mask head in '{folder.name}' has no parts for {', '.join(beyond)}; install it again."
            )
        return head

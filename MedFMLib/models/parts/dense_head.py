"""Masks straight from the vision tower: a linear layer that names every small cell of a picture.

Knows patch features and parts; nothing of text, volumes or files beside its own. A patch of the vision tower is divided
into fine × fine cells; the layer scores each cell against a list of parts that don't overlap, and a structure that a
person asks for is a union of parts. One pass for all structures of a slice, where writing masks as tokens takes twenty
steps for each.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...errors import ModelError

FILES = ("dense_head.json", "dense_head.safetensors")
LEAST_CELLS = 2
"""A structure with fewer cells counts as not seen."""


@dataclass(frozen=True, eq=False)
class DenseHead:
    """A trained head.

    Args:
        weight, bias: of the linear layer, (fine² × parts, width) and (fine² × parts,).
        fine: cells along a patch's side.
        parts: number of parts.
        structures: label → numbers of the parts that it is made of.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    fine: int
    parts: int
    structures: dict[str, tuple[int, ...]]

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """(B, patches, width) patch features → (B, parts, G, G), G = √patches × fine, rows down; sums to 1 over parts."""
        scores = torch.nn.functional.linear(features.float(), self.weight, self.bias)
        batch, patches, _ = scores.shape
        n = round(patches**0.5)
        cells = scores.view(batch, n, n, self.fine, self.fine, self.parts).permute(0, 5, 1, 3, 2, 4)
        return cells.reshape(batch, self.parts, n * self.fine, n * self.fine).softmax(dim=1)

    def masks(self, features: torch.Tensor, labels) -> list[dict[str, np.ndarray]]:
        """For each picture the labels seen in it, with (G, G) float32 probabilities over the whole picture.

        Raises:
            ModelError: for a label that the head has not learned.
        """
        unknown = [label for label in labels if label not in self.structures]
        if unknown:
            raise ModelError(
                f"The dense head has not learned {', '.join(unknown)}; it knows {', '.join(self.structures)}."
            )
        probabilities = self.probabilities(features)
        found = []
        for picture in probabilities:
            masks = {label: picture[list(self.structures[label])].sum(dim=0).numpy() for label in labels}
            found.append({label: mask for label, mask in masks.items() if (mask > 0.5).sum() >= LEAST_CELLS})
        return found

    def save(self, folder: Path) -> None:
        """Write the two files, weights in float16."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {"weight": self.weight.detach().half().contiguous(), "bias": self.bias.detach().half().contiguous()}
        save_file(tensors, folder / FILES[1])
        facts = {"fine": self.fine, "parts": self.parts, "structures": {k: list(v) for k, v in self.structures.items()}}
        (folder / FILES[0]).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> DenseHead:
        """Read what `save` wrote.

        Raises:
            ModelError: if a file is missing or damaged.
        """
        from safetensors.torch import load_file

        try:
            facts = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
            tensors = {name: value.float() for name, value in load_file(folder / FILES[1]).items()}
            structures = {label: tuple(parts) for label, parts in facts["structures"].items()}
            head = cls(tensors["weight"], tensors["bias"], int(facts["fine"]), int(facts["parts"]), structures)
        except Exception as error:
            raise ModelError(
                f"The dense head in '{folder.name}' can't be read ({error}); install the model again."
            ) from error
        if head.weight.shape[0] != head.fine**2 * head.parts:
            raise ModelError(f"The dense head in '{folder.name}' has {head.weight.shape[0]} rows, not fine² × parts.")
        return head

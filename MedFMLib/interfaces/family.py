"""Define what the module of a model family provides, and the facts of a family that other packages use.

A family is one file in MedFMLib/models: a module with `MODEL_TYPES`, `TRAITS`, `load`, `card_for_folder` and, unless its
models run elsewhere, `random_checkpoint`; optionally `stats`, `memory`, and `object_answer` for language models that find
structures. Nothing outside that file names the family (docs/extending/add-a-model-family.md). Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..storage.model_card import ModelCard


@dataclass(frozen=True)
class FamilyTraits:
    """Facts of a model family that loading, memory planning and servers need before any weights are read.

    Args:
        tied_head: the output head shares the table of word embeddings unless the config says otherwise.
        quantizes_vision: the vision tower is quantized with the rest.
        overflows_fp16: activations overflow in fp16, so the model is refused on devices without bf16.
        converses: the model reads earlier turns of the conversation; otherwise each question stands alone.
        max_views: largest number of slices in one question.
    """

    tied_head: bool = False
    quantizes_vision: bool = False
    overflows_fp16: bool = False
    converses: bool = True
    max_views: int = 1


class Family(Protocol):
    """A module in MedFMLib/models."""

    MODEL_TYPES: tuple[str, ...]
    """Values of `model_type` in a config.json that the module loads."""

    TRAITS: FamilyTraits

    def load(self, card: ModelCard, adapter: str, precision: str, progress) -> Any:
        """Load a model and return an object with the abilities of its card (`interfaces.model`).

        Args:
            card: card of the model.
            adapter: name or folder of an adapter; "" for none.
            precision: one of the card's precisions.
            progress: a `Progress`.

        Raises:
            ModelError: if files are missing or incompatible.
        """

    def card_for_folder(self, folder: Path, config: dict[str, Any]) -> ModelCard:
        """Return a card for a folder with weights of this family.

        Args:
            folder: folder with the weights.
            config: content of its config.json.
        """

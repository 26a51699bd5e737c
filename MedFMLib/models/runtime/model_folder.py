"""Read the type, sizes and card of a folder with weights, without loading it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError
from ...storage import resources
from ...storage.json_text import read_json
from ...storage.model_card import ModelCard
from .checkpoint import stored_precision


def config_of(card: ModelCard) -> tuple[Path, dict[str, Any]]:
    """Return (folder, content) of the config.json that a card names or that came with its weights.

    Raises:
        ModelError: if there is none, or it is damaged.
    """
    from . import loading

    folder = resources.path(*card.config.split("/")) if card.config else loading.base_folder(card)
    try:
        return folder, read_json((folder / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"The config.json of {card.title} is damaged ({error}); copy the model again.") from error


def kind_of(card: ModelCard, known: Sequence[str]) -> str:
    """Return the model type of a card's config.

    Args:
        card: card of the model.
        known: model types of the architecture.

    Raises:
        ModelError: if it is not one of `known`.
    """
    kind = str(config_of(card)[1].get("model_type", ""))
    if kind not in known:
        raise ModelError(
            f"{card.title} is a model of type '{kind}', not {' or '.join(known)}; correct 'architecture' in its card."
        )
    return kind


def sizes(card: ModelCard, model_class, precision: str, vision: Sequence[str]):
    """Return the sizes from the config alone; see `sizes.sizes_from_config`.

    Args:
        card: card of the model.
        model_class: of transformers.
        precision: see `precision.plan`.
        vision: paths of modules that stay dense.
    """
    from .sizes import sizes_from_config

    return sizes_from_config(model_class, config_of(card)[0], precision, skip=tuple(vision))


def memory(card: ModelCard, model_class, vision: Sequence[str], reads, precision: str, slices: int, **more):
    """Return the memory for a question, from the config alone; see `memory.parts`.

    Args:
        card: card of the model.
        model_class: of transformers.
        vision: paths of modules that stay dense.
        reads: config → `QuestionSize`.
        precision: of the weights.
        slices: pictures per question.
        more: further arguments of `memory.parts`.
    """
    from .memory import parts

    return parts(model_class, config_of(card)[0], precision, reads, slices, keep=tuple(vision), **more)


def card_for_folder(folder: Path, config: dict[str, Any], **facts) -> ModelCard:
    """Return a card for a folder with weights.

    Args:
        folder: folder with the weights.
        config: content of its config.json.
        facts: fields that the family sets: architecture, summary, image_size, abilities.
    """
    stored = stored_precision(config)
    return ModelCard(
        id=str(folder),
        title=folder.name,
        licence="see the folder",
        parameters=count_parameters(folder),
        precisions=(stored, "bf16", "fp32") if stored else ("nf4", "int8", "bf16", "fp32"),
        adapters=tuple(sorted(p.name for p in (folder / "adapters").glob("*") if p.is_dir())),
        **facts,
    )


def count_parameters(folder: Path) -> int:
    """Return the number of weights from the headers of a folder's safetensors files; 0 if they can't be read.

    4-bit weights are counted unpacked.
    """
    from safetensors import SafetensorError, safe_open

    total = 0
    try:
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="np") as file:
                names = set(file.keys())
                packed = {name.partition(".quant_state.")[0] for name in names if ".quant_state." in name}
                for name in names:
                    if ".weight." not in name and not name.endswith(".SCB"):
                        numbers = int(np.prod(file.get_slice(name).get_shape()))
                        total += 2 * numbers if name in packed else numbers
    except (SafetensorError, OSError):
        return 0
    return total

"""Define and check the settings of a training. Knows numbers; no models.

The defaults are those of the original recipe (LoRA r = 8, α = 32 on q, k, v, o, gate, up and down, accumulation 4),
except for what went wrong with it: batches are 4, and a monitor watches the clip.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ...errors import InputError

TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linear layers in each layer of a language model, in every family here."""

TARGETS = {
    "text": rf".*language_model\..*\.({'|'.join(TEXT_LAYERS)})",
    "all": rf".*(language_model|vision_tower|visual)\..*\.({'|'.join((*TEXT_LAYERS, 'out_proj', 'fc1', 'fc2', 'qkv', 'proj'))})",
}
"""Layers with adapters: the language model's, or the vision tower's too, for pictures unlike the base's training data."""

SCHEDULES = ("cosine", "constant")
COMPUTE = ("auto", "bf16", "fp32")
MOST = 300
"""Largest number of held-out pairs in the evaluation, taken from each patient in turn."""


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training.

    Args:
        model: id or folder.
        precision: of the frozen base; nf4 and int8 are QLoRA, "" for the model's first.
        targets: a key of `TARGETS`.
        rank: of the LoRA.
        alpha: of the LoRA.
        dropout: of the LoRA, 0…0.9.
        batch: pictures in one pass.
        accumulation: passes in one step.
        checkpointing: recompute activations in the backward pass to save memory.
        rate: highest learning rate.
        schedule: "cosine" or "constant".
        warmup: fraction of the steps in which the rate rises.
        epochs: passes over the data.
        steps: largest number of steps, 0 for as many as epochs need.
        clip: largest norm of the gradient, 0 for no clipping.
        decay: weight decay.
        compute: "auto" chooses bf16 where the device supports it, never fp16, in which Gemma overflows.
        evaluate_every: steps between evaluations.
        save_every: steps between checkpoints.
        patience: evaluations without progress after which the training ends; 0 for never.
        most_validation: largest number of pairs of the validation split per evaluation.
        low_memory: on a CPU, return freed memory at once: a third less at the peak, but slower; chosen automatically
            where memory is short.
        kinds: of `samples.KINDS` to learn.
        categories: kinds of question to learn, all if empty.
        seed: of all random numbers.
    """

    model: str = "medfm-tiny"
    precision: str = ""
    targets: str = "text"
    rank: int = 8
    alpha: int = 32
    dropout: float = 0.0
    batch: int = 4
    accumulation: int = 4
    checkpointing: bool = False
    rate: float = 2e-4
    schedule: str = "cosine"
    warmup: float = 0.03
    epochs: float = 2.0
    steps: int = 0
    clip: float = 1.0
    decay: float = 0.0
    compute: str = "auto"
    evaluate_every: int = 50
    save_every: int = 50
    patience: int = 4
    most_validation: int = 200
    low_memory: bool = False
    kinds: tuple[str, ...] = ("text",)
    categories: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "kinds", tuple(self.kinds))
        object.__setattr__(self, "categories", tuple(self.categories))
        least = {"rank": 1, "alpha": 1, "batch": 1, "accumulation": 1, "steps": 0, "evaluate_every": 1, "save_every": 1,
                 "patience": 0, "most_validation": 1, "clip": 0, "decay": 0, "dropout": 0, "warmup": 0}  # fmt: skip
        for name, low in least.items():
            value = getattr(self, name)
            if not math.isfinite(value) or value < low:
                raise InputError(f"{name} must be at least {low}, not {value}.")
        for name, high in {"dropout": 0.9, "warmup": 1.0}.items():
            if getattr(self, name) > high:
                raise InputError(f"{name} is a share of at most {high}, not {getattr(self, name)}.")
        for name in ("rate", "epochs"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be more than 0, not {getattr(self, name)}.")
        known = {"targets": tuple(TARGETS), "schedule": SCHEDULES, "compute": COMPUTE}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise InputError(f"{name} is one of {', '.join(values)}, not '{getattr(self, name)}'.")

    def total_steps(self, samples: int) -> int:
        """Return the number of steps for a number of samples."""
        each = math.ceil(math.ceil(samples / self.batch) / self.accumulation)
        wanted = math.ceil(each * self.epochs)
        return min(wanted, self.steps) if self.steps else wanted

    def with_(self, **changes) -> TrainingSettings:
        """Return a copy with changes."""
        return replace(self, **changes)

    def as_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrainingSettings:
        """Return settings from a JSON object.

        Raises:
            InputError: if a name is unknown or a value is not allowed.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(content) - known):
            raise InputError(f"There is no setting {', '.join(unknown)}; there are {', '.join(sorted(known))}.")
        try:
            return cls(**content)
        except TypeError as error:
            raise InputError(f"A setting has the wrong type ({error}); correct it.") from error

    @classmethod
    def read(cls, path: Path) -> TrainingSettings:
        """Read settings from a JSON file.

        Raises:
            InputError: if it can't be read.
        """
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"'{path}' contains no valid settings ({error}); give another file.") from error

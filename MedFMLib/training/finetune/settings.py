"""What a person chooses for a training, checked. Knows numbers; no models.

The defaults are those of the founding recipe (LoRA r = 8, α = 32 on q, k, v, o, gate, up and down, accumulation 4), but for
what went wrong there: batches of 4, and a clip that the monitor watches.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ...errors import InputError

TEXT_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Linear layers of a language model's layer, in every family here."""

TARGETS = {
    "text": rf".*language_model\..*\.({'|'.join(TEXT_LAYERS)})",
    "all": rf".*(language_model|vision_tower|visual)\..*\.({'|'.join((*TEXT_LAYERS, 'out_proj', 'fc1', 'fc2', 'qkv', 'proj'))})",
}
"""Where adapters go: the language model, or the vision tower too, for pictures unlike those that the base knows."""

SCHEDULES = ("cosine", "constant")
COMPUTE = ("auto", "bf16", "fp32")
MOST = 300
"""Held-out pairs that are asked afterwards, taken from each patient in turn."""


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Args:
        model: id or folder. precision: of the frozen base; nf4 and int8 are QLoRA, "" the model's first.
        targets: a key of `TARGETS`. rank, alpha, dropout: of the LoRA.
        batch: pictures in one pass. accumulation: passes in one step. checkpointing: compute activations twice to hold fewer.
        rate: highest learning rate. schedule: "cosine" or "constant". warmup: share of the steps in which it rises.
        epochs: times over the data. steps: how many at most, 0 for as many as epochs need.
        clip: largest norm of the gradient, 0 for no clipping. decay: weight decay.
        compute: "auto" takes bf16 where the device multiplies it, never fp16, in which Gemma overflows.
        evaluate_every, save_every: steps. patience: evaluations without progress after which it ends; 0: never.
        most_validation: pairs of the validation split that are looked at each time.
        low_memory: on a CPU, give freed memory back at once: a third less at its peak, slower; chosen where memory is short.
        kinds: of `samples.KINDS` to learn. categories: kinds of question to learn, all if empty. seed: of everything.
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
        """Steps over so many samples."""
        each = math.ceil(math.ceil(samples / self.batch) / self.accumulation)
        wanted = math.ceil(each * self.epochs)
        return min(wanted, self.steps) if self.steps else wanted

    def with_(self, **changes) -> TrainingSettings:
        """The same but for some."""
        return replace(self, **changes)

    def as_json(self) -> dict[str, Any]:
        """For files."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> TrainingSettings:
        """
        Raises:
            InputError: if a name is unknown or a value can't be.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(content) - known):
            raise InputError(f"There is no setting {', '.join(unknown)}; there are {', '.join(sorted(known))}.")
        try:
            return cls(**content)
        except TypeError as error:
            raise InputError(f"A setting is of the wrong kind ({error}).") from error

    @classmethod
    def read(cls, path: Path) -> TrainingSettings:
        """From a JSON file.

        Raises:
            InputError: if it can't be read.
        """
        try:
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"'{path}' holds no settings ({error}).") from error

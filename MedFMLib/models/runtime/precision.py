"""Decide the precision of each part of a model, with the reason. Knows kinds of layers; no architecture, no files.

* Linear layers contain nine tenths of the weights and are read once per token: NF4, double-quantized (Dettmers et al.,
  QLoRA, 2023), or int8 with outliers separate (Dettmers et al., LLM.int8(), 2022).
* A large table of word embeddings, and the output head that shares it, are int8 with one scale per row. As bfloat16 the
  table of PaliGemma would be 1.05 GB next to 1.24 GB of 4-bit layers; each row of it is one word with its own scale, so
  that eight bits lose less than 0.4 % of its largest value.
* Norms, biases, convolutions and position tables are few and set the scale of all later layers: bfloat16.
* Modules that a family excludes, such as vision towers, stay bfloat16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import InputError
from ...interfaces import registry
from ...storage.model_card import ModelCard

BY_MEMORY = ("fp32", "bf16", "fp16", "int8", "nf4")
"""Precisions, each taking no more memory than the one before: the one order in which MedFM steps down."""

LARGE_TABLE = 16_000_000
"""Embedding tables with fewer weights stay dense: quantizing them would save little."""

PACKED = ("nf4", "int8")
"""Precisions that need a plan; in the others all modules have the same precision."""

WHY = {
    "linear": "nine tenths of the weights, read once per token",
    "table": "a row is a word with its own scale",
    "head": "read entirely for every token",
    "tied head": "shares the table of the embeddings",
    "kept": "excluded by the family",
    "small": "few weights, and they set scales",
}


@dataclass(frozen=True)
class ModulePrecision:
    """Precision of one module's weight.

    Args:
        path: of the module.
        kind: a key of `WHY`.
        precision: "nf4", "int8", "int8 rows" or "dense".
    """

    path: str
    kind: str
    precision: str

    @property
    def why(self) -> str:
        """The reason, in a few words."""
        return WHY[self.kind]


def precisions_to_try(card: ModelCard, requested: str = "") -> tuple[str, ...]:
    """Return the precisions that a model may be held in, in the order in which they are tried.

    First the card's own choice (the first that it lists), then those of the card that take less memory. A precision that
    the user requested is the only one.

    Args:
        card: which model.
        requested: one of the card's precisions; "" for none in particular.

    Raises:
        InputError: if the card has no such precision.
    """
    if requested:
        if requested not in card.precisions:
            raise InputError(
                f"{card.title} can't be held as '{requested}'; choose one of {', '.join(card.precisions)}."
            )
        return (requested,)
    return (card.precisions[0], *lower_precisions(card, card.precisions[0]))


def lower_precisions(card: ModelCard, precision: str) -> tuple[str, ...]:
    """Return the card's precisions that take less memory than `precision`, the largest first.

    Args:
        card: which model.
        precision: in which it is held.
    """
    if precision not in BY_MEMORY:
        return ()
    return tuple(p for p in BY_MEMORY[BY_MEMORY.index(precision) + 1 :] if p in card.precisions)


def choose_precision(card: ModelCard, requested: str = "", fits: Callable[[str], bool] | None = None) -> str:
    """Return the precision to hold a model in: the one rule of engine, training, batch, panel, command and plan.

    Args:
        card: which model.
        requested: what the user asked for; "" for none in particular.
        fits: precision → whether it fits into memory; always true if None.

    Returns:
        The first of `precisions_to_try` that fits; the last of them, which takes least memory, if none does.

    Raises:
        InputError: if the card has no precision of the requested name.
    """
    ways = precisions_to_try(card, requested)
    return next((way for way in ways if fits is None or fits(way)), ways[-1])


def plan(model, precision: str, keep: tuple[str, ...] = ()) -> dict[str, ModulePrecision]:
    """Return path → precision for each module that has its own weights.

    Args:
        model: a transformers model, on any device (meta is enough), weights tied.
        precision: "nf4" or "int8" for linear layers; anything else: all dense.
        keep: paths of modules that stay dense with all their submodules.
    """
    import torch

    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    table = model.get_input_embeddings() if hasattr(model, "get_input_embeddings") else None
    tied = head is not None and table is not None and head.weight is table.weight
    found = {}
    for path, module in model.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue
        kind, held = "small", "dense"
        if precision not in PACKED:
            pass
        elif path.startswith(keep) if keep else False:
            kind = "kept"
        elif module is table or module is head:
            large = module.weight.numel() >= LARGE_TABLE
            kind = "table" if module is table else "tied head" if tied else "head"
            held = "int8 rows" if large else "dense"
        elif isinstance(module, torch.nn.Linear):
            kind, held = "linear", precision
        found[path] = ModulePrecision(path, kind, held)
    return found


def refusal(precision: str, card, target) -> str:
    """Return why this machine does not support a precision, in one sentence with the next step; "" if it does.

    Args:
        precision: one of the card's.
        card: card of the model.
        target: the `torch.device` to use.
    """
    import torch

    if precision == "fp16":
        if registry.traits(card).overflows_fp16 and not (target.type == "cuda" and torch.cuda.is_bf16_supported()):
            return (
                f"{card.title} overflows in fp16, and this device has no bf16 to fall back on; choose nf4 or fp32."
                if target.type == "cuda"
                else f"{card.title} overflows in fp16; choose bf16, nf4 or fp32."
            )
        if target.type == "cpu":
            return "fp16 is several times slower than bf16 on a CPU and no more exact; choose bf16."
    if precision == "bf16" and target.type == "cuda" and not torch.cuda.is_bf16_supported():
        return "This GPU computes no bf16 (it is older than Ampere); choose nf4, int8 or fp32."
    return ""

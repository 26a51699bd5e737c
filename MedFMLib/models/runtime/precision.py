"""Which part of a model is held in which precision, and why. Knows kinds of layers; no architecture, no files.

* Linear layers hold nine tenths of the weights and are read once a token: NF4, double-quantized (Dettmers et al., QLoRA,
  2023), or int8 with outliers apart (Dettmers et al., LLM.int8(), 2022).
* A large table of word embeddings, and the output head that shares it, are int8 with one scale a row. As bfloat16 the table
  of PaliGemma would be 1.05 GB beside 1.24 GB of 4-bit layers; each row of it is one word with a scale of its own, so that
  eight bits lose less than 0.4 % of its largest value.
* Norms, biases, convolutions and position tables are few and set the scale of everything behind them: bfloat16.
* What a family wants kept, such as vision towers, stays bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass

LARGE_TABLE = 16_000_000
"""Embedding tables with fewer weights stay dense: there is nothing to gain."""

PACKED = ("nf4", "int8")
"""Precisions that need a plan; in the others everything is held alike."""

WHY = {
    "linear": "nine tenths of the weights, read once a token",
    "table": "a row is a word with its own scale",
    "head": "read whole for every token",
    "tied head": "shares the table of the embeddings",
    "kept": "the family keeps it",
    "small": "few weights, and they set scales",
}


@dataclass(frozen=True)
class ModulePrecision:
    """How one module's weight is held.

    Args:
        path: of the module. kind: a key of `WHY`. precision: "nf4", "int8", "int8 rows" or "dense".
    """

    path: str
    kind: str
    precision: str

    @property
    def why(self) -> str:
        """In a few words."""
        return WHY[self.kind]


def plan(model, precision: str, keep: tuple[str, ...] = ()) -> dict[str, ModulePrecision]:
    """Path of each module with weights of its own → how it is held.

    Args:
        model: a transformers model, on any device (meta is enough), weights tied.
        precision: "nf4" or "int8" for linear layers; anything else: all dense.
        keep: paths of modules that stay dense with all that is in them.
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
    """Why this machine can't hold a model so, in one sentence with what to do; "" if it can.

    Args:
        precision: of a `ModelCard`. card: with `title` and `architecture`. target: the `torch.device` to use.
    """
    import torch

    if precision == "fp16":
        if card.architecture == "gemma3" and not (target.type == "cuda" and torch.cuda.is_bf16_supported()):
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

"""Load a model for training: as in use, but frozen, with a new LoRA next to its weights. Knows loading; no data.

Two optimizations of inference are wrong for training and disabled here: quantized layers in CPU kernels without a
backward pass (`models.cpu.engines`), and the repacking of 4-bit weights by bitsandbytes at the first answer, after
which gradients are silently wrong (`checkpoint`). `dry_run` checks that gradients arrive before anything is trained.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...errors import ModelError
from ...interfaces import registry
from ...interfaces.jobs import Progress
from ...models.runtime import checkpoint, loading
from ...models.runtime.device import choose_device, multiplies_bfloat16
from ...models.runtime.precision import choose_precision
from .settings import TARGETS, TrainingSettings


def load(settings: TrainingSettings, progress: Progress):
    """Load the base with its own family, ready for an adapter that is trained.

    Args:
        settings: of the training.
        progress: receives the stages.

    Raises:
        ModelError: if it can't be loaded, or can't be trained.
    """
    from ...engine import load_model

    card = registry.card(settings.model)
    if card.endpoint or "writes" not in card.abilities:
        raise ModelError(f"{card.title} can't be fine-tuned here; choose a model on this machine that writes text.")
    precision = choose_precision(card, settings.precision)
    with loading.to_train():
        model = load_model(card, "", precision, progress)
    core = model.model
    elsewhere = set(map(str, getattr(core, "hf_device_map", {}).values())) & {"cpu", "disk"}
    if elsewhere and choose_device().type == "cuda":
        raise ModelError(
            f"Parts of {card.title} were placed on {' and '.join(sorted(elsewhere))}, where they can't be trained; choose nf4, "
            "or a machine with more memory."
        )
    if packed := [name for name, module in core.named_modules() if _is_packed(module)]:
        raise ModelError(
            f"The layer {packed[0]} is packed in a form without gradients; choose bf16 or fp32, and report this."
        )
    _mark_as_quantized(core)
    return model


def _mark_as_quantized(core) -> None:
    """Set the quantizer that transformers' Trainer expects of a quantized model (`quantized_copy` sets none)."""
    if not getattr(core, "is_quantized", False) or getattr(core, "hf_quantizer", None) is not None:
        return
    from transformers import BitsAndBytesConfig
    from transformers.quantizers import AutoHfQuantizer

    how = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    config = BitsAndBytesConfig(**(how if getattr(core, "is_loaded_in_4bit", False) else {"load_in_8bit": True}))
    core.hf_quantizer = AutoHfQuantizer.from_config(config)


def _is_packed(module) -> bool:
    """Return whether a 4-bit layer was repacked for bitsandbytes' kernel, which has no gradients."""
    return bool(getattr(getattr(getattr(module, "weight", None), "quant_state", None), "packing_format_for_cpu", False))


def add_lora(core, settings: TrainingSettings):
    """Return the PEFT model: everything frozen except a new adapter, named "default".

    Args:
        core: the base.
        settings: of the training.

    Raises:
        ModelError: if the model has none of the target layers.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(settings.seed)
    core.requires_grad_(False)
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=TARGETS[settings.targets],
        task_type="CAUSAL_LM",
    )  # fmt: skip
    try:
        peft = get_peft_model(core, config)
    except ValueError as error:
        raise ModelError(
            f"This model has none of the target layers ({checkpoint.one_line(error)}); choose other targets or another model."
        ) from error
    if settings.checkpointing:
        peft.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        peft.enable_input_require_grads()
    return peft


def trained(peft) -> dict:
    """Return name → weight of everything that is trained."""
    return {name: p for name, p in peft.named_parameters() if p.requires_grad}


def compute_in_bfloat16(settings: TrainingSettings, core) -> bool:
    """Return whether autocast to bfloat16 is used; weights that are bfloat16 already need none.

    Args:
        settings: of the training.
        core: the PEFT model.

    Raises:
        ModelError: if bf16 was requested on a device without it.
    """
    import torch

    target = choose_device()
    can = torch.cuda.is_bf16_supported() if target.type == "cuda" else target.type == "cpu" and multiplies_bfloat16()
    if settings.compute == "bf16" and not can:
        raise ModelError(
            "This device does not multiply bfloat16; choose fp32 (fp16 is refused, since Gemma overflows in it)."
        )
    return can if settings.compute == "auto" else settings.compute == "bf16"


@dataclass(frozen=True)
class DryRun:
    """Results of the passes before a training.

    Args:
        seconds: of one forward and backward pass.
        threads: number of threads with which it was fastest.
        norm: of the gradient.
    """

    seconds: float
    threads: int
    norm: float


def dry_run(peft, loss: Callable[[], Any], threads: int = 0) -> DryRun:
    """Run forward and backward passes without a step, to check gradients, time and memory.

    Small models wait for a second thread longer than it helps on a busy machine, so on a CPU one thread is tried, too.
    LoRA's second factor is 0 at first, so only its gradient can be nonzero; some families never use the last layer of
    their vision tower, but if most factors get no gradient, something is broken.

    Args:
        peft: the PEFT model.
        loss: returns the loss of a batch, with its graph.
        threads: number of threads; 0 to choose.

    Raises:
        ModelError: if no gradient reaches the adapter.
    """
    import torch

    halves = [p for name, p in trained(peft).items() if ".lora_B." in name]
    small = choose_device().type == "cpu" and sum(p.numel() for p in peft.parameters()) < loading.SMALL
    ways = [threads] if threads else sorted({1, torch.get_num_threads()}) if small else [torch.get_num_threads()]
    found, norm, dead = {}, 0.0, 0
    peft.train()
    for way in ways:
        torch.set_num_threads(way)
        for _ in range(2):
            began = time.perf_counter()
            loss().backward()
            taken = time.perf_counter() - began
            found[way] = min(taken, found.get(way, taken))
            dead = sum(p.grad is None or not torch.any(p.grad).item() for p in halves)
            norm = math.sqrt(sum(float(p.grad.float().norm()) ** 2 for p in halves if p.grad is not None))
            peft.zero_grad(set_to_none=True)
    if not norm or dead > len(halves) / 2:
        raise ModelError(
            "No gradient reaches the adapter, so nothing would be learned; choose bf16 or fp32, and report this."
        )
    best = min(found, key=found.get)
    torch.set_num_threads(best)
    return DryRun(found[best], best, norm)


def peak_bytes() -> int:
    """Return the peak of this process's main memory in bytes; 0 if the system doesn't report it.

    On Linux getrusage includes the memory of the parent before the fork, so /proc is read first.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as stream:
            return next(int(line.split()[1]) * 1024 for line in stream if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

"""The model as it learns: loaded as for use, frozen, with a fresh LoRA beside it. Knows loading; no data.

Two things that are right for answering are wrong for learning, and kept off here: quantized layers in CPU kernels without a
way back (`models.cpu.engines`), and bitsandbytes' packing of 4-bit weights at the first answer, after which gradients are silently
wrong (`loading`). `dry_run` looks whether a gradient arrives before anything is trained.
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
    """The bare base, loaded by its own family, ready to take an adapter that learns.

    Raises:
        ModelError: if it can't be loaded, or is of a kind that doesn't learn here.
    """
    from ...engine import load_model

    card = registry.card(settings.model)
    if card.endpoint or "writes" not in card.abilities:
        raise ModelError(f"{card.title} can't be fine-tuned here; choose a model that writes and lies on this machine.")
    precision = choose_precision(card, settings.precision)
    with loading.to_train():
        model = load_model(card, "", precision, progress)
    core = model.model
    elsewhere = set(map(str, getattr(core, "hf_device_map", {}).values())) & {"cpu", "disk"}
    if elsewhere and choose_device().type == "cuda":
        raise ModelError(
            f"Parts of {card.title} lie on {' and '.join(sorted(elsewhere))}, from where nothing can be trained; choose nf4, or "
            "a machine with more memory."
        )
    if packed := [name for name, module in core.named_modules() if _is_packed(module)]:
        raise ModelError(
            f"The layer {packed[0]} has a form through which nothing learns; choose bf16 or fp32, and report this."
        )
    _mark_as_quantized(core)
    return model


def _mark_as_quantized(core) -> None:
    """transformers' Trainer asks a quantized model for its quantizer; ours were quantized without one (`quantized_copy`)."""
    if not getattr(core, "is_quantized", False) or getattr(core, "hf_quantizer", None) is not None:
        return
    from transformers import BitsAndBytesConfig
    from transformers.quantizers import AutoHfQuantizer

    how = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    config = BitsAndBytesConfig(**(how if getattr(core, "is_loaded_in_4bit", False) else {"load_in_8bit": True}))
    core.hf_quantizer = AutoHfQuantizer.from_config(config)


def _is_packed(module) -> bool:
    """Was a 4-bit layer repacked for bitsandbytes' kernel, which has no gradients?"""
    return bool(getattr(getattr(getattr(module, "weight", None), "quant_state", None), "packing_format_for_cpu", False))


def add_lora(core, settings: TrainingSettings):
    """The PEFT model: everything frozen but a new adapter, named "default".

    Raises:
        ModelError: if the model has none of the layers.
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
            f"This model has none of the layers that are trained ({checkpoint.one_line(error)})."
        ) from error
    if settings.checkpointing:
        peft.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        peft.enable_input_require_grads()
    return peft


def trained(peft) -> dict:
    """Name → weight of what learns."""
    return {name: p for name, p in peft.named_parameters() if p.requires_grad}


def compute_in_bfloat16(settings: TrainingSettings, core) -> bool:
    """Is bfloat16 computed in by autocast? Weights that are bfloat16 already need none.

    Raises:
        ModelError: if it was asked for where the device has none.
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
    """What two passes at the start showed.

    Args:
        seconds: of one pass, there and back. threads: with which it was fastest. norm: of the gradient.
    """

    seconds: float
    threads: int
    norm: float


def dry_run(peft, loss: Callable[[], Any], threads: int = 0) -> DryRun:
    """Two passes there and back without a step: is a gradient there, how long does it take, how much memory?

    Small models wait for a second thread longer than it helps on a busy machine, so on a CPU one thread is tried, too.
    LoRA's second half is 0 at first, so only its gradient can be there; some families never ask the last layer of their
    tower, but where most get none, something is broken.

    Args:
        loss: → the loss of a batch, with a way back. threads: to use, 0 to choose.

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
    """Most main memory that this process ever held; 0 if the system doesn't say.

    Linux counts what the parent held before into getrusage's number, so that its own table is read first.
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

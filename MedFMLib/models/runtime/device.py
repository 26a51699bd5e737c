"""Choose the device and number format for computation, and measure its free memory. Knows no model.

MEDFM_DEVICE selects another device; MEDFM_MEMORY_LIMIT (such as "6 GB") limits what is counted as free, for shared
machines.
"""

from __future__ import annotations

import os
from typing import Any

from ...errors import MedFMError, ModelError

ROOM = 0.92
"""Fraction of the free memory that a plan may fill: allocators and other programs need the rest."""


def choose_device():
    """Return the torch device to use: CUDA, Apple's MPS, or the CPU; MEDFM_DEVICE overrides.

    Raises:
        ModelError: if the variable names no device of this machine.
    """
    import torch

    wanted = os.environ.get("MEDFM_DEVICE", "")
    if wanted:
        try:
            torch.empty(1, device=wanted)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(
                f"MEDFM_DEVICE is '{wanted}', which this machine does not have ({error}); unset it."
            ) from error
        return torch.device(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def compute_dtype(target, parameters: int):
    """Return the dtype to compute in: bf16 where the device supports it and the model is large, else fp32.

    fp16 is never chosen automatically: Gemma's activations overflow in it.

    Args:
        target: `torch.device`.
        parameters: number of weights of the model.
    """
    import torch

    if target.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    if target.type == "cpu" and parameters > 500e6:
        return torch.bfloat16
    return torch.float32


def multiplies_bfloat16() -> bool:
    """Return whether this CPU has bfloat16 instructions (AVX512-BF16 or AMX).

    Without them bfloat16 is slower than float32.
    """
    import torch

    known = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(ask()) for ask in known if ask is not None)


def input_device(model):
    """Return (device, dtype) of a model's input tensors; weights on the meta device (offloaded to disk) are skipped."""
    floats = [p for p in model.parameters() if p.is_floating_point()]
    return next((p.device for p in floats if p.device.type != "meta"), choose_device()), floats[0].dtype


def free_bytes(target) -> tuple[int, int, int]:
    """Return the free bytes of the device, of main memory if the device has its own memory, and of the cache's disk.

    Args:
        target: `torch.device`.
    """
    import shutil

    import torch

    from ...hardware import free_memory, limited
    from ...storage import paths

    place = paths.cache()
    while not place.exists():
        place = place.parent
    disk = shutil.disk_usage(place).free
    if target.type == "cuda":
        return limited(torch.cuda.mem_get_info(target)[0]), free_memory(), disk
    return free_memory(), 0, disk  # Apple's GPU shares main memory


def placement(target, needed: int) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that place dense weights.

    They go to the device if they fit, else accelerate spreads them over the device, main memory and the cache's disk.

    Args:
        target: `torch.device`.
        needed: bytes of the weights.
    """
    from ...storage import paths

    free, other, _ = free_bytes(target)
    room = int(free * ROOM)
    if needed <= room or not free:
        return {"device_map": {"": target}}
    limits = {target.index or 0: room, "cpu": int(other * ROOM)} if target.type == "cuda" else {"cpu": room}
    return {"device_map": "auto", "max_memory": limits, "offload_folder": str(paths.cache() / "offload")}


def gigabytes(count: int) -> str:
    """Return a number of bytes as text, in GB of 10⁹ or MB of 10⁶."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def release_memory() -> None:
    """Free unreferenced memory, on the device too."""
    import gc

    import torch

    from ...environment import allocator

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    allocator.trim()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the device or this machine ran out of memory.

    An error that MedFM itself raised is not one: it may report that a server elsewhere ran out of its own.
    """
    if isinstance(error, MedFMError):
        return False
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in text for words in ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")
    )

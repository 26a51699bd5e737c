"""Choose the device and number format to compute with, and say what memory is free there. Knows no model.

MEDFM_DEVICE chooses another device; MEDFM_MEMORY_LIMIT (such as "6 GB") bounds what is counted as free, for machines that
are shared.
"""

from __future__ import annotations

import os
from typing import Any

from ...errors import ModelError

ROOM = 0.92
"""Share of the free memory that a plan may fill: allocators and other programs need the rest."""


def choose_device():
    """The torch device to use: CUDA, Apple's MPS, or the CPU; MEDFM_DEVICE overrides.

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
    """dtype to compute in: bf16 where the device has it and the model is large, else fp32.

    fp16 is never chosen by itself: Gemma's activations overflow in it.
    """
    import torch

    if target.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.bfloat16
    if target.type == "cpu" and parameters > 500e6:
        return torch.bfloat16
    return torch.float32


def multiplies_bfloat16() -> bool:
    """Has this CPU instructions for bfloat16 (AVX512-BF16 or AMX)? Without them bfloat16 is slower than float32."""
    import torch

    known = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(bool(ask()) for ask in known if ask is not None)


def input_device(model):
    """(device, dtype) that tensors for a model go to; weights on disk are nowhere until they are used."""
    floats = [p for p in model.parameters() if p.is_floating_point()]
    return next((p.device for p in floats if p.device.type != "meta"), choose_device()), floats[0].dtype


def free_bytes(target) -> tuple[int, int, int]:
    """(free bytes of the device that computes, of main memory if that is another, of the disk with the cache).

    Args:
        target: `torch.device`.
    """
    import shutil

    import torch

    from ...environment.hardware import free_memory, limited
    from ...storage import paths

    place = paths.cache()
    while not place.exists():
        place = place.parent
    disk = shutil.disk_usage(place).free
    if target.type == "cuda":
        return limited(torch.cuda.mem_get_info(target)[0]), free_memory(), disk
    return free_memory(), 0, disk  # Apple's GPU shares main memory


def placement(target, needed: int) -> dict[str, Any]:
    """Where `from_pretrained` puts dense weights of `needed` bytes: the device if they fit, else spread by accelerate over it,
    main memory and the cache's disk.

    Args:
        target: `torch.device`.
    """
    from ...storage import paths

    free, other, _ = free_bytes(target)
    room = int(free * ROOM)
    if needed <= room or not free:
        return {"device_map": {"": target}}
    limits = {target.index or 0: room, "cpu": int(other * ROOM)} if target.type == "cuda" else {"cpu": room}
    return {"device_map": "auto", "max_memory": limits, "offload_folder": str(paths.cache() / "offload")}


def gigabytes(count: int) -> str:
    """Bytes for people, in GB of 10⁹."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"


def release_memory() -> None:
    """Free what nobody holds any more, on the device too."""
    import gc

    import torch

    from ...environment import allocator

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    allocator.trim()


def is_out_of_memory(error: BaseException) -> bool:
    """Did the device or the machine run out of memory?"""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in text for words in ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc")
    )

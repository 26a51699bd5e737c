"""Load a model's weights: its folder, precision, quantized copy, dequantization. Knows no architecture.

Only safetensors are read and no code from a model's folder is run; `checkpoint` checks the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from ...errors import ModelError
from ...storage import installed_models, resources
from ...storage.json_text import read_json
from ...storage.model_card import ModelCard
from . import quantized_copy
from .checkpoint import (
    check_folder,
    check_quantized_names,
    fingerprint,
    guard_4bit,
    load_pretrained,
    need_bitsandbytes,
    one_line,
    quiet_bitsandbytes,
    stored_precision,
    train_guard_4bit,
    weights_count,
)
from .device import choose_device, compute_dtype, placement
from .precision import PACKED

_to_train: ContextVar[bool] = ContextVar("to train", default=False)

SMALL = 100_000_000
"""Models with fewer parameters are dequantized on a CPU: they fit in memory anywhere, and run four times as fast."""


def base_folder(card: ModelCard) -> Path:
    """Return the folder with the base's config and weights, downloaded ones included.

    Raises:
        ModelError: if they are not on this machine, with how to get them.
    """
    root = resources.path(*card.weights.split("/")) if card.weights else model_folder(card)
    base = root / "base" if (root / "base").is_dir() else root
    check_folder(base)
    return base


def model_folder(card: ModelCard) -> Path:
    """Return the folder of a model that doesn't ship with MedFM: a path, an installed model or the hub's cache.

    Raises:
        ModelError: if it is not on this machine, with how to get it.
    """
    if Path(card.id).is_dir():
        return Path(card.id)
    return installed_models.model_folder(card.id) or _hub_folder(card)


def _hub_folder(card: ModelCard) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(card.id, revision=card.revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, OSError) as error:
        gate = f" {card.gate}" if card.gate else ""
        raise ModelError(
            f"{card.title} is not on this machine.{gate} Get it with "
            f"`medfm models get {card.id}`, or import it from a folder or zip with `medfm models import PATH`."
        ) from error


def load_weights(model_class, folder: Path, precision: str, parameters: int, keep: Sequence[str] = (), progress=None):
    """Load a checked folder; return (the model in eval mode, a description of the precision of its weights).

    A quantized folder is loaded as it is; 'fp32' and 'bf16' then mean dequantized. A dense folder is quantized once,
    and the copy is stored (`quantized_copy`).

    Args:
        model_class: of transformers.
        folder: with config and weights.
        precision: one of the card's.
        parameters: number of weights.
        keep: paths of modules that are never quantized.
        progress: receives a stage and fractions while a copy is made, which takes a while; None for none.

    Raises:
        ModelError: if weights are missing or don't match the config.
    """
    import torch
    import transformers

    from ..cpu import engines

    target = choose_device()
    stored = stored_precision(read_json((folder / "config.json").read_bytes()))
    if (
        stored == "nf4"
        and target.type == "cpu"
        and (precision == "fp32" or (precision == stored and parameters < SMALL))
    ):
        return _load_unpacked(model_class, folder), f"{stored} weights in fp32"
    quiet_bitsandbytes()
    os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")  # parallel loading needs more than the dense size
    transformers.utils.logging.disable_progress_bar()  # front ends show their own progress
    dtype = compute_dtype(target, parameters)
    dense = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if stored and precision not in (stored, *dense):
        raise ModelError(
            f"'{folder.parent.name}' is stored as {stored}; choose {stored}, bf16 or fp32 instead of {precision}."
        )
    if not stored and precision in PACKED:
        need_bitsandbytes(precision)
        copy = quantized_copy.folder_for(folder, fingerprint(check_folder(folder)), precision)
        if not quantized_copy.is_complete(copy, model_class):
            if progress is not None:
                progress.stage(f"Quantizing once to {precision}")
            quantized_copy.make(
                model_class, folder, copy, precision, tuple(keep), progress.fraction if progress is not None else bool
            )
        settle_below = 0 if _to_train.get() else engines.LARGE
        model = quantized_copy.load(model_class, copy, target, dtype, settle_below=settle_below)
        return model, _made_fast(model, precision)
    if stored:
        check_quantized_names(model_class, folder)
    arguments = {"dtype": dense.get(precision, dtype), "device_map": {"": target}}
    if not stored:  # quantized layers can't be offloaded
        arguments |= placement(target, weights_count(check_folder(folder)) * arguments["dtype"].itemsize)
    if stored:
        arguments["dtype"] = torch.float32 if precision == "fp32" else dtype
    model = load_pretrained(model_class, folder, **arguments)
    elsewhere = set(map(str, getattr(model, "hf_device_map", {}).values())) - {str(target), str(target.index)}
    if elsewhere and not stored:
        held = f"{precision}, partly on {' and '.join(sorted(elsewhere))}"
    elif stored and precision in dense:
        model, held = _dense(model, dense[precision]), f"{stored} weights in {precision}"
    elif stored and target.type == "cpu" and _parameters(model) < SMALL:  # small, though its card has no size
        model, held = _dense(model, torch.float32), f"{stored} weights in fp32"
    else:
        held = precision
    return model.eval(), _made_fast(model, held)


def _made_fast(model, held: str) -> str:
    """Guard the layers; speed up those of a model for inference; return the description of their precision."""
    from ..cpu import engines

    if _to_train.get():
        train_guard_4bit(model)
        return held
    guard_4bit(model)
    return engines.speed_up(model, held)


@contextmanager
def to_train() -> Iterator[None]:
    """Load models inside this context so that they can be trained: every layer keeps a form that supports gradients."""
    token = _to_train.set(True)
    try:
        yield
    finally:
        _to_train.reset(token)


def _load_unpacked(model_class, folder: Path):
    """Load a stored NF4 model with the same values as float32, without importing bitsandbytes, which takes a second.

    4-bit kernels take four times as long as float32 products in so small a model (docs/decisions/0003).

    Raises:
        ModelError: if weights are missing or don't fit the config.
    """
    import torch
    import transformers
    from safetensors.torch import load_file

    from .nf4 import unpack

    transformers.utils.logging.disable_progress_bar()
    config = model_class.config_class.from_pretrained(folder, local_files_only=True)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    try:
        tensors: dict = {}
        for file in sorted(folder.glob("*.safetensors")):
            tensors |= load_file(file)
        state = {name: value.float() for name, value in unpack(tensors).items()}
        model, info = model_class.from_pretrained(
            None, config=config, state_dict=state, dtype=torch.float32, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"The model in '{folder.name}' can't be loaded: {one_line(error)}") from error
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise ModelError(
            f"The weights in '{folder.name}' lack {len(lacking)} tensors, such as {lacking[0]}; copy the whole model again."
        )
    if (folder / "generation_config.json").is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model.eval()


def _dense(model, dtype):
    """Return the model with its 4-bit weights dequantized."""
    import transformers

    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        return model.dequantize(dtype).to(dtype)
    finally:
        transformers.utils.logging.set_verbosity(level)


def _parameters(model) -> int:
    """Return the number of weights; packed bytes count as two 4-bit weights."""
    return sum(2 * p.numel() if type(p).__name__ == "Params4bit" else p.numel() for p in model.parameters())

"""From a card to weights in memory: checks before, precision, adapter, hash. Knows no architecture.

Only safetensors are read and no code from a model's folder is run. The bitsandbytes traps guarded here were
measured with bitsandbytes 0.50 on CPUs with AVX512-BF16:

* the first inference repacks 4-bit weights in place, after which gradients are silently wrong,
* that repacking fails for widths that are no multiples of 64 (in) and 32 (out), and
* asking a repacked model for its state, as PEFT does to attach an adapter, packs it back with rounding: each time the
  base would drift by a per cent or two.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from ...errors import ModelError
from ...interfaces.model import ModelCard
from ...storage import installed_models, offline, resources
from . import quantized_copy
from .memory import placement
from .precision import PACKED

_to_train: ContextVar[bool] = ContextVar("to train", default=False)

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
SMALL = 100_000_000
"""Models with fewer parameters are unpacked on a CPU: they fit anywhere, and run four times as fast."""


def base_folder(card: ModelCard) -> Path:
    """Folder with the base's config and weights, downloaded ones included.

    Raises:
        ModelError: if they are not on this machine, with where to get them.
    """
    root = resources.path(*card.weights.split("/")) if card.weights else model_folder(card)
    base = root / "base" if (root / "base").is_dir() else root
    check_folder(base)
    return base


def model_folder(card: ModelCard) -> Path:
    """Where the files of a model that doesn't come with MedFM lie: its own folder, the person's shelf or the hub's cache.

    Raises:
        ModelError: if they are not on this machine, with where to get them.
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


def check_folder(folder: Path) -> list[Path]:
    """The weight files of a model folder, after checking that it is whole and safe.

    Raises:
        ModelError: no config, no weights, pickled weights, missing shards or files that are no safetensors.
    """
    name = folder.name
    if not (folder / "config.json").is_file():
        raise ModelError(f"The model folder '{name}' has no config.json; copy the whole model again.")
    index = folder / "model.safetensors.index.json"
    files = sorted(folder.glob("*.safetensors"))
    if index.is_file():
        try:
            shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError) as error:
            raise ModelError(f"{index.name} in '{name}' is damaged; copy the model again.") from error
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise ModelError(f"The model folder '{name}' lacks {', '.join(missing)}; copy the model again.")
        files = [folder / shard for shard in shards]
    if not files:
        pickles = [path.name for pattern in PICKLES for path in sorted(folder.glob(pattern))]
        if pickles:
            raise ModelError(
                f"The model folder '{name}' has only pickled weights ({', '.join(pickles[:3])}), which can run code when "
                "opened and are refused; get or convert to safetensors."
            )
        raise ModelError(f"The model folder '{name}' has no .safetensors weights; copy the whole model again.")
    for path in files:
        tensor_names(path)
    return files


def tensor_names(path: Path) -> list[str]:
    """Names of the tensors in a safetensors file.

    Raises:
        ModelError: if the file is truncated or something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path.name} in '{path.parent.name}' is damaged ({error}); copy it again.") from error


def weights_count(files: list[Path]) -> int:
    """Numbers in safetensors files, from their headers alone."""
    import math

    from safetensors import safe_open

    count = 0
    for path in files:
        with safe_open(path, framework="np") as file:
            count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return count


def input_device(model):
    """(device, dtype) that tensors for a model go to; weights on disk are nowhere until they are used."""
    floats = [p for p in model.parameters() if p.is_floating_point()]
    return next((p.device for p in floats if p.device.type != "meta"), device()), floats[0].dtype


def sha256_of(files: list[Path]) -> str:
    """SHA-256 (hex) over the files' bytes, in order."""
    sha = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                sha.update(block)
    return sha.hexdigest()


def fingerprint(files: list[Path]) -> str:
    """SHA-256 (hex) of names, sizes and times of change: tells quickly whether files are those of last time."""
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def device():
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


def need_bitsandbytes(precision: str) -> None:
    """
    Raises:
        ModelError: if bitsandbytes is missing or too old for this machine.
    """
    quiet_bitsandbytes()
    try:
        import bitsandbytes  # noqa: F401 - only to fail here, with a sentence
    except ImportError as error:
        raise ModelError(
            f"'{precision}' needs the package bitsandbytes, which this machine lacks ({error}); "
            "choose bf16 or fp32, or install it."
        ) from error


def load_weights(model_class, folder: Path, precision: str, parameters: int, keep: Sequence[str] = (), progress=None):
    """(model in eval mode, how its weights are held) from a checked folder.

    A folder that is quantized already is loaded as it is; 'fp32' and 'bf16' then mean dequantized. Another is quantized once,
    and its copy is kept (`quantized_copy`).

    Args:
        keep: paths of modules that are never quantized.
        progress: told when a copy is made, which takes a while.

    Raises:
        ModelError: if weights are missing or don't fit the config.
    """

    import torch
    import transformers

    from ..cpu import engines

    target = device()
    stored = _stored_precision(folder)
    if (
        stored == "nf4"
        and target.type == "cpu"
        and (precision == "fp32" or (precision == stored and parameters < SMALL))
    ):
        return _load_unpacked(model_class, folder), f"{stored} weights in fp32"
    quiet_bitsandbytes()
    os.environ.setdefault("HF_DEACTIVATE_ASYNC_LOAD", "1")  # loading in parallel peaks above the dense size
    transformers.utils.logging.disable_progress_bar()  # front ends have their own
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
        _check_quantized_keys(model_class, folder)
    arguments = {"dtype": dense.get(precision, dtype), "device_map": {"": target}}
    if not stored:  # packed layers can't be taken from elsewhere
        arguments |= placement(target, weights_count(check_folder(folder)) * arguments["dtype"].itemsize)
    if stored:
        arguments["dtype"] = torch.float32 if precision == "fp32" else dtype
    model = trains_whole_model(model_class, folder, **arguments)
    elsewhere = set(map(str, getattr(model, "hf_device_map", {}).values())) - {str(target), str(target.index)}
    if elsewhere and not stored:
        held = f"{precision}, partly on {' and '.join(sorted(elsewhere))}"
    elif stored and precision in dense:
        model, held = _dense(model, dense[precision]), f"{stored} weights in {precision}"
    elif stored and target.type == "cpu" and _parameters(model) < SMALL:  # small, though its card doesn't say so
        model, held = _dense(model, torch.float32), f"{stored} weights in fp32"
    else:
        held = precision
    return model.eval(), _made_fast(model, held)


def _made_fast(model, held: str) -> str:
    """Guard the layers, and let those of a model that only answers take their fastest form; how they are held now."""
    from ..cpu import engines

    if _to_train.get():
        train_guard_4bit(model)
        return held
    guard_4bit(model)
    return engines.speed_up(model, held)


@contextmanager
def to_train() -> Iterator[None]:
    """What is loaded inside can be trained: every layer stays in the form that gradients find their way back through."""
    token = _to_train.set(True)
    try:
        yield
    finally:
        _to_train.reset(token)


def trains_whole_model(model_class, folder: Path, **arguments):
    """`from_pretrained` of a local safetensors folder that runs no code of it.

    Raises:
        ModelError: if it can't be read, or lacks weights.
    """
    arguments |= {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    try:
        model, info = model_class.from_pretrained(folder, output_loading_info=True, **arguments)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"The model in '{folder.name}' can't be loaded: {short(error)}") from error
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise ModelError(
            f"The weights in '{folder.name}' lack {len(lacking)} tensors, such as {lacking[0]}; copy the whole model again."
        )
    return model


def quiet_bitsandbytes() -> None:
    """At import bitsandbytes asks the hub for an optional accelerator, and tells that it could not download it."""
    import logging

    offline.while_loading()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _load_unpacked(model_class, folder: Path):
    """A stored NF4 model with the same values as float32, without the second that importing bitsandbytes takes.

    4-bit kernels cost four times as long as the products of so small a model (docs/decisions/0003).

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
        raise ModelError(f"The model in '{folder.name}' can't be loaded: {short(error)}") from error
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise ModelError(
            f"The weights in '{folder.name}' lack {len(lacking)} tensors, such as {lacking[0]}; copy the whole model again."
        )
    if (folder / "generation_config.json").is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    return model.eval()


def _dense(model, dtype):
    """The model with its 4-bit weights unpacked."""
    import transformers

    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        return model.dequantize(dtype).to(dtype)
    finally:
        transformers.utils.logging.set_verbosity(level)


def _parameters(model) -> int:
    """Number of weights, packed ones counted as what they stand for."""
    return sum(2 * p.numel() if type(p).__name__ == "Params4bit" else p.numel() for p in model.parameters())


def _stored_precision(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    quantization = config.get("quantization_config") or {}
    if quantization.get("load_in_4bit"):
        return str(quantization.get("bnb_4bit_quant_type", "nf4"))
    return "int8" if quantization.get("load_in_8bit") else ""


def _check_quantized_keys(model_class, folder: Path) -> None:
    """Missing tensors of a quantized checkpoint otherwise end in an obscure error of weight initialisation."""
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        model = model_class(config)
    model.tie_weights()
    present = {plain_name(name) for file in sorted(folder.glob("*.safetensors")) for name in tensor_names(file)}
    lacking = sorted(name for name, _ in model.named_parameters() if plain_name(name) not in present)
    if lacking:
        raise ModelError(
            f"The weights in '{folder.name}' lack {len(lacking)} tensors, such as {lacking[0]}; copy the whole model again."
        )


def plain_name(name: str) -> str:
    """A tensor's name without the levels that transformers adds or drops between versions."""
    return ".".join(part for part in name.split(".") if part not in ("model", "vision_model", "language_model"))


def guard_4bit(model) -> None:
    """Keep 4-bit layers off the repacking CPU path wherever its widths don't fit (see the module's docstring)."""
    for module in model.modules():
        if type(module).__name__ == "Linear4bit" and (module.in_features % 64 or module.out_features % 32):
            module.support_avx512bf16_for_cpu = False


def train_guard_4bit(model) -> None:
    """Keep *all* 4-bit layers off the repacking path, for a model that may be trained."""
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.support_avx512bf16_for_cpu = False


def short(error: Exception) -> str:
    """An error's text on one line, cut where it gets long."""
    text = " ".join(str(error).split())
    return text if len(text) < 240 else text[:240] + "…"

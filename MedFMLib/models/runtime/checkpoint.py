"""Check a model folder and read its weight files: names, hashes, completeness, the traps of bitsandbytes. Knows no architecture.

Checking needs no torch: only safetensors' headers are read. Nothing but safetensors is opened, and no code from a model's
folder is run. The traps guarded against here were measured with bitsandbytes 0.50 on CPUs with AVX512-BF16:

* the first inference repacks 4-bit weights in place, after which gradients are silently wrong,
* that repacking fails for widths that are no multiples of 64 (in) and 32 (out), and
* asking a repacked model for its state, as PEFT does to attach an adapter, packs it back with rounding: each time the
  base would drift by a per cent or two.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...storage import offline

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


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


def load_pretrained(model_class, folder: Path, **arguments):
    """`from_pretrained` of a local safetensors folder that runs no code of it.

    Raises:
        ModelError: if it can't be read, or lacks weights.
    """
    arguments |= {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
    try:
        model, info = model_class.from_pretrained(folder, output_loading_info=True, **arguments)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"The model in '{folder.name}' can't be loaded: {one_line(error)}") from error
    lacking = sorted(info["missing_keys"])
    if lacking:
        raise ModelError(
            f"The weights in '{folder.name}' lack {len(lacking)} tensors, such as {lacking[0]}; copy the whole model again."
        )
    return model


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


def one_line(error: Exception) -> str:
    """An error's text on one line, cut where it gets long."""
    text = " ".join(str(error).split())
    return text if len(text) < 240 else text[:240] + "…"


def stored_precision(config: dict[str, Any]) -> str:
    """Return the precision in which a checkpoint's weights are quantized already; "" if they are not.

    Args:
        config: content of its config.json.
    """
    quantization = config.get("quantization_config") or {}
    if quantization.get("load_in_8bit"):
        return "int8"
    return str(quantization.get("bnb_4bit_quant_type", "nf4")) if quantization else ""


def check_quantized_names(model_class, folder: Path) -> None:
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


def quiet_bitsandbytes() -> None:
    """At import bitsandbytes asks the hub for an optional accelerator, and tells that it could not download it."""
    import logging

    offline.while_loading()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


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

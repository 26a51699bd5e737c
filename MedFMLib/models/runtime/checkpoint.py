"""Check a model folder and read its weight files: names, hashes, completeness, defects of bitsandbytes.

Knows no architecture. Checking needs no torch: only the headers of safetensors are read. No other weight format is
opened, and no code from a model's folder is run. These defects of bitsandbytes are worked around (measured with
bitsandbytes 0.50 on CPUs with AVX512-BF16):

* the first inference repacks 4-bit weights in place, after which gradients are silently wrong,
* that repacking fails for widths that are not multiples of 64 (in) and 32 (out), and
* reading the state of a repacked model, as PEFT does to attach an adapter, packs it back with rounding: each time the
  base would change by a per cent or two.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...storage import offline
from ...storage.json_text import read_json

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def check_folder(folder: Path) -> list[Path]:
    """Check that a model folder is complete and safe, and return its weight files.

    Raises:
        ModelError: no config, no weights, pickled weights, missing shards or files that are not safetensors.
    """
    name = folder.name
    if not (folder / "config.json").is_file():
        raise ModelError(f"The model folder '{name}' has no config.json; copy the whole model again.")
    index = folder / "model.safetensors.index.json"
    files = sorted(folder.glob("*.safetensors"))
    if index.is_file():
        try:
            shards = sorted(set(read_json(index.read_bytes())["weight_map"].values()))
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
    """Return the names of the tensors in a safetensors file.

    Raises:
        ModelError: if the file is truncated or not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return list(file.keys())
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path.name} in '{path.parent.name}' is damaged ({error}); copy it again.") from error


def weights_count(files: list[Path]) -> int:
    """Return the number of values in safetensors files, from their headers alone."""
    import math

    from safetensors import safe_open

    count = 0
    for path in files:
        with safe_open(path, framework="np") as file:
            count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return count


def sha256_of(files: list[Path]) -> str:
    """Return the SHA-256 (hex) over the files' bytes, in order."""
    sha = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while block := stream.read(1 << 22):
                sha.update(block)
    return sha.hexdigest()


def fingerprint(files: list[Path]) -> str:
    """Return a SHA-256 (hex) of names, sizes and modification times: a fast check whether files have changed."""
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def load_pretrained(model_class, folder: Path, **arguments):
    """Load a local safetensors folder with `from_pretrained`, without running code from it.

    Args:
        model_class: of transformers.
        folder: with config and weights.
        arguments: further ones of `from_pretrained`.

    Raises:
        ModelError: if it can't be read, or weights are missing.
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
    """Return a tensor's name without the levels that transformers adds or drops between versions."""
    return ".".join(part for part in name.split(".") if part not in ("model", "vision_model", "language_model"))


def guard_4bit(model) -> None:
    """Exclude 4-bit layers from the repacking CPU path where it does not support their widths (see the module)."""
    for module in model.modules():
        if type(module).__name__ == "Linear4bit" and (module.in_features % 64 or module.out_features % 32):
            module.support_avx512bf16_for_cpu = False


def train_guard_4bit(model) -> None:
    """Exclude *all* 4-bit layers from the repacking CPU path, for a model that may be trained."""
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.support_avx512bf16_for_cpu = False


def one_line(error: Exception) -> str:
    """Return an error's text on one line, shortened to 240 characters."""
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
    """Check that a quantized checkpoint has all tensors of its model.

    Otherwise missing tensors end in an obscure error of weight initialization.

    Args:
        model_class: of transformers.
        folder: with config and weights.

    Raises:
        ModelError: if tensors are missing.
    """
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
    """Silence a warning of bitsandbytes.

    At import it requests an optional accelerator from the hub, and warns that the download failed.
    """
    import logging

    offline.while_loading()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def need_bitsandbytes(precision: str) -> None:
    """Check that bitsandbytes can be imported.

    Args:
        precision: the precision that needs it.

    Raises:
        ModelError: if bitsandbytes is missing or too old for this machine.
    """
    quiet_bitsandbytes()
    try:
        import bitsandbytes  # noqa: F401 - only to fail here, with a clear message
    except ImportError as error:
        raise ModelError(
            f"'{precision}' needs the package bitsandbytes, which can't be imported ({error}); "
            "choose bf16 or fp32, or install it."
        ) from error

"""Merge a LoRA adapter into its base, for a model folder that needs no adapter.

Knows safetensors and PEFT's file format.

W' = W + s · B A, with s = alpha / r, or alpha / √r for rank-stabilized LoRA (Hu et al., LoRA, ICLR 2022; Kalajdzievski
2023), computed in float32 file by file and stored in the dtype that W had, so that only one file is in memory at a
time. NF4 bases are dequantized to bfloat16 first; an unquantized base gives a better result. A test compares it with
PEFT's own merging.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

from ...errors import InputError, ModelError
from ...storage.json_text import read_json
from .adapters import read_config, read_tensors
from .checkpoint import check_folder, plain_name

PLAIN = {"use_dora": False, "fan_in_fan_out": False, "bias": "none", "lora_bias": False, "modules_to_save": None}
"""Values of an adapter's config for which the formula is valid; missing ones count as these."""
COPIED = (".json", ".jinja", ".txt", ".model", ".md")


def merge(base: Path, adapter: Path, target: Path, on_fraction=lambda _: None) -> int:
    """Write base and adapter, merged, into the folder `target`; return the number of changed layers.

    Args:
        base: checked folder with config and weights.
        adapter: folder of the adapter.
        target: an empty folder.
        on_fraction: receives 0…1; may raise to end the work.

    Raises:
        InputError: if this kind of adapter, or of base, can't be merged.
        ModelError: if the adapter is incompatible with the base, or is damaged.
    """
    import torch
    from safetensors.torch import load_file, save_file

    config = read_json((base / "config.json").read_bytes())
    packed = config.pop("quantization_config", None)
    if packed and not (packed.get("load_in_4bit") and packed.get("bnb_4bit_quant_type") == "nf4"):
        raise InputError(f"'{base.name}' is quantized in another format than NF4; merge into the unquantized model.")
    factors = _factors(adapter)
    done: set[str] = set()
    weights = check_folder(base)
    names: dict[str, str] = {}
    for number, path in enumerate(weights):
        tensors = load_file(path)
        if packed:
            from .nf4 import unpack

            kinds = {name: value.dtype for name, value in tensors.items()}
            tensors = {
                name: value.to(torch.bfloat16) if kinds.get(name) == torch.uint8 else value
                for name, value in unpack(tensors).items()
            }
        for name in tensors:
            layer = plain_name(name.removesuffix(".weight"))
            if not name.endswith(".weight") or layer not in factors:
                continue
            if layer in done:
                raise ModelError(
                    f"The base has two layers with the name {layer}, so the adapter's layer is ambiguous; use it unmerged."
                )
            a, b, scale = factors[layer]
            weight = tensors[name]
            if weight.shape != (b.shape[0], a.shape[1]):
                raise ModelError(
                    f"The adapter '{adapter.name}' was made for another base: {layer} is {tuple(weight.shape)} here, "
                    f"{(b.shape[0], a.shape[1])} in it."
                )
            tensors[name] = (weight.float() + scale * (b @ a)).to(weight.dtype)
            done.add(layer)
        save_file({n: v.contiguous() for n, v in tensors.items()}, target / path.name, metadata={"format": "pt"})
        names |= dict.fromkeys(tensors, path.name)
        on_fraction((number + 1) / len(weights))
    lacking = sorted(set(factors) - done)
    if lacking:
        raise ModelError(f"The adapter '{adapter.name}' was made for another base: this one has no layer {lacking[0]}.")
    for path in sorted(base.iterdir()):
        if path.is_file() and path.name.endswith(COPIED) and path.name != "config.json":
            shutil.copyfile(path, target / path.name)
    if packed:
        config["dtype"] = "bfloat16"
        _write_index(target, names)
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return len(done)


def _factors(adapter: Path) -> dict:
    """Return plain name of the layer → (A (r, in), B (out, r), scale), float32.

    Raises:
        InputError: if the adapter is of another kind than W + s · B A.
    """
    import torch

    config = read_config(adapter)
    for key, plain in PLAIN.items():
        if config.get(key, plain) not in (plain, [] if plain is None else plain):
            raise InputError(f"The adapter '{adapter.name}' has {key} = {config[key]}, which MedFM can't merge.")
    halves: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in read_tensors(adapter).items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", name)
        if not match:
            raise InputError(
                f"The adapter '{adapter.name}' has {name}, which is not a LoRA factor; MedFM can't merge it."
            )
        halves.setdefault(match[1], {})[match[2]] = torch.from_numpy(value).float()
    found = {}
    for layer, both in halves.items():
        if set(both) != {"A", "B"}:
            raise ModelError(f"The adapter '{adapter.name}' has only one of the two factors of {layer}; copy it again.")
        rank = _of_pattern(config.get("rank_pattern"), layer, config.get("r", both["A"].shape[0]))
        alpha = _of_pattern(config.get("alpha_pattern"), layer, config.get("lora_alpha", 8))
        found[plain_name(layer)] = (
            both["A"],
            both["B"],
            alpha / (math.sqrt(rank) if config.get("use_rslora") else rank),
        )
    return found


def _of_pattern(pattern: dict | None, layer: str, default):
    """Return the layer's value of a PEFT pattern, which matches the end of the layer's name; else the default."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", layer):
            return value
    return default


def _write_index(target: Path, names: dict[str, str]) -> None:
    """Write the index of tensors by file, if there are several files."""
    path = target / "model.safetensors.index.json"
    path.unlink(missing_ok=True)
    if len(set(names.values())) > 1:
        path.write_text(json.dumps({"metadata": {}, "weight_map": names}), encoding="utf-8")

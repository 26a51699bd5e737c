"""Quantize a model once, store the copy, and load it without the full model ever being in memory.

Knows plans (`precision`), safetensors and bitsandbytes; no architecture. A copy is a folder in the user's cache:

    copy.json                source, format, precision and files
    config.json              of the model, and generation_config.json if it has one
    model-00001.safetensors  tensors under the names of the model's modules; packed ones as bitsandbytes names them

It is written next to its final name and renamed when complete; a second process that needs the same copy fails with a
message to wait.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from ...environment import allocator
from ...errors import ModelError, OutputError
from ...storage import paths
from ...storage.json_text import read_json
from ...storage.locks import exclusive
from .checkpoint import guard_4bit, load_pretrained, one_line
from .precision import PACKED, ModulePrecision, plan

FORMAT = 1
SHARD_BYTES = 250_000_000
PIECE_BYTES = 8_000_000
FACTS = "copy.json"
BUSY = "Another process ({}) is quantizing this model right now; wait until it has finished, then load it again."


def folder_for(source: Path, fingerprint: str, precision: str) -> Path:
    """Return the folder of the copy of a model in a precision, whether it exists or not.

    Args:
        source: folder of the dense model, for its name.
        fingerprint: of its weights, see `checkpoint.fingerprint`.
        precision: "nf4" or "int8".
    """
    return paths.cache() / "quantized" / f"{source.name}-{fingerprint[:16]}-{precision}"


def is_complete(copy: Path, model_class) -> bool:
    """Return whether there is a complete copy that this version can read.

    Args:
        copy: folder of the copy.
        model_class: of transformers.
    """
    try:
        facts = read_json((copy / FACTS).read_bytes())
        sizes = {name: (copy / name).stat().st_size for name in facts["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return facts.get("format") == FORMAT and facts.get("class") == model_class.__name__ and sizes == facts["files"]


def make(
    model_class, source: Path, copy: Path, precision: str, keep: tuple[str, ...], on_fraction=lambda _: None
) -> None:
    """Quantize a checked dense folder layer by layer into `copy`.

    Weights are read from the file as they are needed; only the current shard of the copy is in memory.

    Args:
        model_class: of transformers.
        source: folder of the dense model.
        copy: folder to create.
        precision: "nf4" or "int8".
        keep: see `precision.plan`.
        on_fraction: receives 0…1; may raise to end the work.

    Raises:
        ModelError: if the model can't be read, or another process is making the same copy.
        OutputError: if the copy can't be written.
    """
    import torch

    locks = paths.cache() / "locks"
    for folder in (copy.parent, locks):
        folder.mkdir(parents=True, exist_ok=True)
    with exclusive(locks / f"{copy.name}.lock", ModelError(BUSY)):
        # in the stored dtype: pages are then mapped from the file when they are read
        model = load_pretrained(model_class, source, dtype="auto").requires_grad_(False)
        held = plan(model, precision, keep)
        staged = Path(tempfile.mkdtemp(prefix=f".{copy.name}.", dir=copy.parent))
        try:
            with torch.inference_mode():
                files = _write_shards(model, held, staged, on_fraction)
            for name in ("config.json", "generation_config.json"):
                if (source / name).is_file():
                    shutil.copyfile(source / name, staged / name)
            facts = {"format": FORMAT, "class": model_class.__name__, "precision": precision, "files": files,
                     "held": {path: [h.kind, h.precision] for path, h in held.items()}}  # fmt: skip
            (staged / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            shutil.rmtree(copy, ignore_errors=True)
            staged.rename(copy)
        except OSError as error:
            raise OutputError(
                f"The quantized copy of {source.name} can't be written to {copy.parent}: {error.strerror or error}; free "
                "space there, or choose bf16."
            ) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def load(model_class, copy: Path, target, dtype, settle_below: int = 0):
    """Return the model in eval mode, built from a copy tensor by tensor.

    Args:
        model_class: of transformers.
        copy: folder of the copy.
        target: `torch.device`.
        dtype: of dense weights and of computation.
        settle_below: in models with fewer weights, each 4-bit layer is repacked for its CPU kernel while loading, when
            little else is in memory; otherwise all are repacked at the first question, with both forms in memory. Such
            a model can't be trained, and its layers can't be exchanged (`models.cpu.engines`).

    Raises:
        ModelError: if the copy doesn't match the model, or is damaged; it is deleted, so that the next attempt creates
            it again.
    """
    import torch
    import transformers
    from accelerate import init_empty_weights
    from safetensors import SafetensorError

    facts = read_json((copy / FACTS).read_bytes())
    config = transformers.AutoConfig.from_pretrained(copy, local_files_only=True, trust_remote_code=False)
    with init_empty_weights(include_buffers=False):
        model = model_class(config)
    model.tie_weights()
    settle = sum(p.numel() for p in model.parameters()) < settle_below
    held = {path: ModulePrecision(path, kind, precision) for path, (kind, precision) in facts["held"].items()}
    try:
        tensors: dict[str, torch.Tensor] = {}
        with allocator.returning_freed_memory():
            for name in sorted(facts["files"]):
                tensors |= _read(copy / name, target)
            _fill(model, held, tensors, target, dtype, settle)
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError, AttributeError) as error:
        shutil.rmtree(copy, ignore_errors=True)
        raise ModelError(
            f"The quantized copy in {copy.name} was damaged and is deleted ({one_line(error)}); load the model again to create "
            "a new one."
        ) from error
    if (copy / "generation_config.json").is_file():
        model.generation_config = transformers.GenerationConfig.from_pretrained(copy, local_files_only=True)
    model.is_loaded_in_4bit, model.is_loaded_in_8bit = (
        facts["precision"] == p for p in PACKED
    )  # attributes that PEFT reads
    model.is_quantized = True
    return model.eval()


# -- writing -------------------------------------------------------------------------------------


def _write_shards(model, held: dict[str, ModulePrecision], folder: Path, on_fraction) -> dict[str, int]:
    """Pack module after module; return file name → bytes."""
    from safetensors.torch import save_file

    modules, total = dict(model.named_modules()), sum(p.numel() for p in model.parameters())
    files: dict[str, int] = {}
    shard: dict = {}
    seen: set[int] = set()
    done = 0

    def flush() -> None:
        name = f"model-{len(files) + 1:05}.safetensors"
        save_file(shard, folder / name)
        files[name] = (folder / name).stat().st_size
        shard.clear()

    for path, how in held.items():
        module = modules[path]
        for name, weight in module.named_parameters(recurse=False):
            if id(weight) in seen:
                continue
            seen.add(id(weight))
            shard |= _packed(f"{path}.{name}", weight, how.precision if name == "weight" else "dense")
            done += weight.numel()
            on_fraction(done / total)
            if sum(t.nbytes for t in shard.values()) > SHARD_BYTES:
                flush()
    for name, buffer in model.named_buffers():
        owner, _, last = name.rpartition(".")
        if last not in modules[owner]._non_persistent_buffers_set:
            shard[name] = buffer.detach().clone()
    flush()
    return files


def _packed(name: str, weight, precision: str) -> dict:
    """Return the tensors, by name in the file, that represent one parameter."""
    import torch

    weight = weight.detach()
    if precision == "nf4":
        from bitsandbytes.functional import quantize_4bit

        codes, state = quantize_4bit(weight.contiguous(), blocksize=64, compress_statistics=True, quant_type="nf4")
        return {name: codes, **{f"{name}.{key}": value for key, value in state.as_dict(packed=True).items()}}
    if precision == "int8":
        from bitsandbytes.functional import int8_vectorwise_quant

        codes, scales, _ = int8_vectorwise_quant(weight.to(torch.float16).contiguous())
        return {name: codes, f"{name}.SCB": scales}
    if precision == "int8 rows":
        from .int8_rows import pack_rows

        codes, scales = pack_rows(weight)
        return {name: codes, f"{name}.scale": scales}
    return {name: weight.to(torch.bfloat16 if weight.is_floating_point() else weight.dtype).clone().contiguous()}


# -- reading -------------------------------------------------------------------------------------


def _read(path: Path, target) -> dict:
    """Return all tensors of a file, on `target`.

    The file is opened again for every piece: otherwise its mapped pages stay in memory next to the tensors.
    """
    import torch
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        names = list(file.keys())
    tensors = {}
    for name in names:
        with safe_open(path, framework="pt") as file:
            shape = file.get_slice(name).get_shape()
            first = file.get_slice(name)[:1] if shape and shape[0] else file.get_tensor(name)
        tensors[name] = torch.empty(shape, dtype=first.dtype, device=target)
        step = max(1, PIECE_BYTES // max(1, first.nbytes)) if shape else 1
        for start in range(0, shape[0] if shape else 1, step):
            with safe_open(path, framework="pt") as file:
                piece = file.get_slice(name)[start : start + step] if shape else file.get_tensor(name)
                (tensors[name][start : start + step] if shape else tensors[name]).copy_(piece)
                del piece
    return tensors


def _fill(model, held: dict[str, ModulePrecision], tensors: dict, target, dtype, settle: bool) -> None:
    """Replace quantized layers and assign all tensors.

    Raises:
        KeyError: if a tensor is missing in the file.
        ValueError: if a tensor is missing, or the model has no such tensor.
    """
    import torch

    modules = dict(model.named_modules())
    for path, how in held.items():
        module = modules[path]
        if how.precision == "dense":
            continue
        weight = f"{path}.weight"
        if how.kind == "tied head":
            continue
        if how.precision == "int8 rows":
            new = _row_module(module, tensors.pop(weight), tensors.pop(f"{weight}.scale"), dtype)
        else:
            new = _packed_linear(module, path, how.precision, tensors, target, dtype)
            if settle and how.precision == "nf4":
                _settle(new, tensors.get(f"{path}.bias"), target, dtype)
        _put(modules, model, path, new)
    for path, how in held.items():
        if how.kind == "tied head" and how.precision != "dense":
            from .int8_rows import Int8Head

            table = model.get_input_embeddings()
            head = Int8Head(table.weight.data, table.scale.data)
            head.weight, head.scale = table.weight, table.scale
            _put(modules, model, path, head)
    for name, value in tensors.items():
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        value = value.to(dtype) if value.is_floating_point() else value
        if last in module._parameters:
            module._parameters[last] = torch.nn.Parameter(value, requires_grad=False)
        elif last in module._buffers:
            module._buffers[last] = value
        else:
            raise ValueError(f"the model has no tensor {name}")
    model.tie_weights()
    left = [name for name, p in model.named_parameters() if p.is_meta]
    if left:
        raise ValueError(f"{left[0]} is missing")
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(target)


def _row_module(module, packed, scale, dtype):
    import torch

    from .int8_rows import Int8Embedding, Int8Head

    if isinstance(module, torch.nn.Linear):
        return Int8Head(packed, scale)
    factor = getattr(module, "scalar_embed_scale", None) or getattr(module, "embed_scale", 1.0)
    return Int8Embedding(packed, scale, dtype, float(factor))


def _packed_linear(module, path: str, precision: str, tensors: dict, target, dtype):
    """Return a bitsandbytes layer with tensors that are packed already."""
    import bitsandbytes as bnb
    import torch

    weight, bias = f"{path}.weight", module.bias is not None
    with torch.device("meta"):
        if precision == "nf4":
            new = bnb.nn.Linear4bit(
                module.in_features, module.out_features, bias, compute_dtype=dtype, quant_type="nf4"
            )
        else:
            new = bnb.nn.Linear8bitLt(
                module.in_features, module.out_features, bias, has_fp16_weights=False, threshold=6.0
            )
    packed = tensors.pop(weight)
    if precision == "nf4":
        stats = {name: tensors.pop(name) for name in [n for n in tensors if n.startswith(f"{weight}.")]}
        new.weight = bnb.nn.Params4bit.from_prequantized(packed, stats, device=target, module=new)
        new.quant_state.dtype = dtype
    else:
        new.weight = bnb.nn.Int8Params(packed, requires_grad=False, has_fp16_weights=False)
        new.weight.CB, new.weight.SCB = packed, tensors.pop(f"{weight}.SCB")
    return new


def _settle(layer, bias, target, dtype) -> None:
    """Let a layer compute once, so that it repacks its weights for the CPU kernel."""
    import torch

    guard_4bit(layer)
    if bias is not None:
        layer.bias = torch.nn.Parameter(bias.to(dtype), requires_grad=False)
    with torch.inference_mode():
        layer.eval()(torch.zeros((1, layer.in_features), dtype=dtype, device=target))
    allocator.trim()


def _put(modules: dict, model, path: str, new) -> None:
    owner, _, last = path.rpartition(".")
    setattr(model.get_submodule(owner), last, new)
    modules[path] = new

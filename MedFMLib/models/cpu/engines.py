"""Choose how a quantized model's layers are multiplied on a CPU: time the available engines once, take the fastest.

Knows linear layers; nothing of what a model is for. The engines, as MEDFM_CPU_ENGINE names them:

* `packed`: 4-bit (or 8-bit) weights unchanged, with the kernels of `kernels`; needs the optional package llvmlite,
* `int8`: weights converted to 8 bits, with torch's own quantized product; twice the memory of NF4,
* `loaded`: unchanged bitsandbytes layers,
* `bf16`: dequantized; four times the memory of NF4.

Each is timed on one layer of the model at the first load (about a second), compared with the product in float32 on
activations with and without outliers, and rejected if its error is too large. The measurement is stored for the machine
and its packages in the user's cache. docs/decisions/0007 has the numbers.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...errors import ModelError
from ...storage import paths
from ...storage.json_text import read_json
from . import attention, kernels
from .linears import DynamicLinear, PackedEmbedding, PackedLinear
from .products import BLOCK

VARIABLE = "MEDFM_CPU_ENGINE"
LARGE = 500_000_000
"""Smaller models are left unchanged."""
MOST_ERROR = 0.03
"""Relative error of a layer's output, compared with the same weights in float32, above which an engine is rejected."""
PROMPT, ANSWER = 256, 60
"""Tokens of the question and of the answer for which the choice is made."""
TITLES = {"packed": "8-bit activations", "int8": "int8", "loaded": "bitsandbytes", "bf16": "unpacked to bf16"}
MEMORY = {"packed": 0.0, "int8": 8.0, "loaded": 0.0, "bf16": 16.0}
"""Bits per weight that an engine needs additionally while it is created."""
QUANTIZED = ("Linear4bit", "Linear8bitLt")


@dataclass(frozen=True)
class LayerTiming:
    """One engine on one layer.

    Args:
        seconds: for a question and an answer.
        error: relative error, the larger one of both kinds of activations.
    """

    seconds: float
    error: float


# -- weights of bitsandbytes layers --------------------------------------------------------------------


def dense(linear) -> torch.Tensor:
    """Return the (out, in) weight of a linear layer of any kind, in bfloat16 or its stored dtype.

    bitsandbytes 0.50 dequantizes 4-bit rows that aren't whole blocks wrongly on a CPU, so it is done here.
    """
    kind = type(linear).__name__
    if kind == "Linear4bit":
        codes, scales, table = codes_of(linear)
        blocks = scales.repeat_interleave(linear.weight.quant_state.blocksize)[: codes.numel()]
        return (table[codes.int()] * blocks.view(codes.shape)).bfloat16()
    if kind == "Int8Head":
        return (linear.weight.float() * linear.scale[:, None]).bfloat16()
    if kind == "Linear8bitLt":
        weight = linear.weight.data if linear.state.CB is None else linear.state.CB
        scales = linear.state.SCB if getattr(linear.weight, "SCB", None) is None else linear.weight.SCB
        return (weight.float() * (scales.float()[:, None] / 127)).bfloat16()
    return linear.weight.data


def codes_of(linear):
    """Return the parts of a `Linear4bit`'s weight.

    Returns:
        (codes (out, in) uint8 of 0…15, scales (blocks,) float32 along all codes, table (16,) float32)

    Raises:
        KernelsUnavailable: if it was repacked for bitsandbytes' own kernel already.
    """
    state = linear.weight.quant_state
    if getattr(state, "packing_format_for_cpu", False):
        raise kernels.KernelsUnavailable("the layer was repacked by bitsandbytes")
    scales = state.absmax
    if state.nested:
        from bitsandbytes.functional import dequantize_blockwise

        scales = dequantize_blockwise(state.absmax, state.state2) + state.offset
    packed = linear.weight.data.flatten()
    codes = torch.stack((packed >> 4, packed & 15), -1).flatten()[: state.shape.numel()].view(state.shape)
    return codes, scales.float().flatten(), state.code.float()


# -- the engines ---------------------------------------------------------------------------------------


def packed(linear) -> PackedLinear:
    """Return a layer for `kernels`: 4-bit weights stay the same 4 bits, all others become 8 bits.

    Raises:
        KernelsUnavailable: if the kernels are not available.
    """
    loaded = kernels.load()
    dtype, bias = _dtype(linear), getattr(linear, "bias", None)
    if type(linear).__name__ == "Int8Head" and not linear.in_features % BLOCK:
        scales = linear.scale.float()[:, None].expand(-1, linear.in_features // BLOCK)
        return PackedLinear(linear.in_features, 8, linear.weight.data, scales, None, None, dtype, loaded)
    if type(linear).__name__ == "Linear4bit":
        repeats = linear.weight.quant_state.blocksize // BLOCK
        if repeats and not linear.in_features % linear.weight.quant_state.blocksize:
            codes, scales, table = codes_of(linear)
            scales = scales.view(len(codes), -1).repeat_interleave(repeats, 1)
            return PackedLinear(codes.shape[1], 4, codes, scales, table, bias, dtype, loaded)
    return PackedLinear.from_weight(dense(linear), bias, dtype, loaded)


def int8(linear) -> DynamicLinear:
    """Return an 8-bit layer with torch's quantized product.

    Raises:
        KernelsUnavailable: if this torch lacks it.
    """
    try:
        return DynamicLinear(dense(linear), linear.bias, _dtype(linear))
    except (RuntimeError, AttributeError) as error:
        raise kernels.KernelsUnavailable(f"this torch has no quantized product ({error})") from error


def bf16(linear) -> torch.nn.Linear:
    """Return a dense layer in bfloat16."""
    made = torch.nn.Linear(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
    made.weight = torch.nn.Parameter(dense(linear).bfloat16(), requires_grad=False)
    if linear.bias is not None:
        made.bias = torch.nn.Parameter(linear.bias.detach().bfloat16(), requires_grad=False)
    return made.eval()


ENGINES: dict[str, Callable] = {"packed": packed, "int8": int8, "loaded": lambda linear: linear, "bf16": bf16}


def _dtype(linear):
    bias = getattr(linear, "bias", None)
    return getattr(linear, "compute_dtype", None) or (torch.bfloat16 if bias is None else bias.dtype)


# -- the choice ----------------------------------------------------------------------------------------


def probe(linear, names=tuple(ENGINES)) -> dict[str, LayerTiming]:
    """Time and compare the engines on one layer; unavailable ones are left out.

    The engines take turns, so that other load on the machine affects all of them, and each finds the caches filled with
    another's weights.

    Args:
        linear: a quantized layer.
        names: of the engines.
    """
    ways = {}
    for name in names:
        try:
            ways[name] = ENGINES[name](linear)
        except (kernels.KernelsUnavailable, RuntimeError, ValueError):
            continue
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(PROMPT, linear.in_features, generator=generator)
    outliers = x.clone()
    outliers[:, :: max(1, linear.in_features // 6)] *= 60
    weight = dense(linear).float()
    errors, times = {}, {name: ([], []) for name in ways}
    with torch.inference_mode():
        for name, way in list(ways.items()):
            try:
                errors[name] = max(_error(way, some[:8].bfloat16(), weight) for some in (x, outliers))
            except (RuntimeError, AssertionError):
                del ways[name]
        x = x.bfloat16()
        for round_number in range(4):  # the first warms up
            for name, way in ways.items():
                for kind, some, repeats in ((0, x, 1), (1, x[:1], 3)):
                    started = time.perf_counter()
                    for _ in range(repeats):
                        way(some)
                    if round_number:
                        times[name][kind].append((time.perf_counter() - started) / repeats)
    return {
        name: LayerTiming(statistics.median(times[name][0]) + ANSWER * statistics.median(times[name][1]), errors[name])
        for name in ways
    }


def _error(way, x, weight) -> float:
    """Return the relative error of the output for x (rows, in)."""
    exact = x.float() @ weight.t()
    bias = getattr(way, "bias", None)
    y = way(x).float() - (0 if bias is None else bias.float())
    return float((y - exact).norm() / exact.norm())


def choose(measured: dict[str, LayerTiming], room: Callable[[str], bool] = lambda name: True) -> str:
    """Return the fastest engine that is accurate and fits into memory; never one slower than bf16 if bf16 fits.

    Args:
        measured: engine → its timing.
        room: whether there is memory for an engine.
    """
    good = {name: way.seconds for name, way in measured.items() if way.error <= MOST_ERROR and room(name)}
    return min(good, key=good.get) if good else "loaded"


def wanted() -> str:
    """Return the engine that MEDFM_CPU_ENGINE names; "" for automatic choice.

    Raises:
        ModelError: if it names no engine.
    """
    name = os.environ.get(VARIABLE, "")
    if name not in ("", "auto", *ENGINES):
        raise ModelError(f"{VARIABLE} is '{name}'; choose auto, {', '.join(ENGINES)}, or unset it.")
    return "" if name == "auto" else name


def _key(linear) -> str:
    """Return the key of a measurement: machine, packages, kind and shape of the layer."""
    try:
        from importlib.metadata import version

        llvm = version("llvmlite")
    except ImportError:
        llvm = "none"
    parts = (platform.machine(), platform.processor(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(),
             torch.__version__, llvm, type(linear).__name__, linear.out_features, linear.in_features,
             getattr(linear, "support_avx512bf16_for_cpu", ""))  # fmt: skip
    return " ".join(str(part) for part in parts)


def measured_once(linear) -> dict[str, LayerTiming]:
    """Return the result of `probe`, from the user's cache if this machine was measured before."""
    file, key = paths.cache() / "cpu_engines.json", _key(linear)
    try:
        known = read_json(file.read_bytes())
        return {name: LayerTiming(**way) for name, way in known[key].items() if name in ENGINES}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    found = probe(linear)
    try:
        known = read_json(file.read_bytes()) if file.is_file() else {}
        known[key] = {name: {"seconds": way.seconds, "error": way.error} for name, way in found.items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(known, indent=1), encoding="utf-8")
    except (OSError, ValueError, TypeError):  # not saved: it is measured again next time
        pass
    return found


def _room(model) -> Callable[[str], bool]:
    from ...hardware import free_memory

    free = free_memory()
    weights = sum(layer.in_features * layer.out_features for layer in _layers(model).values())
    return lambda name: not free or weights * MEMORY[name] / 8 < 0.8 * free


def _layers(model) -> dict[str, torch.nn.Module]:
    return {name: module for name, module in model.named_modules() if type(module).__name__ in QUANTIZED}


def speed_up(model, held: str, least: int = LARGE) -> str:
    """Replace a quantized model's layers by the fastest for this CPU; return the description of their precision.

    With `packed` the output head is replaced, too, in 8 bits: in bf16 it has as many bytes as a third of a 4-bit model.
    The model can then be used with adapters, but not trained.

    Args:
        model: a transformers model.
        held: description of the precision so far.
        least: models with fewer parameters stay unchanged.

    Raises:
        ModelError: if MEDFM_CPU_ENGINE names no engine, or an unavailable one.
    """
    name = wanted()
    layers = _layers(model)
    sizes = {layer: module.in_features * module.out_features for layer, module in layers.items()}
    if not layers or next(iter(layers.values())).weight.device.type != "cpu" or sum(sizes.values()) < least:
        return held
    if not name:
        largest = layers[max(sizes, key=sizes.get)]
        name = choose(measured_once(largest), _room(model))
    if name == "loaded":
        return held
    for path, layer in layers.items():
        _put(model, path, _made(name, layer))
    if name == "packed":
        _pack_head(model)
        attention.alone(model)
    attention.use(model)
    return f"{held} ({TITLES[name]}) on the CPU"


def _made(name: str, layer):
    try:
        return ENGINES[name](layer)
    except kernels.KernelsUnavailable as error:
        raise ModelError(
            f"{VARIABLE} is '{name}', which is not available on this machine: {error}; unset it."
        ) from error


def _put(model, path: str, module) -> None:
    parent, _, last = path.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _pack_head(model) -> None:
    """Replace the output head by an 8-bit one; a table of embeddings that shares its weights still shares them."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or type(head).__name__ not in ("Linear", "Int8Head"):
        return
    path_of = {module: path for path, module in model.named_modules()}
    made = packed(head)
    if type(table).__name__ == "Int8Embedding" and table.weight.data_ptr() == head.weight.data_ptr():
        _put(model, path_of[table], PackedEmbedding(made, table.dtype, table.factor))
    _put(model, path_of[head], made)

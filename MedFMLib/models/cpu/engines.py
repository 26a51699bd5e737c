"""How a quantized model's layers are multiplied on a CPU: the ways there are, a second of probing, and the choice.

Knows linear layers; nothing of what a model is for. The ways, as MEDFM_CPU_ENGINE names them:

* `packed`: 4-bit (or 8-bit) weights as they are, kernels of `kernels`; needs the optional package llvmlite,
* `int8`: 8-bit weights made from them, torch's own quantized product; twice the memory of NF4,
* `loaded`: as bitsandbytes holds them,
* `bf16`: unpacked; four times the memory of NF4.

Each is timed on one layer of the model at the first load, compared with the product in float32 on activations with and
without outliers, and refused if it errs. What was chosen is remembered for the machine and its packages in the person's cache.
docs/decisions/0007 has the numbers.
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
from . import attention, kernels
from .linears import DynamicLinear, PackedEmbedding, PackedLinear
from .products import BLOCK

VARIABLE = "MEDFM_CPU_ENGINE"
LARGE = 500_000_000
"""Smaller models are left as they are."""
MOST_ERROR = 0.03
"""Relative error of a layer's output, against the same weights in float32, from which a way is refused."""
PROMPT, ANSWER = 256, 60
"""Tokens of the question and of the answer that the choice is made for."""
TITLES = {"packed": "8-bit activations", "int8": "int8", "loaded": "bitsandbytes", "bf16": "unpacked to bf16"}
MEMORY = {"packed": 0.0, "int8": 8.0, "loaded": 0.0, "bf16": 16.0}
"""Bits per weight that a way needs while it is made."""
QUANTIZED = ("Linear4bit", "Linear8bitLt")


@dataclass(frozen=True)
class LayerTiming:
    """One way on one layer.

    Args:
        seconds: for a question and an answer. error: relative, the larger of both kinds of activations.
    """

    seconds: float
    error: float


# -- the weights that bitsandbytes holds ---------------------------------------------------------------


def dense(linear) -> torch.Tensor:
    """The (out, in) weight of a linear layer of any kind, in bfloat16 or what it was in.

    bitsandbytes 0.50 unpacks 4-bit rows that aren't whole blocks wrongly on a CPU, so they are looked up here.
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
    """(codes (out, in) uint8 of 0…15, scales (blocks,) float32 along all codes, table (16,) float32) of a `Linear4bit`.

    Raises:
        Unavailable: if it was repacked for bitsandbytes' own kernel already.
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


# -- the ways ------------------------------------------------------------------------------------------


def packed(linear) -> PackedLinear:
    """4 bits stay the same 4 bits, all else becomes 8 bits.

    Raises:
        Unavailable: if the kernels can't be had here.
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
    """8 bits with torch's quantized product.

    Raises:
        Unavailable: if this torch lacks it.
    """
    try:
        return DynamicLinear(dense(linear), linear.bias, _dtype(linear))
    except (RuntimeError, AttributeError) as error:
        raise kernels.KernelsUnavailable(f"this torch has no quantized product ({error})") from error


def bf16(linear) -> torch.nn.Linear:
    """A plain layer."""
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
    """Time and compare the ways on one layer; those that can't be had are left out.

    The ways take turns, so that they share whatever else the machine does, and each finds the caches full of another's weights.
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
    """Relative error of the output for x (rows, in)."""
    exact = x.float() @ weight.t()
    bias = getattr(way, "bias", None)
    y = way(x).float() - (0 if bias is None else bias.float())
    return float((y - exact).norm() / exact.norm())


def choose(measured: dict[str, LayerTiming], room: Callable[[str], bool] = lambda name: True) -> str:
    """The fastest way that doesn't err and fits into memory; never one that is slower than bf16 if bf16 fits.

    Args:
        room: whether there is memory for a way.
    """
    good = {name: way.seconds for name, way in measured.items() if way.error <= MOST_ERROR and room(name)}
    return min(good, key=good.get) if good else "loaded"


def wanted() -> str:
    """What MEDFM_CPU_ENGINE says; "" if it is left to the probe.

    Raises:
        ModelError: if it names no way.
    """
    name = os.environ.get(VARIABLE, "")
    if name not in ("", "auto", *ENGINES):
        raise ModelError(f"{VARIABLE} is '{name}'; choose auto, {', '.join(ENGINES)}, or unset it.")
    return "" if name == "auto" else name


def _key(linear) -> str:
    """What a measurement holds for: machine, packages, kind and shape of the layer."""
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
    """`probe`, from the person's cache if this machine was probed before."""
    file, key = paths.cache() / "cpu_engines.json", _key(linear)
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return {name: LayerTiming(**way) for name, way in known[key].items() if name in ENGINES}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    found = probe(linear)
    try:
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        known[key] = {name: {"seconds": way.seconds, "error": way.error} for name, way in found.items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(known, indent=1), encoding="utf-8")
    except (OSError, ValueError, TypeError):  # then it is probed again next time
        pass
    return found


def _room(model) -> Callable[[str], bool]:
    from ...environment.hardware import free_memory

    free = free_memory()
    weights = sum(layer.in_features * layer.out_features for layer in _layers(model).values())
    return lambda name: not free or weights * MEMORY[name] / 8 < 0.8 * free


def _layers(model) -> dict[str, torch.nn.Module]:
    return {name: module for name, module in model.named_modules() if type(module).__name__ in QUANTIZED}


def speed_up(model, held: str, least: int = LARGE) -> str:
    """Replace a quantized model's layers by those that answer fastest on this CPU; how its weights are held now.

    With `packed` the output head goes with them, in 8 bits: in bf16 it is as many bytes as a third of a 4-bit model. The
    model can answer and take adapters afterwards, not learn.

    Args:
        held: how they were held. least: models with fewer parameters stay as they are.

    Raises:
        ModelError: if MEDFM_CPU_ENGINE names no way, or one that can't be had here.
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
        raise ModelError(f"{VARIABLE} is '{name}', which this machine can't do: {error}; unset it.") from error


def _put(model, path: str, module) -> None:
    parent, _, last = path.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _pack_head(model) -> None:
    """The output head in 8 bits, too; a table of embeddings that shares its bytes goes on sharing them."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    if head is None or type(head).__name__ not in ("Linear", "Int8Head"):
        return
    path_of = {module: path for path, module in model.named_modules()}
    made = packed(head)
    if type(table).__name__ == "Int8Embedding" and table.weight.data_ptr() == head.weight.data_ptr():
        _put(model, path_of[table], PackedEmbedding(made, table.dtype, table.factor))
    _put(model, path_of[head], made)

"""Estimate the memory that a model needs, from its config alone, and choose settings that fit. Knows no architecture.

What is counted, in bytes; T: tokens of the conversation, pictures and answer included; B, n: pictures in the vision
tower at a time, and patches of each; d: bytes of a number in the compute dtype:

* weights, as `sizes` counts them;
* KV cache: 2 · layers · key-value heads · head width · T · d; layers with a sliding window keep at most the window;
* activations: the larger of the vision tower's (residual, queries, keys, values, feed-forward: B · n · (6 h + 2 m) · d)
  and of reading the conversation (T · (6 h + 3 m) · d and masks of T² bytes), one layer at a time, since nothing is
  kept for gradients; pictures and their patches as float32; one 4-bit layer dequantized, while many tokens are read;
* 45 MB for what libraries load and keep when a model first computes (measured, `Testing/bench/memory.py`);
* an adapter: r · (in + out) of every layer that it changes, float32;
* for training also: gradients and two moments of AdamW in float32 for every trained weight, and the residual of every
  layer kept for the backward pass (activation checkpointing).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...interfaces.family import Family
from ...storage.model_card import ModelCard
from . import device
from .precision import precisions_to_try
from .sizes import BYTES, sizes_from_config

LIBRARIES = 45_000_000

RANK = 16
"""Rank of a LoRA adapter, where none is available to be measured."""

ANSWER_TOKENS, QUESTION_TOKENS = 256, 128


@dataclass(frozen=True)
class MemoryParts:
    """Memory by purpose, bytes.

    Args:
        weights: of the model.
        cache: KV cache.
        activations: activations, pictures and libraries.
        adapter: weights of a LoRA adapter.
        optimizer: gradients and optimizer state, for training.
    """

    weights: int
    cache: int
    activations: int
    adapter: int = 0
    optimizer: int = 0

    @property
    def total(self) -> int:
        """Sum of all parts, bytes."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class MemoryPlan:
    """Chosen settings, and the memory that they need.

    Args:
        precision: of the weights.
        slices: pictures per question.
        place: location of the weights: "device", "device and main memory" or "device, main memory and disk".
        parts: bytes by purpose.
        free: free bytes of the device.
        fits: whether the settings fit.
        says: one sentence for the user.
    """

    precision: str
    slices: int
    place: str
    parts: MemoryParts
    free: int
    fits: bool
    says: str


@dataclass(frozen=True)
class QuestionSize:
    """Sizes of one question to a model, for the estimate; each family computes them from its config (`reads`).

    Args:
        image_tokens: tokens of one picture in the text model.
        patches: patches of one picture in the vision tower.
        pixels: pixels of one picture.
        tower_batch: pictures in the vision tower at a time.
        square_mask: whether attention masks of T × T are created.
    """

    image_tokens: int
    patches: int
    pixels: int
    tower_batch: int
    square_mask: bool = True


def parts(
    model_class,
    folder: Path,
    precision: str,
    reads: Callable[[Any], QuestionSize],
    slices: int,
    *,
    keep: Sequence[str] = (),
    answer: int = ANSWER_TOKENS,
    question: int = QUESTION_TOKENS,
    adapter_rank: int = 0,
    training: bool = False,
    compute: str = "bf16",
) -> MemoryParts:
    """Return the memory for one question about `slices` pictures, or for training with them.

    Args:
        model_class: of transformers.
        folder: with config.json.
        precision: of the weights.
        reads: config → `QuestionSize`.
        slices: pictures per question.
        keep: see `precision.plan`.
        answer: tokens of the answer.
        question: tokens of the question.
        adapter_rank: rank of a LoRA on all linear layers of the text model; 0 for none.
        training: include gradients and optimizer.
        compute: "bf16", "fp16" or "fp32".
    """
    from transformers import AutoConfig

    sizes = sizes_from_config(model_class, folder, precision, "fp32" if precision == "fp32" else "bf16", tuple(keep))
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    reading, text, vision = reads(config), config.get_text_config(), config.vision_config
    d = BYTES[compute]
    tokens = slices * reading.image_tokens + question + answer
    width, inner = text.hidden_size, text.intermediate_size
    head = getattr(text, "head_dim", None) or width // text.num_attention_heads
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    window = getattr(text, "sliding_window", None) or tokens
    image_cache = sum(min(tokens, window) if "sliding" in kind else tokens for kind in kinds)
    cache = 2 * text.num_key_value_heads * head * image_cache * d
    deep = getattr(vision, "hidden_size", None) or vision.embed_dim
    wide = getattr(vision, "intermediate_size", None) or int(deep * getattr(vision, "mlp_ratio", 4))
    at_once = min(slices, reading.tower_batch)
    seeing = at_once * reading.patches * (6 * deep + 2 * wide) * d
    prompt = tokens - answer
    reading_text = prompt * (6 * width + 3 * inner) * d + (2 * prompt * prompt if reading.square_mask else 0)
    pictures = slices * reading.pixels * 3 * 4 * 2
    adapter = 0
    if adapter_rank:
        linears = [
            layer
            for layer in sizes.layers
            if len(layer.shape) == 2 and "language_model" in layer.name and ".layers." in layer.name
        ]
        adapter = sum(layer.count * adapter_rank * sum(layer.shape) * 4 for layer in linears)
    optimizer = 3 * adapter if training else 0
    unpacked = max((math.prod(layer.shape) for layer in sizes.layers if layer.held == "nf4"), default=0) * d
    activations = max(seeing, reading_text) + pictures + unpacked + LIBRARIES
    if training:
        activations += tokens * width * d * text.num_hidden_layers + tokens * text.vocab_size * 4
        cache = 0
    weights = sizes.quantized_bytes if precision in ("nf4", "int8") else sizes.dense_bytes
    return MemoryParts(weights, cache, activations, adapter, optimizer)


def choose(card: ModelCard, estimate, free: int, slices: int, precision: str = "", other_memory: int = 0,
           disk: int = 0) -> MemoryPlan:  # fmt: skip
    """Return the best precision and number of slices that fit.

    First the card's own precision is tried, then lower ones, since 4 bits cost little quality; then fewer slices; then,
    on a GPU, weights in main memory or on disk, in bf16 since 4-bit layers can't be offloaded; otherwise the plan says
    what would fit.

    Args:
        card: card of the model.
        estimate: (precision, slices) → `MemoryParts`.
        free: bytes of the device that computes.
        slices: requested number of slices.
        precision: one of the card's; "" for any.
        other_memory: bytes of main memory, if the device is a GPU.
        disk: free bytes of the cache's disk.
    """
    room = int(free * device.ROOM)
    ways = precisions_to_try(card, precision)
    counts = [slices]
    while counts[-1] > 1:
        counts.append(counts[-1] // 2)
    for count in counts:
        for way in ways:
            found = estimate(way, count)
            if found.total <= room:
                fewer = f" with {count} of {slices} slices" if count < slices else ""
                says = f"{card.title} fits in {way}{fewer}: {device.gigabytes(found.total)} of {device.gigabytes(free)} free."
                return MemoryPlan(way, count, "device", found, free, True, says)
    if other_memory and "bf16" in card.precisions and precision in ("", "bf16"):
        found = estimate("bf16", 1)
        activations = found.total - found.weights
        for place, more in (
            ("device and main memory", other_memory),
            ("device, main memory and disk", other_memory + disk),
        ):
            if activations <= room and found.total <= room + int(more * device.ROOM):
                says = (f"{card.title} fits in bf16 with its weights spread over {place}, one slice a question; expect it to "
                        "be many times slower.")  # fmt: skip
                return MemoryPlan("bf16", 1, place, found, free, True, says)
    least = ways[-1]
    found = estimate(least, 1)
    says = (
        f"{card.title} does not fit: even in {least} with one slice it takes {device.gigabytes(found.total)}, and "
        f"{device.gigabytes(free)} are free; close other programs, choose a smaller model, or run it on a server."
    )
    return MemoryPlan(least, 1, "device", found, free, False, says)


def plan_for(card: ModelCard, family: Family, slices: int, precision: str = "", free: int = 0, **more) -> MemoryPlan:
    """Return what to choose on this machine for questions about so many slices.

    Args:
        card: which model.
        family: its module, with `memory` (see `interfaces.family`).
        slices: pictures that a question should have.
        precision: one of the card's; "" for any of them.
        free: bytes to count with; 0 for what is free now.
        more: further arguments of `parts`.

    Raises:
        ModelError: if the model's config is not on this machine, or its family makes no plans.
        InputError: if the card has no such precision.
    """
    if not hasattr(family, "memory"):
        raise ModelError(f"{card.title} needs little memory beyond its weights; there is no plan to make.")
    target = device.choose_device()
    here, other, disk = device.free_bytes(target)
    compute = str(device.compute_dtype(target, card.parameters)).removeprefix("torch.")
    names = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
    known: dict[tuple[str, int], MemoryParts] = {}

    def estimate(way: str, count: int) -> MemoryParts:
        if (way, count) not in known:
            known[way, count] = family.memory(card, way, count, **{"compute": names[compute], **more})
        return known[way, count]

    return choose(card, estimate, free or here, max(1, slices), precision, other, disk)

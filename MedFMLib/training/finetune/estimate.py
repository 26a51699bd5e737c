"""Estimate memory and time of a training before it starts, and choose settings that fit. Knows no family.

In bytes, each of them counted rather than guessed:

* weights: of the frozen base in its precision; adapter: its weights in float32;
* gradients: one float32 for each trained weight; optimizer: two, Adam's moments;
* activations: what autograd saves for the backward pass. The language model's real code, with its adapter, runs on the
  meta device, and every tensor that it saves is counted once (`torch.autograd.graph.saved_tensors_hooks`); with
  checkpointing that is the input of each layer and one layer in full;
* scores: answers' tokens × vocabulary, three times in float32 (scores, log-probabilities, gradient);
* workspace: the largest quantized layer dequantized, the vision tower's widest layer, and what libraries load at the
  first training step;
* the memory of the process before, where an estimate is compared with its peak.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ...models.runtime.device import ROOM, gigabytes
from .settings import TARGETS, TrainingSettings

HOLES = 1.6
"""Factor by which glibc may retain more than is used, if freed memory is not returned at once (docs/decisions/0013)."""
KEPT = 0.1
"""Fraction of a training's bytes above which memory retained by the C library is mentioned."""
LIBRARIES = 90_000_000
"""Memory that torch and its kernels allocate at the first training step (measured, Testing/bench/finetune.py)."""


@dataclass(frozen=True)
class TrainingMemory:
    """Memory of one training by purpose, bytes.

    Args:
        weights: of the base.
        adapter: of the LoRA.
        gradients: of the trained weights.
        optimizer: Adam's moments.
        activations: saved for the backward pass.
        scores: logits and their gradient.
        workspace: temporary tensors and libraries.
    """

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    scores: int
    workspace: int

    @property
    def total(self) -> int:
        """Sum of all parts, bytes."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class TrainingPlan:
    """Memory of a training, and whether it fits.

    Args:
        parts: bytes by purpose.
        before: memory of the process before the base was loaded, bytes.
        free: free bytes.
        trained: number of trained weights.
        settings: possibly with smaller batches or checkpointing, so that it fits.
        fits: whether it fits.
        says: one sentence for the user.
        reached: peak memory of the process in the dry run, bytes; 0 if not known.
    """

    parts: TrainingMemory
    before: int
    free: int
    trained: int
    settings: TrainingSettings
    fits: bool
    says: str
    reached: int = 0

    @property
    def counted(self) -> int:
        """Bytes of all tensors, and of the process before."""
        return self.before + self.parts.total

    @property
    def peak(self) -> int:
        """Expected peak of the process: that of the dry run plus `parts.optimizer`, else as counted.

        C libraries retain a tenth to more than a half of freed memory, depending on sizes and order, which no count
        predicts (docs/decisions/0013); the first pass shows it.
        """
        return self.reached + self.parts.optimizer if self.reached else self.counted

    @property
    def verified(self) -> str:
        """A sentence on how the dry run compares with the count, for the user; "" without one."""
        if not self.reached:
            return ""
        kept = self.peak - self.counted
        text = f"The process is expected to reach {gigabytes(self.peak)}, {gigabytes(self.counted)} of it counted"
        if kept > self.parts.total * KEPT and not self.settings.low_memory:
            return (
                f"{text}; the rest is freed memory that the C library retains; --low-memory returns it, but is slower."
            )
        return f"{text}."

    def as_json(self) -> dict[str, Any]:
        """Return the plan for files and scripts."""
        return {"bytes": asdict(self.parts), "total": self.parts.total, "before": self.before, "counted": self.counted,
                "reached": self.reached, "peak": self.peak, "free": self.free, "trained_weights": self.trained,
                "fits": self.fits, "says": self.says, "verified": self.verified}  # fmt: skip


def resident_bytes() -> int:
    """Return the main memory of this process in bytes; 0 if the system doesn't report it."""
    try:
        import psutil

        return psutil.Process().memory_info().rss
    except ImportError:
        return 0


def free_bytes() -> int:
    """Return the free memory of the device that trains, bytes."""
    from ...models.runtime.device import choose_device, free_bytes

    return free_bytes(choose_device())[0]


def lora_weights(core, settings: TrainingSettings) -> int:
    """Return the number of weights of an adapter on a model, which may be on the meta device.

    Args:
        core: the base.
        settings: of the training.
    """
    import re

    pattern = re.compile(TARGETS[settings.targets])
    sizes = (
        (module.in_features, module.out_features)
        for name, module in core.named_modules()
        if hasattr(module, "in_features") and pattern.fullmatch(name)
    )
    return sum(settings.rank * (inputs + outputs) for inputs, outputs in sizes)


def parts(core, settings: TrainingSettings, tokens: int, answers: int, pixels: int, weights: int, compute_bytes: int,
          packed: bool = False) -> TrainingMemory:  # fmt: skip
    """Return the memory of a training by purpose.

    Args:
        core: the base without adapter, on any device.
        settings: of the training.
        tokens: of a picture with its question and answer.
        answers: the answer's share of these tokens.
        pixels: of one picture.
        weights: bytes of the base in its precision.
        compute_bytes: of a number in the compute dtype.
        packed: its linear layers will be quantized, though they are not yet.
    """
    config = core.config.get_text_config()
    count = lora_weights(core, settings)
    saved = saved_bytes(core.config, settings, settings.batch * tokens, compute_bytes)
    scores = 3 * 4 * settings.batch * (answers + 1) * config.vocab_size
    kinds = ("Linear4bit", "Linear8bitLt", *(("Linear",) if packed else ()))
    linears = [
        module.in_features * module.out_features
        for name, module in core.named_modules()
        if type(module).__name__ in kinds and not name.endswith("lm_head")
    ]
    unpacked = max(linears, default=0) * (4 if compute_bytes == 4 else 2)
    vision = core.config.vision_config
    deep = getattr(vision, "hidden_size", None) or vision.embed_dim
    wide = getattr(vision, "intermediate_size", None) or int(deep * getattr(vision, "mlp_ratio", 4))
    patches = pixels // vision.patch_size**2
    seeing = settings.batch * patches * (4 * deep + 2 * wide) * compute_bytes
    pictures = settings.batch * pixels * 3 * 4 * 2
    return TrainingMemory(
        weights, 4 * count, 4 * count, 8 * count, saved, scores, unpacked + seeing + pictures + LIBRARIES
    )


def saved_bytes(config, settings: TrainingSettings, tokens: int, compute_bytes: int) -> int:
    """Return the bytes that autograd saves in the language model, from a run of two layers on the meta device.

    Args:
        config: of the model.
        settings: of the training.
        tokens: of one batch.
        compute_bytes: of a number in the compute dtype.
    """
    text = config.get_text_config()
    one, two = (_saved_by_layers(config, settings, tokens, compute_bytes, count) for count in (1, 2))
    layer = two - one
    entry = tokens * text.hidden_size * compute_bytes
    if settings.checkpointing:
        return text.num_hidden_layers * entry + layer + (one - layer)
    return one + (text.num_hidden_layers - 1) * layer


def _saved_by_layers(config, settings: TrainingSettings, tokens: int, compute_bytes: int, layers: int) -> int:
    import copy

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    text = copy.deepcopy(config.get_text_config())
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    text._attn_implementation = "sdpa"
    dtype = torch.float32 if compute_bytes == 4 else torch.bfloat16
    names = "|".join(TARGETS["text"].partition("(")[2].rstrip(")").split("|"))
    with torch.device("meta"):
        model = AutoModel.from_config(text).to(dtype)
        lora = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=rf".*\.({names})")
        model.requires_grad_(False)
        peft = get_peft_model(model, lora)
        entry = torch.empty(1, tokens, text.hidden_size, dtype=dtype, device="meta", requires_grad=True)
        held: dict[int, Any] = {}
        keep, weights = [], {id(p) for p in peft.parameters()}

        def pack(tensor):
            base = tensor._base if tensor._base is not None else tensor
            keep.append(base)  # so that no other tensor gets its id
            if id(base) not in weights:
                held[id(base)] = base
            return tensor

        # prepared here: the model's own code would read values, which meta tensors don't have
        mask = torch.zeros(1, 1, tokens, tokens, dtype=dtype)
        kinds = set(getattr(text, "layer_types", None) or ())
        mask = dict.fromkeys(kinds, mask) if len(kinds) > 1 or "sliding_attention" in kinds else mask
        places = torch.zeros(1, tokens, dtype=torch.long)
        peft.train()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            peft.base_model.model(inputs_embeds=entry, attention_mask=mask, position_ids=places, use_cache=False)
    # fused kernels on real devices save no attention matrix; its counterpart on the meta device is not counted
    square = text.num_attention_heads * tokens * tokens
    kept = (t for t in held.values() if not (t.shape[-2:] == (tokens, tokens) and t.numel() == square))
    return sum(t.numel() * t.element_size() for t in kept)


def plan(core, settings: TrainingSettings, example: dict[str, Any], free: int, before: int = 0) -> TrainingPlan:
    """Return the best settings that fit: as requested, with checkpointing, then with smaller batches.

    The number of samples per step stays the same: smaller batches are accumulated longer.

    Args:
        core: the loaded base.
        settings: as requested.
        example: a result of `SampleReader.example`.
        free: free bytes; 0 if not known.
        before: memory of the process before the base was loaded, bytes.
    """
    import torch

    weights = sum(t.nbytes for t in (*core.parameters(), *core.buffers())) + _quantization_bytes(core)
    dtype = next((p.dtype for p in core.parameters() if p.is_floating_point()), torch.float32)
    tokens = example["input_ids"].shape[1]
    answers = int((example["labels"] != -100).sum())
    pixels = example["pixel_values"].numel() // 3
    rest = max(0, free)
    tried = settings
    while True:
        found = parts(core, tried, tokens, answers, pixels, weights, 2 if dtype == torch.bfloat16 else 4)
        extra = found.total - weights
        if not free or extra <= rest * ROOM or (tried.checkpointing and tried.batch == 1):
            break
        if not tried.checkpointing:
            tried = tried.with_(checkpointing=True)
        else:
            half = tried.batch // 2
            tried = tried.with_(batch=half, accumulation=math.ceil(tried.accumulation * tried.batch / half))
    if free and extra * HOLES > rest * ROOM:
        tried = tried.with_(low_memory=True)
    fits = not free or extra <= rest * ROOM
    smaller = f" with batches of {tried.batch}, accumulation {tried.accumulation} and checkpointed activations"
    changed = "" if tried.with_(low_memory=settings.low_memory) == settings else smaller
    listed = ", ".join(f"{name} {gigabytes(size)}" for name, size in asdict(found).items())
    if fits:
        says = (
            f"Training{changed} takes {gigabytes(found.total)} ({listed}); {gigabytes(free)} are free next to the base."
        )
    else:
        says = (f"Training does not fit: even batches of one picture with checkpointed activations take {gigabytes(found.total)} "
                f"({listed}), and {gigabytes(free)} are free; choose nf4, a lower rank, or a smaller model.")  # fmt: skip
    return TrainingPlan(found, before, free, lora_weights(core, settings), tried, fits, says)


def on_paper(
    model: str, settings: TrainingSettings, answers: int = 16, question: int = 24
) -> tuple[TrainingMemory, int]:
    """Return (bytes by purpose, number of trained weights) from a model's config alone; its weights need not be here.

    Args:
        model: id or folder.
        settings: of the training.
        answers: tokens of an answer.
        question: tokens of a question, without the picture's.

    Raises:
        ModelError: if there is no config on this machine.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from ...interfaces import registry
    from ...models.runtime import checkpoint, loading
    from ...models.runtime.precision import choose_precision
    from ...storage import resources

    card = registry.card(model)
    folder = resources.path(*card.config.split("/")) if card.config else loading.base_folder(card)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    checkpoint.quiet_bitsandbytes()
    with torch.device("meta"):
        core = AutoModelForImageTextToText.from_config(config)
    precision = choose_precision(card, settings.precision)
    architecture = registry.architecture(card.architecture)
    sizes, packed = architecture.stats(card, precision), precision in ("nf4", "int8")
    reading = getattr(architecture, "reads", None)
    pictures = reading(config).image_tokens if reading else getattr(config, "mm_tokens_per_image", None) or 256
    side = min(card.image_size, getattr(config.vision_config, "image_size", None) or card.image_size)
    weights = sizes.quantized_bytes if packed else sizes.dense_bytes * (2 if precision == "fp32" else 1)
    found = parts(
        core,
        settings,
        pictures + question + answers,
        answers,
        side**2,
        weights,
        4 if precision == "fp32" else 2,
        packed,
    )
    return found, lora_weights(core, settings)


def _quantization_bytes(core) -> int:
    """Return the bytes of the scales of packed weights, which are not parameters."""
    total = 0
    for module in core.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        while state is not None:
            total += sum(t.nbytes for t in (state.absmax, state.code) if t is not None)
            state = getattr(state, "state2", None)
    return total

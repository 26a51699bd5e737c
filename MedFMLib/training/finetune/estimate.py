"""Memory and time of a training before it starts, part by part, and the best setting that fits. Knows no family.

In bytes, each of them counted rather than guessed:

* weights: of the frozen base as it is held; adapter: its weights in float32;
* gradients: one float32 for each trained weight; optimizer: two, Adam's moments;
* activations: what autograd keeps for the way back. The language model's real code, with its adapter, runs on the meta device,
  and every tensor that it saves is counted once (`torch.autograd.graph.saved_tensors_hooks`); with checkpointing that is the
  input of each layer and one layer in full;
* scores: answers' tokens × vocabulary, three times in float32 (scores, log-probabilities, gradient);
* workspace: the largest quantized layer made dense, the vision tower's widest layer, and what libraries load when a model
  first learns;
* what the process holds already, where an estimate is compared with its peak.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ...models.runtime.device import ROOM, gigabytes
from .settings import TARGETS, TrainingSettings

HOLES = 1.6
"""Times as much glibc may hold as is used, if freed memory is not given back at once (docs/decisions/0013)."""
KEPT = 0.1
"""Share of a training's bytes above which what the C library keeps is told."""
LIBRARIES = 90_000_000
"""What torch and its kernels allocate when a model first learns (measured, Testing/bench/finetune.py)."""


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes of one training, part by part."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    scores: int
    workspace: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(asdict(self).values())


@dataclass(frozen=True)
class TrainingPlan:
    """What it takes, and whether it can be tried.

    Args:
        parts: bytes. before: what the process holds anyway. free: bytes that are free. trained: weights that learn.
        settings: perhaps with smaller batches or checkpointing, so that it fits. fits: may it be tried? says: for people.
        reached: bytes that the process reached in a dry run of two passes; 0 if that is not known.
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
        """Bytes of all tensors, and of what the process held anyway."""
        return self.before + self.parts.total

    @property
    def peak(self) -> int:
        """Bytes that the process is expected to reach: by the dry run and what it left out (`parts.optimizer`), else as counted.

        C libraries keep what is freed between tensors, from a tenth to more than a half of them by sizes and order, which no
        count foretells (docs/decisions/0013); the first pass shows it.
        """
        return self.reached + self.parts.optimizer if self.reached else self.counted

    @property
    def verified(self) -> str:
        """What the dry run says of the count, for people."""
        if not self.reached:
            return ""
        kept = self.peak - self.counted
        said = f"The process is expected to reach {gigabytes(self.peak)}, {gigabytes(self.counted)} of it counted"
        if kept > self.parts.total * KEPT and not self.settings.low_memory:
            return f"{said}; the rest is freed memory that the C library keeps, and --low-memory gives back, slower."
        return f"{said}."

    def as_json(self) -> dict[str, Any]:
        """For files and scripts."""
        return {"bytes": asdict(self.parts), "total": self.parts.total, "before": self.before, "counted": self.counted,
                "reached": self.reached, "peak": self.peak, "free": self.free, "trained_weights": self.trained,
                "fits": self.fits, "says": self.says, "verified": self.verified}  # fmt: skip


def resident_bytes() -> int:
    """Main memory that this process holds now; 0 if the system doesn't say."""
    try:
        import psutil

        return psutil.Process().memory_info().rss
    except ImportError:
        return 0


def free_bytes() -> int:
    """Free memory of the device that trains."""
    from ...models.runtime.device import choose_device, free_bytes

    return free_bytes(choose_device())[0]


def lora_weights(core, settings: TrainingSettings) -> int:
    """How many weights an adapter has on a model, which may lie on the meta device."""
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
    """Bytes of a training.

    Args:
        core: the bare model, on any device. tokens: of a picture with its question and answer. answers: of these, the answer's.
        pixels: of one picture. weights: bytes that the base takes as it is held. compute_bytes: of a number computed in.
        packed: will its linear layers be quantized, though they are not yet?
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
    """Bytes that autograd keeps in the language model for so many tokens, by running two layers of it on the meta device."""
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
            keep.append(base)  # so that no other tensor gets its number
            if id(base) not in weights:
                held[id(base)] = base
            return tensor

        mask = torch.zeros(
            1, 1, tokens, tokens, dtype=dtype
        )  # ready-made: making one looks at numbers, and there are none here
        kinds = set(getattr(text, "layer_types", None) or ())
        mask = dict.fromkeys(kinds, mask) if len(kinds) > 1 or "sliding_attention" in kinds else mask
        places = torch.zeros(1, tokens, dtype=torch.long)
        peft.train()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            peft.base_model.model(inputs_embeds=entry, attention_mask=mask, position_ids=places, use_cache=False)
    # the fused kernels that run on real devices keep no square of attention; what stands for it on the meta device goes
    square = text.num_attention_heads * tokens * tokens
    kept = (t for t in held.values() if not (t.shape[-2:] == (tokens, tokens) and t.numel() == square))
    return sum(t.numel() * t.element_size() for t in kept)


def plan(core, settings: TrainingSettings, example: dict[str, Any], free: int, before: int = 0) -> TrainingPlan:
    """The best setting that fits into `free` bytes: as asked, with checkpointing, then with smaller batches.

    The batch of a step stays the same: smaller ones accumulate longer.

    Args:
        core: the loaded base. example: one of `Reader.example`. before: bytes that the process held before the base was loaded.
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
            f"Training{changed} takes {gigabytes(found.total)} ({listed}); {gigabytes(free)} are free beside the base."
        )
    else:
        says = (f"Training does not fit: even batches of one picture with checkpointed activations take {gigabytes(found.total)} "
                f"({listed}), and {gigabytes(free)} are free; choose nf4, a lower rank, or a smaller model.")  # fmt: skip
    return TrainingPlan(found, before, free, lora_weights(core, settings), tried, fits, says)


def on_paper(
    model: str, settings: TrainingSettings, answers: int = 16, question: int = 24
) -> tuple[TrainingMemory, int]:
    """(bytes part by part, weights that learn) of a model whose weights need not be here, from its config alone.

    Args:
        model: id or folder. answers, question: tokens of each, beside the picture's.

    Raises:
        ModelError: if no config is at hand.
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
    """Scales of packed weights, which are no parameters."""
    total = 0
    for module in core.modules():
        state = getattr(getattr(module, "weight", None), "quant_state", None)
        while state is not None:
            total += sum(t.nbytes for t in (state.absmax, state.code) if t is not None)
            state = getattr(state, "state2", None)
    return total

"""Stages 3 and 4: quantize the base, train the adapter on the quantized base, lay out the folder that ships.

    python -m MedFMLib.training.ship --data DIR --work DIR --output Resources/models/medfm-tiny --minutes 15

Knows checkpoints and the folder's layout:

    base/            PaliGemma, linear layers in NF4 (double quantization), tokenizer and processor
    adapters/default LoRA, trained on that quantized base
    mask_codec/      codec for the mask tokens
    dense_head/      the linear layer that names the cells of a picture, fitted to the adapted vision tower
    labels.json      what it can be asked

The base is saved before an adapter is attached: afterwards its keys carry the adapter's layer names. Everything is written
beside the target first and moved in one step.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import time
from functools import partial
from pathlib import Path

from .exchanges import exchange_batches
from .labels import LABELS, PARTS, STRUCTURES
from .samples import Background
from .tiny import Shape, make_model, make_processor, make_tokenizer, training_heads
from .train_eyes import learning_rate, part_weights
from .train_tiny import Averaging, SoftTargets, losses

VISION = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
TEXT = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_dense(work: Path, folder: Path):
    """Save the averaged weights of `base.pt` as an unquantized transformers folder; returns the model."""
    import torch

    tokenizer = make_tokenizer()
    model = make_model(Shape(), tokenizer)
    average = torch.load(work / "base.pt", weights_only=True)["average"]
    missing = model.load_state_dict(average, strict=False).missing_keys
    if set(missing) - {"lm_head.weight"}:
        raise RuntimeError(f"base.pt lacks {sorted(missing)[:3]}; it belongs to another shape of the model.")
    model.tie_weights()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    make_processor(Shape(), tokenizer).save_pretrained(folder)
    return model.eval()


def write_unquantized(work: Path, folder: Path) -> None:
    """A whole model folder from `base.pt` before quantization: `bench_tiny --model` measures with it what NF4 costs."""
    import torch

    from ..models.parts.dense_head import DenseHead

    shutil.rmtree(folder, ignore_errors=True)
    write_dense(work, folder / "base")
    heads = torch.load(work / "base.pt", weights_only=True)["heads"]
    weight, bias = heads["dense.weight"], heads["dense.bias"]
    DenseHead(weight, bias, Shape().fine, len(PARTS), STRUCTURES).save(folder / "dense_head")
    shutil.copytree(work / "mask_codec", folder / "mask_codec")


def quantized(folder: Path):
    """Load a dense folder with its linear layers as NF4, double-quantized; everything else stays float32."""
    import torch
    from transformers import BitsAndBytesConfig, PaliGemmaForConditionalGeneration

    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=["lm_head"],
    )
    return PaliGemmaForConditionalGeneration.from_pretrained(
        folder, quantization_config=config, dtype=torch.float32, device_map={"": "cpu"}
    )


def allow_training(model) -> None:
    """Keep 4-bit layers away from the inference-only kernel, which has no gradient and says so only in a warning."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def lora_config(rank: int):
    """Adapters on every linear layer of both towers."""
    from peft import LoraConfig

    names = "|".join(sorted({*VISION, *TEXT}))
    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules=rf".*(vision_tower|language_model).*\.({names})",
        task_type="CAUSAL_LM",
    )


def train_adapter(data: Path, work: Path, base: Path, minutes: float, rank: int, batch: int, top: float, seed: int,
                  process: int = 0, processes: int = 1):  # fmt: skip
    """LoRA of rank `rank` on the quantized base in `base`, and the heads with it; returns (PEFT model, dense head).

    Logs to `adapter.jsonl`. `process` of `processes` single-threaded ones that average their gradients.
    """
    import torch
    from peft import get_peft_model
    from transformers import PaliGemmaForConditionalGeneration

    from ..models.parts.mask_codec import MaskCodec

    torch.set_num_threads(1 if processes > 1 else 2)
    torch.manual_seed(seed)  # the same first weights in every process
    shape, tokenizer = Shape(), make_tokenizer()
    codec = MaskCodec.load(work / "mask_codec")
    model = PaliGemmaForConditionalGeneration.from_pretrained(base, device_map={"": "cpu"}, attn_implementation="eager")
    allow_training(model)
    adapted = get_peft_model(model, lora_config(rank))
    heads = training_heads(shape)
    heads.load_state_dict(torch.load(work / "base.pt", weights_only=True)["heads"], strict=False)
    weights = part_weights()
    trained = [*(p for p in adapted.parameters() if p.requires_grad), *heads.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=top, weight_decay=0.0, betas=(0.9, 0.98))
    average = [p.detach().clone() for p in trained]
    soft = SoftTargets.make(tokenizer, codec.codebook)
    own = seed * 100 + process
    batches = Background(
        partial(exchange_batches, data, work / "mask_codec", tokenizer, shape.image, shape.image_tokens, batch, own)
    )
    together = Averaging(work, process, processes)
    log, began, step, sums, count, fraction = (work / "adapter.jsonl").open("a"), time.time(), 0, {}, 0, 0.0
    while fraction < 1:
        found = losses(model, heads, next(batches), shape, soft, weights)
        found["total"].backward()
        fraction = together.average(trained, (time.time() - began) / (60 * minutes))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(fraction, 0.05, top)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        with torch.no_grad():
            for kept, parameter in zip(average, trained, strict=True):
                kept.lerp_(parameter, 1 - min(0.99, step / (step + 10)))
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        count += 1
        if step % 10 == 0 and process == 0:
            line = {"step": step, "seconds": round(time.time() - began, 1)}
            log.write(json.dumps(line | {n: round(v / count, 4) for n, v in sums.items()}) + "\n")
            log.flush()
            sums, count = {}, 0
    batches.close()
    with torch.no_grad():
        for kept, parameter in zip(average, trained, strict=True):
            parameter.copy_(kept)
    return adapted.eval(), heads["dense"]


QUESTIONS = {
    "modality": ("which modality is this?", "MR"),
    "plane": ("which plane is this?", "axial"),
    "body part": ("which part of the body is this?", "head"),
    "visible structures": ("which structures are visible?", "liver, spleen, left kidney, spine"),
    "presence": ("is the liver visible?", "yes"),
    "side": ("on which side of the picture is the liver?", "left"),
    "patient side": ("on which side of the patient is the liver?", "right"),
    "largest": ("which structure is the largest?", "liver"),
    "refusal": ("how old is the patient?", "cannot be answered from this image"),
}


def write_labels(folder: Path) -> None:
    """`labels.json`: names by modality, and an example of every kind of question."""
    content = {
        "labels": {modality: list(names) for modality, names in LABELS.items()},
        "questions": {kind: question for kind, (question, _) in QUESTIONS.items()},
        "example_answers": {kind: answer for kind, (_, answer) in QUESTIONS.items()},
    }
    (folder / "labels.json").write_text(json.dumps(content, indent=1) + "\n")


def ship(data: Path, work: Path, output: Path, minutes: float, rank: int = 16, batch: int = 20, top: float = 1e-3,
         seed: int = 3, processes: int = 1) -> None:  # fmt: skip
    """Quantize, train the adapter, and replace the parts of `output` that are weights."""
    from ..models.parts.dense_head import DenseHead

    fresh = work / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    write_unquantized(work, work / "unquantized")
    model = quantized(work / "unquantized" / "base")
    model.save_pretrained(fresh / "base")
    make_processor(Shape()).save_pretrained(fresh / "base")
    del model
    (work / "rendezvous").unlink(missing_ok=True)
    what = (data, work, fresh / "base", minutes, rank, batch, top, seed)
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=train_adapter, args=(*what, n, processes)) for n in range(1, processes)]
    for other in others:
        other.start()
    adapted, dense = train_adapter(*what, 0, processes)
    for other in others:
        other.join()
    adapted.save_pretrained(fresh / "adapters" / "default")
    (fresh / "adapters" / "default" / "README.md").unlink(missing_ok=True)
    _no_paths(fresh / "adapters" / "default" / "adapter_config.json")
    DenseHead(dense.weight, dense.bias, Shape().fine, len(PARTS), STRUCTURES).save(fresh / "dense_head")
    shutil.copytree(work / "mask_codec", fresh / "mask_codec")
    output.mkdir(parents=True, exist_ok=True)
    for name in ("base", "adapters", "mask_codec", "dense_head"):
        staged = output / f".{name}.new"
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(fresh / name, staged)
        for file in staged.rglob("*"):
            file.chmod(0o755 if file.is_dir() else 0o644)
        old = output / f".{name}.old"
        if (output / name).exists():
            (output / name).rename(old)
        staged.rename(output / name)
        shutil.rmtree(old, ignore_errors=True)
    write_labels(output)


def _no_paths(config: Path) -> None:
    """An adapter belongs to the base beside it, not to a folder of the machine that trained it."""
    content = json.loads(config.read_text())
    content["base_model_name_or_path"] = "medfm-tiny/base"
    config.write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--data", "--work", "--output"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch", type=int, default=20, help="pictures per step and process")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=3)
    o = parser.parse_args()
    ship(o.data, o.work, o.output, o.minutes, o.rank, o.batch, o.rate, o.seed, o.processes)


if __name__ == "__main__":
    main()

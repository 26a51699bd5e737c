"""Measure fine-tuning: memory against its estimate, speed and memory against a plain Trainer with PEFT.

    python Testing/bench/finetune.py [--part estimate|throughput] [--steps 5]

Every run is a process of its own, since the peak of a process never comes down. The model is a PaliGemma of the real classes with
random weights, 267 million parameters: what is measured is time and memory, not answers.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing")]

OURS = """
import json, sys, time
from pathlib import Path
import torch
model, data, run, options = sys.argv[1:]
from MedFMLib.environment.allocator import keep_freed_memory
keep_freed_memory()  # as the command does
from MedFMLib.training.finetune import base, run as running
from MedFMLib.training.finetune.settings import TrainingSettings
settings = TrainingSettings(model=model, **json.loads(options))
began = time.perf_counter()
done = running.train(Path(data), Path(run), settings)
from MedFMLib.training.finetune import monitor
steps = monitor.read(Path(run) / "steps.csv")
print(json.dumps({"seconds": sorted(s.seconds for s in steps), "peak": base.peak_bytes(), "plan": done.plan,
                  "losses": [s.loss for s in steps], "norms": [s.norm for s in steps], "wall": time.perf_counter() - began}))
"""

PLAIN = """
import json, sys, time
import torch
model, data, run, options = sys.argv[1:]
o = json.loads(options)
from PIL import Image
from peft import LoraConfig, get_peft_model
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor, Trainer, TrainerCallback, TrainingArguments
from pathlib import Path
processor = PaliGemmaProcessor.from_pretrained(model)
core = PaliGemmaForConditionalGeneration.from_pretrained(model, dtype=torch.bfloat16)
names = "q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj"
lora = LoraConfig(r=8, lora_alpha=32, target_modules=rf".*language_model.*\\.({names})", task_type="CAUSAL_LM")
peft = get_peft_model(core, lora)
lines = [json.loads(line) for line in (Path(data) / "train.jsonl").open()]
def collate(rows):
    pictures = [Image.open(Path(data) / "pictures" / (row["picture"] + ".png")).convert("RGB") for row in rows]
    batch = processor(images=pictures, text=["<image>answer en " + row["question"] for row in rows],
                      suffix=[row["answer"] for row in rows], return_tensors="pt", padding="longest")
    batch["pixel_values"] = batch["pixel_values"].to(torch.bfloat16)
    return batch
times = []
class Clock(TrainerCallback):
    def on_step_begin(self, *_, **__): self.began = time.perf_counter()
    def on_step_end(self, *_, **__): times.append(time.perf_counter() - self.began)
args = TrainingArguments(output_dir=run, per_device_train_batch_size=o["batch"], gradient_accumulation_steps=o["accumulation"],
    max_steps=o["steps"], learning_rate=2e-4, use_cpu=True, save_strategy="no", report_to="none", remove_unused_columns=False,
    disable_tqdm=True, seed=0)
began = time.perf_counter()
Trainer(model=peft, args=args, train_dataset=lines, data_collator=collate, callbacks=[Clock()]).train()
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"seconds": sorted(times), "peak": peak,
                  "wall": time.perf_counter() - began}))
"""


def large_model(folder: Path) -> Path:
    """A PaliGemma with 12 layers of SigLIP-B and 12 of a narrow Gemma, random, bf16."""
    import torch

    from MedFMLib.training.embedded.tiny import ModelShape, make_model, make_processor, make_tokenizer

    torch.manual_seed(0)
    shape = ModelShape(image=224, patch=14, vision_width=768, vision_layers=12, vision_mlp=3072, text_width=1024, text_layers=12,
                  text_mlp=4096, heads=12, text_heads=8, key_value_heads=1, head_dim=128)  # fmt: skip
    tokenizer = make_tokenizer(300)
    model = make_model(shape, tokenizer).to(torch.bfloat16)
    print(f"model: {sum(p.numel() for p in model.parameters()):,} parameters")
    model.save_pretrained(folder)
    make_processor(shape, tokenizer).save_pretrained(folder)
    return folder


def run(code: str, *arguments, threads: int = 1) -> dict:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def estimate_part(root: Path, data: Path, model: Path, steps: int) -> None:
    from MedFMLib.training.finetune import estimate
    from MedFMLib.training.finetune.settings import TrainingSettings

    settings = TrainingSettings(model="google/paligemma-3b-mix-224", rank=8, precision="nf4", batch=1, accumulation=4)
    print(
        "PaliGemma-3B on paper (meta device), LoRA r = 8 on q, k, v, o, gate, up, down; one picture, 16 answer tokens:"
    )
    for checkpointing in (False, True):
        for precision in ("nf4", "bf16"):
            parts, count = estimate.on_paper(
                settings.model, settings.with_(precision=precision, checkpointing=checkpointing)
            )
            listed = ", ".join(f"{name} {size / 1e9:.3f}" for name, size in asdict(parts).items())
            how = f"{precision}, checkpointed" if checkpointing else precision
            print(f"  {how}: {listed}; total {parts.total / 1e9:.2f} GB, {count:,} learn")
    run(
        OURS, model, data, root / "first", json.dumps({"precision": "nf4", "batch": 1, "steps": 1})
    )  # quantizes, once and for all
    for precision in ("nf4", "bf16"):
        for more in ({}, {"checkpointing": True}, {"low_memory": True}, {"checkpointing": True, "low_memory": True}):
            options = {"precision": precision, "batch": 2, "accumulation": 1, "steps": steps, "epochs": 100, "compute": "fp32",
                       "evaluate_every": 10**6, "save_every": 10**6, **more}  # fmt: skip
            found = run(OURS, model, data, root / f"run-{precision}-{'-'.join(more)}", json.dumps(options))
            plan, peak = found["plan"], found["peak"]
            print(f"{steps} steps, {', '.join((precision, *more))}: counted {plan['counted'] / 1e9:.3f} GB "
                  f"({plan['counted'] / peak - 1:+.1%}), expected after the dry run {plan['peak'] / 1e9:.3f} GB "
                  f"({plan['peak'] / peak - 1:+.1%}), measured peak {peak / 1e9:.3f} GB; "
                  f"{found['seconds'][len(found['seconds']) // 2]:.1f} s a step; losses "
                  f"{', '.join(f'{x:.2f}' for x in found['losses'])}", flush=True)  # fmt: skip


def throughput_part(root: Path, data: Path, model: Path, steps: int, rounds: int) -> None:
    """In turns, so that what else the machine does falls on all."""
    common = {"precision": "bf16", "batch": 2, "accumulation": 2, "steps": steps, "epochs": 100, "compute": "fp32",
              "evaluate_every": 10**6, "save_every": 10**6}  # fmt: skip
    ways = {
        "ours": (OURS, common),
        "ours, low memory": (OURS, common | {"low_memory": True}),
        "plain Trainer + PEFT": (PLAIN, common),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            code, options = ways[name]
            found = run(code, model, data, root / f"{name}-{number}", json.dumps(options))
            times[name].append(found["seconds"][len(found["seconds"]) // 2])
            peaks[name].append(found["peak"] / 1e9)
            print(f"round {number}, {name}: {times[name][-1]:.2f} s a step, peak {peaks[name][-1]:.2f} GB", flush=True)
    for name in ways:
        print(f"{name}: fastest {min(times[name]):.2f} s a step of 4 pictures, peak {max(peaks[name]):.2f} GB")


def main() -> None:
    from support import finetune_phantoms

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("estimate", "throughput"))
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        data, model = finetune_phantoms.build(root, size=224), large_model(root / "model")
        if o.part != "throughput":
            estimate_part(root, data, model, o.steps)
        if o.part != "estimate":
            throughput_part(root, data, model, o.steps, o.rounds)


if __name__ == "__main__":
    main()

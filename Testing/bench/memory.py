"""Compare the memory plan of four families at two precisions with the memory that loading and asking really take.

    python Testing/bench/memory.py [--only gemma3] [--slices 2]

Checkpoints of 0.3 to 0.4 billion random weights, of the real classes with real processors, are built in a passing
folder; each is measured in a process of its own: the most memory it held over what it held before loading. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]

TEXT = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 26, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 128, "max_position_embeddings": 4096}  # fmt: skip
FAMILIES = ("gemma3", "qwen2_5_vl", "llava", "paligemma")
PRECISIONS = ("bf16", "nf4")
QUESTION, ANSWER = "Which organs are visible?", 24


def build(kind: str, root: Path) -> Path:
    """A dense bfloat16 checkpoint of 0.3 to 0.4 billion random weights."""
    import torch
    from support import random_families

    from MedFMLib.models.runtime import random_checkpoint

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        if kind == "paligemma":
            return _paligemma(root)
        random_checkpoint.TEXT_MODEL.update(TEXT)  # in place: the families hold the same table
        if kind == "qwen2_5_vl":
            random_families.qwen_vl(root, kind, sections=[16, 24, 24])
        else:
            getattr(random_families, kind)(root)
    finally:
        torch.set_default_dtype(torch.float32)
    return root


def _paligemma(root: Path) -> Path:
    """PaliGemma as it is published, a sixth of its depth: 257,216 words, so that the table counts."""
    from transformers import PaliGemmaForConditionalGeneration

    from MedFMLib.training.embedded.tiny import ModelShape, make_processor, make_tokenizer

    shape, tokenizer = ModelShape(image=224, patch=14, vision_width=1152), make_tokenizer(300)
    from MedFMLib.storage import resources

    config = PaliGemmaForConditionalGeneration.config_class.from_pretrained(
        resources.path("zoo", "configs", "paligemma-3b-mix-224")
    )
    config.text_config.num_hidden_layers, config.vision_config.num_hidden_layers = 6, 4
    config.text_config.hidden_size, config.text_config.intermediate_size = 1024, 4096
    config.projection_dim = config.vision_config.projection_dim = config.hidden_size = 1024
    config.image_token_id = config.image_token_index = tokenizer.convert_tokens_to_ids("<image>")
    PaliGemmaForConditionalGeneration(config).eval().save_pretrained(root)
    make_processor(shape, tokenizer).save_pretrained(root)
    return root


def measure(root: Path, precision: str, slices: int) -> dict:
    """In this process: {"before", "load", "ask"} bytes; the last two are peaks."""
    import numpy as np
    import torch
    import transformers  # noqa: F401

    from MedFMLib.core.geometry import Geometry
    from MedFMLib.core.view import View
    from MedFMLib.engine import load_model
    from MedFMLib.interfaces import registry
    from MedFMLib.interfaces.jobs import NoProgress
    from MedFMLib.models.runtime import checkpoint

    checkpoint.need_bitsandbytes("nf4")
    card = registry.card(str(root))
    architecture = registry.architecture(card.architecture)
    architecture.stats(card)  # imports what loading will import
    torch.randn(64, 64) @ torch.randn(64, 64)
    before = _status("VmRSS")
    _forget_peak()
    model = load_model(card, "", precision, NoProgress())
    load, held = _status("VmHWM"), _status("VmRSS")
    views = [View(np.full((160, 160, 3), 80 + n, np.uint8), Geometry((160, 160, 160), np.eye(4)), "axial", n)
             for n in range(min(slices, model.max_views))]  # fmt: skip
    _forget_peak()
    model.write(views, QUESTION, max_tokens=ANSWER)
    bytes_ = sum(t.nbytes for t in [*model.model.parameters(), *model.model.buffers()])
    return {"before": before, "load": load, "held": held, "ask": _status("VmHWM"), "views": len(views), "weights": bytes_,
            "parameters": sum(p.numel() for p in model.model.parameters())}  # fmt: skip


def _status(name: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=FAMILIES)
    parser.add_argument("--slices", type=int, default=2)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(Path(options.measure[0]), options.measure[1], options.slices)))
        return
    from MedFMLib.interfaces import registry

    rows = []
    with tempfile.TemporaryDirectory() as made:
        import os

        os.environ["XDG_CACHE_HOME"] = made
        for kind in [options.only] if options.only else FAMILIES:
            root = build(kind, Path(made) / kind)
            card = registry.card(str(root))
            for precision in PRECISIONS:
                command = [
                    sys.executable,
                    str(HERE),
                    "--slices",
                    str(options.slices),
                    "--measure",
                    str(root),
                    precision,
                ]
                if precision == "nf4":  # the first time makes the quantized copy
                    subprocess.run(command, capture_output=True)
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(done.stderr)
                got = json.loads(done.stdout.splitlines()[-1])
                planned = registry.architecture(card.architecture).memory(
                    card,
                    precision,
                    got["views"],
                    answer=ANSWER,
                    question=40,
                    compute="fp32" if precision == "nf4" else "bf16",  # as loading chooses for small models
                )
                taken = max(got["load"], got["ask"]) - got["before"]
                rows.append((kind, precision, planned.weights, (got["load"] - got["before"]) / planned.weights, planned.total,
                             taken, planned.total / taken))  # fmt: skip
                print("  ".join(f"{v / 1e6:9.1f}" if isinstance(v, int) else f"{v:10.3f}" if isinstance(v, float) else f"{v:10}"
                                for v in rows[-1]), planned, flush=True)  # fmt: skip
    print("family, precision, planned weights MB, peak while loading / weights, planned MB, taken MB, planned / taken")


if __name__ == "__main__":
    main()

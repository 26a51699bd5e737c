"""Measure the time of a second question about the same pictures, with and without the image cache.

    python Testing/bench/follow_up.py [--pictures 4] [--answer 1]

A Gemma 3 of 0.4 B random weights with 896-pixel pictures of 256 tokens each, in bfloat16. Every round takes new pictures; after
the first question one is answered with and one without what was kept, and the two answers are compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]

ROUNDS = 3


def build(root: Path) -> Path:
    """The checkpoint."""
    import torch
    from support import random_families
    from transformers import Gemma3ForConditionalGeneration, Gemma3ImageProcessorPil, Gemma3Processor

    from MedFMLib.models import gemma3

    random_families.gemma3(root)
    config = Gemma3ForConditionalGeneration.config_class.from_pretrained(root)
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.intermediate_size, text.num_hidden_layers = 1024, 4096, 18
    text.layer_types = ["full_attention" if n % 6 == 5 else "sliding_attention" for n in range(18)]
    text.num_attention_heads, text.num_key_value_heads, text.head_dim, text.sliding_window = 8, 4, 128, 1024
    text.max_position_embeddings = 32768
    vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers, vision.num_attention_heads = 512, 2048, 6, 8
    vision.image_size, vision.patch_size = 896, 14
    config.mm_tokens_per_image = 256
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    Gemma3ForConditionalGeneration(config).save_pretrained(root)
    torch.set_default_dtype(torch.float32)
    small = Gemma3Processor.from_pretrained(root)
    images = Gemma3ImageProcessorPil(
        size={"height": 896, "width": 896}, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_pan_and_scan=False
    )
    Gemma3Processor(images, small.tokenizer, chat_template=gemma3.TEMPLATE, image_seq_length=256).save_pretrained(root)
    return root


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--answer", type=int, default=1, help="tokens; 1: the time to the first word")
    options = parser.parse_args()
    import numpy as np

    from MedFMLib.core.geometry import Geometry
    from MedFMLib.core.view import View
    from MedFMLib.engine import load_model
    from MedFMLib.interfaces import registry
    from MedFMLib.interfaces.jobs import NoProgress

    rng = np.random.default_rng(0)
    grid = Geometry((512, 512, 512), np.eye(4))
    with tempfile.TemporaryDirectory() as made:
        model = load_model(registry.card(str(build(Path(made) / "gemma3"))), "", "bf16", NoProgress())
        first, again, plain, same = [], [], [], []
        for _ in range(ROUNDS):
            views = [
                View(rng.integers(0, 255, (512, 512, 3), np.uint8), grid, "axial", n) for n in range(options.pictures)
            ]

            def ask(question: str, views=views) -> tuple[float, str]:
                start = time.perf_counter()
                text = model.write(views, question, max_tokens=options.answer)
                return time.perf_counter() - start, text

            first.append(ask("which plane is this?")[0])
            took, image_cache = ask("is the liver visible?")
            again.append(took)
            model.image_cache.drop()
            took, fresh = ask("is the liver visible?")
            plain.append(took)
            same.append(image_cache == fresh)
    a, b, c = (statistics.median(times) for times in (first, again, plain))
    print(
        f"{options.pictures} pictures, {options.pictures * 256} tokens; {options.answer} tokens of answer; medians of {ROUNDS}"
    )
    print(f"first question {a:.2f} s, follow-up {b:.3f} s ({b / a:.1%}), the same with nothing kept {c:.2f} s; "
          f"kept {model.image_cache.bytes / 1e6:.0f} MB; answers the same: {all(same)}")  # fmt: skip


if __name__ == "__main__":
    main()

"""After quantization, train the 16-bit weights of the text model to answer as the unquantized model does.

    python -m MedFMLib.training.embedded.align --data DIR --work DIR --minutes 16

Uses two models, one with linear layers quantized to NF4 and back, and batches of questions. The teacher is the model
before quantization; only the layers in `ship.KEPT` are trained, so that the packed weights, the vision tower and every
mask
computed with it stay unchanged. Reads `base.pt`, writes `aligned.safetensors` and `align.jsonl` into the work folder.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

from .exchanges import exchange_batches
from .optimizing import Log, MovingAverage, learning_rate
from .samples import Background
from .tiny import ModelShape, make_tokenizer, normalise


def learns(name: str) -> bool:
    """Return whether this weight stays in 16 bits and is trained here."""
    import re

    from .ship import KEPT

    return bool(re.fullmatch(KEPT, name)) or ("language_model" in name and "norm" in name)


def answer_scores(model, features, text: dict):
    """Return the (N, V) scores at the answer tokens of one batch of texts.

    Args:
        model: the PaliGemma.
        features: (B, patches, width) projected picture features.
        text: token batch, see `exchanges.TextLayout.batch`.
    """
    import torch
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    ids, kinds, mask = (torch.as_tensor(text[k]) for k in ("input_ids", "token_type_ids", "attention_mask"))
    out = model.model(
        input_ids=ids,
        token_type_ids=kinds,
        attention_mask=mask,
        mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=features)},
        use_cache=False,
    )
    predicted = ((kinds == 1) & (mask == 1))[:, 1:]
    return model.lm_head(out.last_hidden_state[:, :-1][predicted]).float()


def divergence(teacher, student, batch):
    """Return the mean Kullback-Leibler divergence of the student from the teacher, and how often their best tokens differ.

    Args:
        teacher: the unquantized model.
        student: the quantized model.
        batch: of pictures and texts.
    """
    import torch
    import torch.nn.functional as F

    pixels = normalise(torch.from_numpy(batch.pixels))
    with torch.no_grad():
        right = teacher.model.multi_modal_projector(teacher.model.vision_tower(pixels).last_hidden_state)
        seen = student.model.vision_tower(pixels).last_hidden_state
    mine = student.model.multi_modal_projector(seen)
    total, count, differ = 0.0, 0, 0
    for of, text in batch.words:
        of = torch.from_numpy(of)
        with torch.no_grad():
            goal = answer_scores(teacher, right[of], text)
        got = answer_scores(student, mine[of], text)
        total = total + F.kl_div(got.log_softmax(-1), goal.log_softmax(-1), reduction="sum", log_target=True)
        count += len(goal)
        differ += int((got.argmax(-1) != goal.argmax(-1)).sum())
    return total / count, differ / count


def align(data: Path, work: Path, minutes: float, batch: int = 48, top: float = 4e-4, seed: int = 7) -> None:
    """Train for some minutes and write the trained weights.

    Args:
        data: folder of training data.
        work: work folder.
        minutes: duration.
        batch: pictures per step.
        top: highest learning rate.
        seed: of the samples.
    """
    import torch
    from safetensors.torch import save_file

    from .ship import quantized, write_dense

    torch.manual_seed(seed)
    dense = work / "unquantized" / "base"
    teacher = write_dense(work, dense).requires_grad_(False)
    student = quantized(dense).dequantize().float().requires_grad_(False)
    for model in (teacher, student):
        model.set_attn_implementation("eager")
    chosen = {n: p.requires_grad_() for n, p in student.named_parameters() if learns(n)}
    optimizer = torch.optim.AdamW(chosen.values(), lr=top, weight_decay=0.0, betas=(0.9, 0.98))
    average = MovingAverage(student, 0.99)
    shape, tokenizer = ModelShape(), make_tokenizer()
    batches = Background(partial(exchange_batches, data, work / "mask_codec", tokenizer, shape.image, shape.image_tokens,
                                 batch, seed * 100, 0))  # fmt: skip
    log, step, began, fraction = Log(work / "align.jsonl", 25, 0, batch), 0, time.time(), 0.0
    while fraction < 1:
        loss, differ = divergence(teacher, student, next(batches))
        loss.backward()
        fraction = (time.time() - began) / (60 * minutes)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(fraction, 0.05, top)
        torch.nn.utils.clip_grad_norm_(chosen.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update()
        step += 1
        log.add(step, {"divergence": loss, "other_word": differ})
    batches.close()
    save_file({n: average.state[n].half().contiguous() for n in chosen}, work / "aligned.safetensors.new")
    (work / "aligned.safetensors.new").replace(work / "aligned.safetensors")


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=16)
    parser.add_argument("--batch", type=int, default=48, help="pictures per step")
    o = parser.parse_args()
    align(o.data, o.work, o.minutes, o.batch)


if __name__ == "__main__":
    main()

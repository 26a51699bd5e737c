"""Stage 1: the vision tower learns where things are, through a dense head that is thrown away afterwards.

    python -m MedFMLib.training.train_eyes --data DIR --work DIR --minutes 20

Knows pictures and parts; nothing of text. Token cross-entropy alone takes many times longer to teach a tower of this
size to see; the dense head is a linear layer and is kept only in the work folder. Resumable: run it again with the same
work folder. Logs to `eyes.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from functools import partial
from pathlib import Path

from .labels import PARTS, UNKNOWN_PART
from .samples import Background, picture_batches
from .tiny import Shape, cell_parts, dense_head, normalise, vision_tower

_RARE = {"left thalamus", "right thalamus", "left lateral ventricle", "right lateral ventricle", "brainstem", "aorta",
         "midline ventricles", "urinary bladder", "left kidney", "right kidney", "spleen", "stomach",
         "left hip bone", "right hip bone", "spine"}  # fmt: skip


def part_weights():
    """(parts,) loss weight: small parts count more, so that they are not averaged away."""
    import torch

    return torch.tensor([0.4 if p in ("background", "head tissue", "torso tissue") else 2.5 if p in _RARE else 1.0
                         for p in PARTS])  # fmt: skip


def dense_loss(logits, cells, weights):
    """Weighted cross-entropy of (B, patches, fine² × parts) scores against (B, patches, fine²) part numbers."""
    import torch.nn.functional as F

    flat = logits.float().reshape(-1, len(PARTS))
    return F.cross_entropy(flat, cells.reshape(-1).long(), weights, ignore_index=UNKNOWN_PART)


def dense_dice(logits, cells) -> dict[str, tuple[float, float]]:
    """Per part: twice the overlap, and the sum of both sizes; add over batches, then divide."""
    found = logits.reshape(*cells.shape, len(PARTS)).argmax(-1)
    known = cells != UNKNOWN_PART
    result = {}
    for number, name in enumerate(PARTS):
        a, b = (found == number) & known, cells == number
        result[name] = (2.0 * float((a & b).sum()), float(a.sum() + b.sum()))
    return result


def learning_rate(step_fraction: float, warm: float, top: float, bottom: float = 0.02) -> float:
    """Linear warm-up over the fraction `warm`, then a cosine down to `bottom` × `top`."""
    if step_fraction < warm:
        return top * step_fraction / warm
    along = min(1.0, (step_fraction - warm) / (1 - warm))
    return top * (bottom + (1 - bottom) * 0.5 * (1 + math.cos(math.pi * along)))


def make_optimizers(named) -> list:
    """Muon (Jordan et al., 2024) for the matrices inside transformer layers, AdamW for everything else."""
    import torch

    inner = [p for n, p in named if p.ndim == 2 and ".layers." in n and p.requires_grad]
    inside = {id(p) for p in inner}
    rest = [p for _, p in named if id(p) not in inside and p.requires_grad]
    return [
        torch.optim.Muon(inner, lr=1e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98)),
    ]


def set_learning_rate(optimizers: list, rate: float) -> None:
    """The same rate everywhere; Muon's is scaled to AdamW's step size."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


def train(
    data: Path, work: Path, minutes: float, batch: int = 64, top: float = 2e-3, seed: int = 1, threads: int = 2
) -> Path:
    """Train for `minutes` and return the checkpoint's path (`eyes.pt`: tower, head, steps)."""
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    work.mkdir(parents=True, exist_ok=True)
    shape, checkpoint = Shape(), work / "eyes.pt"
    tower, head = vision_tower(shape), dense_head(shape)
    with torch.no_grad():
        tower.state_dict()["embeddings.position_embedding.weight"].normal_(0, 0.05)
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        tower.load_state_dict(state["tower"])
        head.load_state_dict(state["head"])
        step = state["step"]
    parameters = [*tower.parameters(), *head.parameters()]
    named = [(f"tower.{n}", p) for n, p in tower.named_parameters()] + [
        (f"head.{n}", p) for n, p in head.named_parameters()
    ]
    optimizers = make_optimizers(named)
    batches = Background(partial(picture_batches, data, shape.image, batch, seed, step * batch))
    weights, began, first, seen = part_weights(), time.time(), step, []
    log = (work / "eyes.jsonl").open("a")
    while (fraction := (time.time() - began) / (60 * minutes)) < 1:
        pixels, parts = (torch.from_numpy(a) for a in next(batches))
        cells = cell_parts(parts, shape)
        set_learning_rate(optimizers, learning_rate(fraction, 0.03, top))
        with torch.autocast("cpu", torch.bfloat16):
            logits = head(tower(normalise(pixels)).last_hidden_state)
        loss = dense_loss(logits, cells, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        seen.append(float(loss.detach()))
        if step % 25 == 0:
            seconds = time.time() - began
            line = {"step": step, "samples": step * batch, "seconds": round(seconds, 1), "loss": round(sum(seen) / len(seen), 4),
                    "samples_per_second": round((step - first) * batch / seconds, 1)}  # fmt: skip
            if step % 100 == 0:
                dice = dense_dice(logits.detach().float(), cells)
                line["dice"] = {n: round(a / b, 2) for n, (a, b) in dice.items() if b > 0}
            log.write(json.dumps(line) + "\n")
            log.flush()
            seen = []
        if step % 200 == 0:
            _save(checkpoint, tower, head, step)
    _save(checkpoint, tower, head, step)
    batches.close()
    return checkpoint


def _save(path: Path, tower, head, step: int) -> None:
    import torch

    torch.save({"tower": tower.state_dict(), "head": head.state_dict(), "step": step}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    train(options.data, options.work, options.minutes, options.batch, options.rate, options.seed, options.threads)


if __name__ == "__main__":
    main()

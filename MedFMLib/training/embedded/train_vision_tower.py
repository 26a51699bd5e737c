"""Stage 1: train the vision tower to locate structures, and a mask network to segment them.

    python -m MedFMLib.training.embedded.train_vision_tower --data DIR --work DIR --minutes 35 --processes 2

Depends on pictures and parts; no text. Token cross-entropy alone takes many times longer to train a tower of this size.
Besides the mask network, three linear heads are trained on the tower alone, so that the tower itself encodes parts,
positions and planes: the text model has no other input. Resumable: run it again with the same work folder. Logs to
`eyes.jsonl`, stores `eyes.pt`.
"""

from __future__ import annotations

import argparse
import random
import time
from functools import partial
from pathlib import Path

from .labels import FACT_SIZES, PAIRS, PARTS
from .mask_losses import dice_sums, mask_loss, part_weights, without_sides
from .optimizing import (
    Log,
    MovingAverage,
    ProcessGroup,
    learning_rate,
    make_optimizers,
    run_team,
    save_checkpoint,
    set_learning_rate,
)
from .samples import FACTS, Background, picture_batches
from .tiny import ModelShape, cell_parts, mask_network, normalise, training_heads, vision_tower

SAGITTAL = FACTS["plane"].index("sagittal")


def eye_losses(tower, masks, heads, batch: dict, shape: ModelShape, weights, phase: tuple[int, int],
               pairs=PAIRS) -> tuple[dict, object]:  # fmt: skip
    """Return (losses with their `total`, (parts, 2) Dice sums) of a batch of `picture_batches`.

    Args:
        tower: the vision tower.
        masks: the mask network.
        heads: of `tiny.training_heads`, or None to train masks alone.
        batch: of pictures.
        shape: sizes of the model.
        weights: (parts,) of the cross-entropy.
        phase: which pixel of each 2 × 2 is scored.
        pairs: (left, right) part numbers.
    """
    import torch
    import torch.nn.functional as F

    pixels = normalise(torch.from_numpy(batch["pixels"]))
    parts, facts = torch.from_numpy(batch["parts"]), torch.from_numpy(batch["facts"])
    sagittal = facts[:, 0] == SAGITTAL
    with torch.autocast("cpu", torch.bfloat16):
        seen = tower(pixels).last_hidden_state
        scores = masks.quarter_scores(masks.hidden(pixels, seen), *phase)
        if heads is not None:
            rough, places = heads["dense"](seen), place_loss(heads["place"](seen))
            reported = heads["facts"](seen.mean(1)).float()
    scores, drawn = without_sides(scores.float(), parts[:, phase[0] :: 2, phase[1] :: 2], sagittal, pairs)
    found = {"masks": mask_loss(scores, drawn, weights)}
    total = found["masks"]
    if heads is not None:
        cells = cell_parts(parts, shape)
        rough = rough.float().reshape(*cells.shape, len(PARTS)).permute(0, 3, 1, 2)
        found["dense"] = mask_loss(*without_sides(rough, cells, sagittal), weights)
        found["place"], found["facts"] = places, 0.0
        for column, (one, values) in enumerate(zip(reported.split(FACT_SIZES, 1), FACTS, strict=True)):
            found["facts"] = found["facts"] + F.cross_entropy(one, facts[:, column])
            found[values] = (one.argmax(1) == facts[:, column]).float().mean()
        total = total + 0.7 * found["dense"] + 0.2 * found["place"] + 0.2 * found["facts"]
    found["total"] = total
    return {n: v if n == "total" else v.detach() for n, v in found.items()}, dice_sums(scores.detach(), drawn)


def place_loss(scores):
    """Return the mean cross-entropy of (B, n × n, 2 × n) scores against the row and the column of every patch."""
    import torch
    import torch.nn.functional as F

    n = scores.shape[-1] // 2
    rows, columns = (
        a.flatten().expand(len(scores), -1) for a in torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    )
    scores = scores.float()
    by_row = F.cross_entropy(scores[..., :n].flatten(0, 1), rows.flatten())
    return by_row + F.cross_entropy(scores[..., n:].flatten(0, 1), columns.flatten())


def train(data: Path, work: Path, minutes: float, batch: int, top: float, seed: int, start_from: Path | None,
          rank: int = 0, processes: int = 1) -> None:  # fmt: skip
    """Train for some minutes; `eyes.pt` has the state and its moving average.

    Args:
        data: the data folder.
        work: work folder.
        minutes: duration.
        batch: pictures per step and process.
        top: highest learning rate.
        seed: of the samples.
        start_from: a checkpoint whose vision tower initialises the training, or None.
        rank: number of this process.
        processes: number of processes.
    """
    import torch
    from torch import nn

    torch.set_num_threads(1 if processes > 1 else 2)
    torch.manual_seed(seed)
    shape = ModelShape()
    tower = vision_tower(shape)
    tower.set_attn_implementation("eager")  # takes half the time of the fused attention, forward and backward, on a CPU
    modules = nn.ModuleDict({"tower": tower, "masks": mask_network(shape), "heads": training_heads(shape)})
    del modules["heads"]["reader"]
    optimizers = make_optimizers(list(modules.named_parameters()))
    checkpoint, step = work / "eyes.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        modules.load_state_dict(state["now"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        step = state["step"]
    elif start_from is not None:
        state = torch.load(start_from, weights_only=True)["average"]
        prefix = "model.vision_tower."
        tower.load_state_dict({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})
    average = MovingAverage(modules)
    if checkpoint.exists():
        average.state = state["average"]
    weights = part_weights()
    batches = Background(partial(picture_batches, data, shape.image, batch, seed * 100 + rank, step * batch), ahead=4)
    parameters = [p for p in modules.parameters() if p.requires_grad]
    team, log = ProcessGroup(work, rank, processes), Log(work / "eyes.jsonl", 25, step, batch * processes)
    choose, began, fraction, sums = random.Random(seed + step), time.time(), 0.0, 0.0

    def save() -> None:
        state = {"now": modules.state_dict(), "average": average.state, "step": step,
                 "optimizers": [o.state_dict() for o in optimizers]}  # fmt: skip
        save_checkpoint(checkpoint, state)

    def dice() -> dict:
        nonlocal sums
        if step % 100:
            return {}
        table = {n: round(float(a / b), 3) for n, (a, b) in zip(PARTS, sums, strict=True) if b > 0}
        sums = 0.0
        return {"dice": table}

    while fraction < 1:
        phase = (choose.randrange(2), choose.randrange(2))
        found, overlap = eye_losses(tower, modules["masks"], modules["heads"], next(batches), shape, weights, phase)
        found["total"].backward()
        fraction = team.average(parameters, (time.time() - began) / (60 * minutes))
        set_learning_rate(optimizers, learning_rate(fraction, 0.03, top))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        if rank > 0:
            continue
        average.update()
        sums = sums + overlap
        log.add(step, found, dice)
        if step % 100 == 0:
            save()
    if rank == 0:
        save()
    batches.close()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=35)
    parser.add_argument("--batch", type=int, default=16, help="pictures per step and process")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start-from", type=Path, help="a base.pt of an earlier training, for its vision tower")
    o = parser.parse_args()
    o.work.mkdir(parents=True, exist_ok=True)
    run_team(train, o.work, o.processes, o.data, o.work, o.minutes, o.batch, o.rate, o.seed, o.start_from)


if __name__ == "__main__":
    main()

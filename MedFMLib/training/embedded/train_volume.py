"""Train the network that segments whole volumes, for one adapter.

    python -m MedFMLib.training.embedded.train_volume brain-mr --data DIR --work DIR --minutes 60

Depends on volumes and parts; no text, no vision tower. Each step has one crop; samples are made in another process. At
first small structures weigh more, and Dice counts as much as cross-entropy; towards the end every voxel weighs the
same and cross-entropy alone is left, a proper score, so that probabilities, and the volumes that are drawn from them,
are right on average: soft Dice alone draws what is uncertain too large. Resumable; logs to `volume-NAME.jsonl`, stores
`volume-NAME.pt`.
"""

from __future__ import annotations

import argparse
import random
import time
from functools import partial
from pathlib import Path

from . import labels
from .mask_losses import part_weights
from .optimizing import (
    Log,
    MovingAverage,
    learning_rate,
    make_convolution_optimizers,
    save_checkpoint,
    set_learning_rate,
)
from .samples import Background
from .volume_specialties import SPECIALTIES

EVEN_FROM, EVEN_AT = 0.45, 0.8
"""Share of the training at which weights begin to even out, and at which all are even."""


def volume_loss(scores, parts, weights, dice_share: float, tissues: int = 2, missing=()):
    """Return weighted cross-entropy plus `dice_share` × (1 − mean Dice of the present parts); unknown voxels are ignored.

    Args:
        scores: (1, parts, I, J, K).
        parts: (I, J, K) uint8 numbers.
        weights: (parts,).
        dice_share: weight of the Dice term.
        tissues: number of leading parts without a Dice term.
        missing: parts that nobody looked for: a voxel of a tissue may be one of them.
    """
    import torch
    import torch.nn.functional as F

    flat = parts.flatten()
    known = torch.nonzero(flat != labels.UNKNOWN_PART)[:, 0]
    scores = scores[0].flatten(1).T
    if len(known) < len(flat):
        scores, flat = scores[known], flat[known]
    flat = flat.long()
    logp = F.log_softmax(scores.float(), 1)
    if missing:
        other = logp[:, list(missing)].logsumexp(1)
        merged = torch.logaddexp(logp[:, :tissues], other[:, None])
        logp = torch.cat([merged, logp[:, tissues:]], 1)
    entropy = F.nll_loss(logp, flat, weights)
    if dice_share <= 0:
        return entropy
    number = scores.shape[1]
    sizes = torch.bincount(flat, minlength=number).float()
    right = logp.gather(1, flat[:, None])[:, 0].exp()
    overlap = torch.zeros(number).index_add(0, flat, right)
    dice = 2 * overlap / (logp.exp().sum(0) + sizes).clamp(min=1)
    present = sizes > 0
    present[:tissues] = False
    return entropy + dice_share * (1 - dice[present].mean()) if present.any() else entropy


def guiding_network(name: str, work: Path):
    """Return the averaged, trained network that guides another one.

    Args:
        name: of its specialty.
        work: work folder.
    """
    import torch

    network = SPECIALTIES[name].network()
    network.load_state_dict(torch.load(work / f"volume-{name}.pt", weights_only=True)["average"])
    return network.to(memory_format=torch.channels_last_3d).eval().requires_grad_(False)


def guide_of(guide, volume):
    """Return the (1, parts, I/2, J/2, K/2) probabilities that a coarser network sees in a volume.

    Args:
        guide: the network.
        volume: (1, inputs, I, J, K), each side a multiple of twice the network's.
    """
    import torch

    with torch.no_grad():
        return guide(torch.nn.functional.avg_pool3d(volume, 2)).float().softmax(1)


def train(name: str, data: Path, work: Path, minutes: float, top: float, seed: int, threads: int) -> None:
    """Train for some minutes.

    Args:
        name: of the adapter.
        data: the data folder.
        work: work folder.
        minutes: duration.
        top: highest learning rate.
        seed: of the samples.
        threads: of the training; samples are made by one more.
    """
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    special = SPECIALTIES[name]
    guide = guiding_network(special.guide, work) if special.guide else None
    network = special.network().to(memory_format=torch.channels_last_3d)
    optimizers = make_convolution_optimizers(network)
    checkpoint, step, done = work / f"volume-{name}.pt", 0, 0.0
    average = MovingAverage(network, 0.998)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["now"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        average.state, step, done = state["average"], state["step"], state["fraction"]
    batches = Background(partial(special.samples, data, seed, step), ahead=4)
    weights = part_weights(special.parts)
    log, choose = Log(work / f"volume-{name}.jsonl", 50, step, 1), random.Random(seed + step)
    began, fraction = time.time(), done

    def save() -> None:
        save_checkpoint(checkpoint, {"now": network.state_dict(), "average": average.state, "step": step,
                                     "optimizers": [o.state_dict() for o in optimizers], "fraction": fraction})  # fmt: skip

    while fraction < 1:
        values, parts, missing = next(batches)
        even = min(1.0, max(0.0, (fraction - EVEN_FROM) / (EVEN_AT - EVEN_FROM)))
        i, j, k = (choose.randrange(2) for _ in range(3))
        volume = torch.from_numpy(values)[None].float()
        with torch.autocast("cpu", torch.bfloat16):
            hidden = network.hidden(volume, guide_of(guide, volume) if guide is not None else None)
            scores = network.eighth_scores(hidden, i, j, k)
        truth = torch.from_numpy(parts)[i::2, j::2, k::2]
        if not bool((truth != labels.UNKNOWN_PART).any()):
            continue
        loss = volume_loss(scores, truth, weights ** (1 - even), 1 - even, special.tissues, missing)
        loss.backward()
        fraction = done + (time.time() - began) / (60 * minutes)
        set_learning_rate(optimizers, learning_rate(fraction, 0.02, top))
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average.update()
        step += 1
        log.add(step, {"loss": loss}, lambda even=even: {"even": round(even, 2)})
        if step % 200 == 0:
            save()
    batches.close()
    save()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=SPECIALTIES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=11)
    o = parser.parse_args()
    o.work.mkdir(parents=True, exist_ok=True)
    train(o.name, o.data, o.work, o.minutes, o.rate, o.seed, o.threads)


if __name__ == "__main__":
    main()

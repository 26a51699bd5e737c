"""Stage 0: train the mask codec, which encodes a 64×64 mask as sixteen codes.

    python -m MedFMLib.training.embedded.train_codec --data DIR --work DIR --output DIR --minutes 8

Depends on masks of structures; no pictures or text. The codebook follows the encoder by moving averages (van den Oord
et al., 2017, appendix A.1), and unused codes are moved to features with a large error. Prints the Dice of the
reconstruction on the two held-out heads and the held-out torso slices.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from .labels import STRUCTURES
from .objects import find
from .samples import Background, pictures, training_painter
from .sources import head_maps, torso_subjects
from .synthesis import Painter

_SIZE = 192
"""Pixels of the pictures from which masks are cut: finer than the model's input, so that they don't limit the codec."""


def masks_of(painter: Painter, seed: int) -> Iterator[np.ndarray]:
    """Yield (64, 64) bool masks of random structures of random pictures.

    Args:
        painter: draws the pictures.
        seed: of the pictures.
    """
    for picture, rng in pictures(painter, seed):
        names = [n for n in picture.subject.known if np.isin(STRUCTURES[n], np.unique(picture.parts)).any()]
        for name in rng.permutation(names)[:4]:
            seen = find(picture.parts, str(name))
            if seen and seen.pixels >= 25:
                mask = seen.mask
                if rng.random() < 0.3:  # a flipped mask is valid, too
                    mask = mask[:, ::-1]
                yield mask


def _batches(data: Path, batch: int, seed: int) -> Iterator[np.ndarray]:
    source = masks_of(training_painter(data, _SIZE), seed)
    while True:
        yield np.stack([next(source) for _ in range(batch)])


def held_out_masks(data: Path, count: int = 600) -> np.ndarray:
    """Return (count, 64, 64) bool from subjects and slices that training doesn't use; the same every time.

    Args:
        data: the data folder.
        count: number of masks.
    """
    source = masks_of(Painter(head_maps(data, True) + torso_subjects(data, True), _SIZE), 9_000_001)
    return np.stack([next(source) for _ in range(count)])


def reconstruction_dice(codec, masks: np.ndarray) -> np.ndarray:
    """Return (N,) Dice of each mask with its reconstruction.

    Args:
        codec: the mask codec.
        masks: (N, 64, 64) bool.
    """
    import torch

    masks = torch.from_numpy(masks)
    found = codec.decode(codec.encode(masks)) >= 0.5
    both = (found & masks).sum((1, 2)).float()
    return (2 * both / (found.sum((1, 2)) + masks.sum((1, 2)))).numpy()


def train(data: Path, work: Path, output: Path, minutes: float, batch: int = 96, seed: int = 11) -> dict:
    """Train, save the codec, and return the held-out results.

    Args:
        data: the data folder.
        work: work folder.
        output: destination of the codec.
        minutes: duration.
        batch: masks per step.
        seed: of the samples.
    """
    import torch
    import torch.nn.functional as F

    from ...models.masks.mask_codec import MaskCodec
    from .train_vision_tower import learning_rate

    torch.set_num_threads(2)
    torch.manual_seed(seed)
    work.mkdir(parents=True, exist_ok=True)
    codec = MaskCodec()
    optimizer = torch.optim.AdamW(
        [*codec.encoder.parameters(), *codec.decoder.parameters()], lr=1e-3, weight_decay=1e-4
    )
    batches = Background(partial(_batches, data, batch, seed))
    size, total = None, None
    began, step = time.time(), 0
    log = (work / "codec.jsonl").open("a")
    while (fraction := (time.time() - began) / (60 * minutes)) < 1:
        masks = torch.from_numpy(next(batches)).float()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(fraction, 0.03, 1.5e-3)
        features = codec.features(masks)
        flat = features.detach().flatten(0, 1)
        if step == 0:
            codec.codebook.copy_(flat[torch.randperm(len(flat))[: len(codec.codebook)]])
            size, total = torch.ones(len(codec.codebook)), codec.codebook.clone()
        numbers = codec.nearest(features)
        chosen = codec.codebook[numbers]
        raw = codec.raw(features + (chosen - features).detach())
        soft = (raw * 0.5 + 0.5).clamp(0.001, 0.999)
        overlap = 1 - (2 * (soft * masks).sum((1, 2)) + 1) / (soft.sum((1, 2)) + masks.sum((1, 2)) + 1)
        loss = F.mse_loss(raw, masks * 2 - 1) + overlap.mean() + 0.25 * F.mse_loss(features, chosen.detach())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            hot = F.one_hot(numbers.flatten(), len(codec.codebook)).float()
            size.mul_(0.98).add_(hot.sum(0), alpha=0.02)
            total.mul_(0.98).add_(hot.T @ flat, alpha=0.02)
            codec.codebook.copy_(total / size.clamp_min(1e-3)[:, None])
            if step % 20 == 0 and fraction < 0.7:
                idle = size < 0.25 * size.mean() * 0.2
                if idle.any():
                    far = torch.cdist(flat, codec.codebook).min(1).values
                    picks = flat[torch.multinomial(far + 1e-6, int(idle.sum()))]
                    codec.codebook[idle], total[idle], size[idle] = picks, picks * size.mean(), size.mean()
        step += 1
        if step % 50 == 0:
            used = int((size > 0.02 * size.mean()).sum())
            facts = {"loss": float(loss.detach()), "dice": 1 - float(overlap.detach().mean())}
            line = {"step": step, "used": used} | {name: round(value, 4) for name, value in facts.items()}
            log.write(json.dumps(line) + "\n")
            log.flush()
    batches.close()
    codec.save(output)
    dice = reconstruction_dice(MaskCodec.load(output), held_out_masks(data))
    numbers = {"steps": step, "mean_dice": float(dice.mean()), "tenth_percentile": float(np.percentile(dice, 10))}
    log.write(json.dumps(numbers) + "\n")
    return numbers


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--data", "--work", "--output"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    print(train(options.data, options.work, options.output, options.minutes, seed=options.seed))


if __name__ == "__main__":
    main()

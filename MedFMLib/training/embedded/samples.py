"""Endless, seeded batches of training pictures (and their questions), made in a background process.

Knows the painter and, if asked, the question maker; nothing of models. Sample number n of seed s is the same whatever
the batch size: each has its own generator. Nothing is written to disk.
"""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .sources import head_maps, torso_subjects
from .synthesis import Painter, TrainingPicture


def generator(seed: int, number: int) -> np.random.Generator:
    """The generator of sample `number`."""
    return np.random.default_rng((seed, number))


def training_painter(data: Path, size: int, **options) -> Painter:
    """A painter of everything that training may see; `options` as for `Painter`."""
    return Painter(head_maps(data) + torso_subjects(data), size, **options)


def pictures(painter: Painter, seed: int, start: int = 0) -> Iterator[tuple[TrainingPicture, np.random.Generator]]:
    """Sample after sample, with its generator for whatever else is drawn for it."""
    number = start
    while True:
        rng = generator(seed, number)
        yield painter.draw(rng), rng
        number += 1


FACTS = {"plane": ("axial", "coronal", "sagittal"), "modality": ("MR", "CT"), "region": ("head", "torso", "crop")}
"""What is known of a whole picture, and its possible values."""


def picture_batches(
    data: Path,
    size: int,
    batch: int,
    seed: int,
    start: int = 0,
    make: Callable[[Path, int], Painter] = training_painter,
) -> Iterator[dict[str, np.ndarray]]:
    """`pixels` (B, S, S, 3) uint8, `parts` (B, S, S) uint8, `facts` (B, 3) int64 in the order of `FACTS`.

    Args:
        make: (data, size) → the painter.
    """
    source = pictures(make(data, size), seed, start)
    while True:
        drawn = [next(source)[0] for _ in range(batch)]
        facts = [[values.index(getattr(p, name)) for name, values in FACTS.items()] for p in drawn]
        yield {
            "pixels": np.stack([p.pixels for p in drawn]),
            "parts": np.stack([p.parts for p in drawn]),
            "facts": np.array(facts),
        }


def _feed(make: Callable[[], Iterator], channel) -> None:
    try:
        import torch

        torch.set_num_threads(1)
        for item in make():
            channel.put(item)
    except BaseException as error:  # the reader raises it; a silent death would hang the training
        channel.put(error)


class Background:
    """Runs an iterator in another process and holds a few of its items ready.

    Args:
        make: returns the iterator; called in the other process.
        ahead: how many items to keep.
    """

    def __init__(self, make: Callable[[], Iterator], ahead: int = 6):
        context = multiprocessing.get_context("fork")
        self._channel = context.Queue(ahead)
        self._process = context.Process(target=_feed, args=(make, self._channel), daemon=True)
        self._process.start()

    def __iter__(self):
        return self

    def __next__(self):
        while True:
            try:
                item = self._channel.get(timeout=5)
            except queue.Empty:
                if not self._process.is_alive():
                    raise RuntimeError("The process that makes training samples ended unexpectedly.") from None
                continue
            if isinstance(item, BaseException):
                raise item
            return item

    def close(self) -> None:
        """End the other process."""
        self._process.terminate()
        self._process.join()

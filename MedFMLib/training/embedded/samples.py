"""Yield endless, seeded batches of training pictures (and their questions), made in a background process.

Depends on the painter and, on request, the question maker; no models. Sample number n of seed s is the same whatever
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
    """Return the random generator of a sample.

    Args:
        seed: of the series.
        number: of the sample.
    """
    return np.random.default_rng((seed, number))


def training_painter(data: Path, size: int, **options) -> Painter:
    """Return a painter of all training data.

    Args:
        data: the data folder.
        size: pixels per side.
        **options: as for `Painter`.
    """
    return Painter(head_maps(data) + torso_subjects(data), size, **options)


def pictures(painter: Painter, seed: int, start: int = 0) -> Iterator[tuple[TrainingPicture, np.random.Generator]]:
    """Yield sample after sample, with its generator for further random choices.

    Args:
        painter: draws the pictures.
        seed: of the series.
        start: number of the first sample.
    """
    number = start
    while True:
        rng = generator(seed, number)
        yield painter.draw(rng), rng
        number += 1


FACTS = {"plane": ("axial", "coronal", "sagittal"), "modality": ("MR", "CT"), "region": ("head", "torso", "crop")}
"""Known properties of a whole picture, and their possible values."""


def picture_batches(
    data: Path,
    size: int,
    batch: int,
    seed: int,
    start: int = 0,
    make: Callable[[Path, int], Painter] = training_painter,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield `pixels` (B, S, S, 3) uint8, `parts` (B, S, S) uint8, `facts` (B, 3) int64 in the order of `FACTS`.

    Args:
        data: the data folder.
        size: pixels per side.
        batch: pictures per batch.
        seed: of the samples.
        start: number of the first sample.
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
    except BaseException as error:  # passed on to the reader, since a silent end would block the training
        channel.put(error)


class Background:
    """Runs an iterator in another process and keeps some of its items ready.

    Args:
        make: returns the iterator; called in the other process.
        ahead: number of items to keep ready.
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
        """Stop the other process."""
        self._process.terminate()
        self._process.join()

"""Compute the measures of the bench: overlap, surface distances, intervals, memory. Depends on arrays only.

* Dice = 2·|A∩B| / (|A|+|B|); None if neither has a voxel.
* Surface distance = mean over the border voxels of both masks of the distance in mm to the other border.
* 95 % Hausdorff distance = the larger of the two directed 95th percentiles.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from ...measure.overlap import dice
from . import labels


def part_dice(found: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Return a mapping from structure to Dice of two part arrays where the truth is known; without structures in neither.

    Args:
        found: (I, J, K) uint8 part numbers, result.
        truth: (I, J, K) uint8 part numbers.
        names: of structures.
    """
    known = truth != labels.UNKNOWN_PART
    row = {}
    for name in names:
        value = dice(labels.structure_mask(found, name) & known, labels.structure_mask(truth, name))
        if value is not None:
            row[name] = value
    return row


def mirrored_share(found: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of the voxels of structures with a side that have the same structure of the other side in the result.

    Args:
        found: (I, J, K) uint8 part numbers, result.
        truth: (I, J, K) uint8 part numbers.
    """
    swap = np.full(256, labels.UNKNOWN_PART, np.uint8)
    for left, right in labels.PAIRS:
        swap[left], swap[right] = right, left
    sided = np.isin(truth, np.array(labels.PAIRS).ravel())
    return float(np.mean(found[sided] == swap[truth[sided]])) if sided.any() else 0.0


def as_parts(masks: dict[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Return uint8 part numbers from masks of parts; where two overlap, the later one wins.

    Args:
        masks: part name → bool array.
        shape: of the arrays.
    """
    parts = np.zeros(shape, np.uint8)
    for name, mask in masks.items():
        parts[np.asarray(mask)] = labels.part_number(name)
    return parts


def bootstrap(values: Sequence[float], draws: int = 4000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean by resampling with replacement; seeded.

    Args:
        values: the sample.
        draws: number of resamples.
        seed: of the resampling.
    """
    values = np.asarray(values, float)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def wilson(right: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927), which suits few answers and shares of 0 and 1.

    Args:
        right: sum of the points, 0…count.
        count: number of answers.
    """
    if not count:
        return 0.0, 1.0
    z, share = 1.959964, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


class PeakMemory:
    """Peak memory of this process within a block: `.megabytes`, or None if it can't be measured.

    Samples every 20 ms with psutil; without it, reads the kernel's own high-water mark (Linux), which counts from the
    start
    of the process.
    """

    def __enter__(self) -> PeakMemory:
        self.megabytes: int | None = None
        try:
            import psutil

            process = psutil.Process()
        except ImportError:
            self._thread = None
            return self
        self._done, self._most = threading.Event(), process.memory_info().rss

        def callbacks() -> None:
            while not self._done.wait(0.02):
                self._most = max(self._most, process.memory_info().rss)

        self._thread = threading.Thread(target=callbacks, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        if self._thread is not None:
            self._done.set()
            self._thread.join()
            self.megabytes = round(self._most / 2**20)
            return
        try:
            with open("/proc/self/status") as status:
                lines = dict(line.split(":", 1) for line in status if ":" in line)
            self.megabytes = round(int(lines["VmHWM"].split()[0]) / 1024)
        except (OSError, KeyError, ValueError):
            pass

"""The arithmetic of the bench: overlap, distances between surfaces, intervals, memory. Knows arrays; no images, no model.

* Dice = 2·|A∩B| / (|A|+|B|); None where neither has a voxel.
* Surface distance = mean over the border voxels of both masks of the distance in mm to the other border.
* 95 % Hausdorff distance = the larger of the two directed 95th percentiles.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from . import labels


def dice(found: np.ndarray, truth: np.ndarray) -> float | None:
    """Overlap of two bool arrays, None if both are empty."""
    total = np.count_nonzero(found) + np.count_nonzero(truth)
    return 2.0 * np.count_nonzero(found & truth) / total if total else None


def part_dice(found: np.ndarray, truth: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Structure → Dice of two part arrays where the truth is known; structures in neither are left out."""
    known = truth != labels.UNKNOWN_PART
    row = {}
    for name in names:
        value = dice(labels.structure_mask(found, name) & known, labels.structure_mask(truth, name))
        if value is not None:
            row[name] = value
    return row


def surface_distances(found: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> tuple[float, float] | None:
    """(mean symmetric surface distance, 95 % Hausdorff distance) in mm, None if a mask is empty.

    Args:
        found, truth: (I, J, K) bool. spacing: (3,) mm in the same order.
    """
    import SimpleITK as sitk

    if not found.any() or not truth.any():
        return None
    either, box = found | truth, []
    for axis in range(3):
        along = np.flatnonzero(either.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(along[0]), int(along[-1]) + 1))
    borders, distances = [], []
    for mask in (found, truth):
        picture = sitk.GetImageFromArray(np.pad(mask[tuple(box)], 1).astype(np.uint8))
        picture.SetSpacing([float(s) for s in spacing][::-1])
        border = sitk.LabelContour(picture)
        borders.append(sitk.GetArrayViewFromImage(border).astype(bool))
        away = sitk.SignedMaurerDistanceMap(border, squaredDistance=False, useImageSpacing=True)
        distances.append(np.abs(sitk.GetArrayFromImage(away)))
    there, back = distances[1][borders[0]], distances[0][borders[1]]
    mean = (there.sum() + back.sum()) / (there.size + back.size)
    return float(mean), float(max(np.percentile(there, 95), np.percentile(back, 95)))


def mirrored_share(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the voxels of structures with a side that were given to the same structure on the other side."""
    swap = np.full(256, labels.UNKNOWN_PART, np.uint8)
    for left, right in labels.PAIRS:
        swap[left], swap[right] = right, left
    sided = np.isin(truth, np.array(labels.PAIRS).ravel())
    return float(np.mean(found[sided] == swap[truth[sided]])) if sided.any() else 0.0


def as_parts(masks: dict[str, np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """uint8 part numbers from masks of parts by name; the later one wins where two meet."""
    parts = np.zeros(shape, np.uint8)
    for name, mask in masks.items():
        parts[np.asarray(mask)] = labels.part_number(name)
    return parts


def bootstrap(values: Sequence[float], draws: int = 4000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean when the values are drawn again with replacement; seeded."""
    values = np.asarray(values, float)
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    return float(np.percentile(means, 2.5)), float(np.percentile(means, 97.5))


def wilson(right: float, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); good for few answers and for shares of 0 and 1."""
    if not count:
        return 0.0, 1.0
    z, share = 1.959964, right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


class PeakMemory:
    """The most memory that this process held while the block ran: `.megabytes`, or None where nothing can tell.

    Looks every 20 ms with psutil; without it, reads the kernel's own high-water mark (Linux), which counts from the start
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

"""Measure how far the volumes of a volume network lie from those of its reference, structure by structure.

    python -m MedFMLib.training.embedded.measure_agreement brain-mr --data DIR --work DIR

Depends on trained volume networks and on people whom training left out. Writes `agreement-NAME.json` into the work
folder: bias and 95 % limits of agreement (Bland & Altman, Lancet 1986) in percent of the reference volume, which ship
with the adapter and stand beside every volume that it measures. The limits are those of a new measurement: 1.96
standard deviations, widened for few cases by the t distribution.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from ...core.geometry import Geometry
from ...core.image import Image
from . import volumes
from .sources import head_maps, head_neck_scans, hippocampus_subjects
from .volume_specialties import SPECIALTIES

LEAST_ML = 0.02
LEAST_CASES = 6
SOURCES = {
    "brain-mr": "synthetic MR of two people whom training left out, deformed at random, in slices of 1 to 7 mm",
    "head-neck-ct": "planning CTs of patients whom training left out, against contours for radiotherapy",
    "hippocampus": "MR crops of people whom training left out, against manual outlines",
}


def cases(name: str, data: Path, count: int, seed: int):
    """Yield (image, (I, J, K) part numbers) of people whom training left out.

    Args:
        name: of the adapter.
        data: the data folder.
        count: largest number of cases, of drawn ones.
        seed: of drawn ones.
    """
    if name == "brain-mr":
        source = volumes.Heads(head_maps(data, held_out=True), 192)
        source.whole = True
        for number in range(count):
            made = source.draw(np.random.default_rng((seed, number)))
            yield _image(made.values[0] * 1000, np.ones(3), "MR"), made.parts
    elif name == "head-neck-ct":
        for _, hu, parts, spacing, _ in head_neck_scans(data, held_out=True):
            yield _image(hu, spacing, "CT"), parts
    else:
        for subject in hippocampus_subjects(data, held_out=True):
            yield _image(subject.image * 1000, subject.spacing, "MR"), subject.parts


def _image(values: np.ndarray, spacing, modality: str) -> Image:
    values = np.rint(values).astype(np.int16)
    return Image(values[None], Geometry(values.shape, np.diag([*spacing, 1.0])), modality, "case")


def limits(differences: np.ndarray) -> dict[str, float]:
    """Return {"bias", "low", "high", "cases"} of differences in percent.

    Args:
        differences: (N,), model minus reference, in percent of the reference.
    """
    from scipy import stats

    n = len(differences)
    middle, deviation = float(differences.mean()), float(differences.std(ddof=1))
    reach = float(stats.t.ppf(0.975, n - 1)) * deviation * np.sqrt(1 + 1 / n)
    low = max(-95.0, middle - reach)
    return {"bias": round(middle, 1), "low": round(low, 1), "high": round(middle + reach, 1), "cases": n}


def measure(name: str, data: Path, work: Path, count: int, seed: int) -> dict:
    """Measure, write the file, and return its content.

    Args:
        name: of the adapter.
        data: the data folder.
        work: work folder.
        count: number of drawn cases.
        seed: of drawn cases.
    """
    import torch

    from .ship_volumes import volume_head

    torch.set_num_threads(1)
    head = volume_head(name, work)
    found: dict[str, list[float]] = {label: [] for label in head.structures}
    for image, truth in cases(name, data, count, seed):
        drawn = head.name_voxels(image, range(1, len(SPECIALTIES[name].parts)), True).parts
        voxel = image.geometry.voxel_volume / 1000
        for label, parts in head.structures.items():
            there = float(np.isin(truth, parts).sum() * voxel)
            if there >= LEAST_ML:
                found[label].append(100 * (float(np.isin(drawn, parts).sum() * voxel) / there - 1))
    agreement = {label: limits(np.array(some)) for label, some in found.items() if len(some) >= LEAST_CASES}
    content = {"agreement": agreement, "agreement_source": SOURCES[name]}
    (work / f"agreement-{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    return content


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(SOURCES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=31)
    o = parser.parse_args()
    for label, one in measure(o.name, o.data, o.work, o.count, o.seed)["agreement"].items():
        print(f"{label:32s} {one['bias']:+6.1f} %  {one['low']:+6.1f} … {one['high']:+6.1f} %  {one['cases']} cases")


if __name__ == "__main__":
    main()

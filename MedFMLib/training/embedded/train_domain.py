"""Fit the judges that tell whether an image is of the kind that a volume network was trained for.

    python -m MedFMLib.training.embedded.train_domain brain-mr --data DIR --work DIR

Depends on trained volume networks; trains seven weights of a logistic regression for each. Images of the domain are
drawn as for the network, with cut fields of view; others by `other_images`. The threshold is the largest at which no
more than `REFUSED` of the images of the domain, of people whom training left out, are refused. Writes
`domain-NAME.json` into the work folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from ...models.masks.domain import FACTS, DomainJudge, PartLayout, describe
from . import volumes
from .other_images import KINDS, OtherImages, other_images
from .sources import head_maps, head_neck_scans, hippocampus_subjects

REFUSED = 0.01
SIDES = {"brain-mr": 112, "head-neck-ct": 112, "hippocampus": 48}
"""Voxels along each side of the volumes that are judged, at the step of the network that looks first."""

REGIONS = {"brain-mr": ("MR", "head", 0.0), "head-neck-ct": ("CT", "head and neck", 0.0),
           "hippocampus": ("MR", "hippocampus", 90.0)}  # fmt: skip


def layout_of(name: str, data: Path) -> PartLayout:
    """Return the sizes and the arrangement of parts in the label maps of training.

    Args:
        name: of the adapter.
        data: the data folder.
    """
    if name == "brain-mr":
        return PartLayout.of([(s.parts, s.spacing) for s in head_maps(data)], range(2, 29))
    if name == "head-neck-ct":
        return PartLayout.of([(scan[2], scan[3]) for scan in head_neck_scans(data)], range(2, 9))
    return PartLayout.of([(s.parts, s.spacing) for s in hippocampus_subjects(data)], (1, 2))


def source_of(name: str, data: Path, held_out: bool):
    """Return what images of the domain are drawn from.

    Args:
        name: of the adapter.
        data: the data folder.
        held_out: people whom training left out.
    """
    side = SIDES[name]
    if name == "brain-mr":
        return volumes.Heads(head_maps(data, held_out), side, 2.0)
    if name == "head-neck-ct":
        return volumes.HeadNecks([scan[1:] for scan in head_neck_scans(data, held_out)], side, 2.5)
    return volumes.Crops(hippocampus_subjects(data, held_out), (48, 64, 48))


def facts_of_values(head, values: np.ndarray, layout: PartLayout) -> np.ndarray:
    """Return `domain.describe` of values on the grid of the network that looks first.

    Args:
        head: a `VolumeHead`.
        values: (C, I, J, K) float32.
        layout: of the label maps.
    """
    import torch

    network = head.network if head.coarse is None else head.coarse
    step, side = (head.step, head.side) if head.coarse is None else (2 * head.step, head.coarse_side)
    chances = head.look(network, torch.from_numpy(values), side, None, True, lambda _: None)
    best, parts = chances.max(0)
    certainty = (best.float() * 255).to(torch.uint8).numpy()
    return describe(parts.to(torch.uint8).numpy(), certainty, np.full(3, step), layout)


def fit(known: np.ndarray, other: np.ndarray, decay: float = 0.02) -> tuple[np.ndarray, float]:
    """Return (weights, bias) of a logistic regression in which both classes weigh the same.

    Args:
        known: (N, facts) of images of the domain.
        other: (M, facts) of other images.
        decay: of the squared weights.
    """
    x = np.vstack([known, other])
    x = np.hstack([x, np.ones((len(x), 1))])
    y = np.repeat([1.0, 0.0], [len(known), len(other)])
    share = np.repeat([0.5 / len(known), 0.5 / len(other)], [len(known), len(other)])
    w = np.zeros(x.shape[1])
    penalty = decay * np.diag([1.0] * known.shape[1] + [0.0])
    for _ in range(60):
        p = 1 / (1 + np.exp(-x @ w))
        gradient = x.T @ (share * (p - y)) + penalty @ w
        hessian = (x * (share * p * (1 - p))[:, None]).T @ x + penalty + 1e-6 * np.eye(len(w))
        w -= np.linalg.solve(hessian, gradient)
    return w[:-1], float(w[-1])


def train(name: str, data: Path, work: Path, count: int, seed: int) -> dict:
    """Fit a judge, write it, and return its rates.

    Args:
        name: of the adapter.
        data: the data folder.
        work: work folder.
        count: number of images of the domain; as many others are drawn.
        seed: of the images.
    """
    import torch

    from .ship_volumes import volume_head

    torch.set_num_threads(1)
    head, layout = volume_head(name, work), layout_of(name, data)
    facts: dict[str, list] = {"known": [], "held out": []}
    for group, source, n in (
        ("known", source_of(name, data, False), count),
        ("held out", source_of(name, data, True), count // 2),
    ):
        for number in range(n):
            made = source.draw(np.random.default_rng((seed, number, group == "known")))
            if (made.parts >= min(layout.parts)).mean() < 0.002:  # the crop missed all of it
                continue
            facts[group].append(facts_of_values(head, made.values, layout))
    modality, region, largest = REGIONS[name]
    step = head.step if head.coarse is None else 2 * head.step
    others: OtherImages = other_images(data, modality, SIDES[name], step)
    kinds = [kind for kind in KINDS if modality == "MR" or kind not in ("below the brain", "wrong axes")]
    other = {kind: [] for kind in kinds}
    for number in range(count):
        kind = kinds[number % len(kinds)]
        values = others.draw(np.random.default_rng((seed + 1, number)), kind)
        other[kind].append(facts_of_values(head, values, layout))
    known, held_out = np.array(facts["known"]), np.array(facts["held out"])
    weights, bias = fit(known, np.vstack([np.array(v) for v in other.values()]))
    judge = DomainJudge(modality, region, layout, tuple(map(float, weights)), bias, 0.5, largest)
    chances = np.sort([judge.chance(f) for f in held_out])
    threshold = float(np.clip(chances[int(REFUSED * len(chances))] - 1e-3, 0.02, 0.9))
    judge = DomainJudge(modality, region, layout, judge.weights, bias, threshold, largest)
    (work / f"domain-{name}.json").write_text(json.dumps(judge.as_json()) + "\n")
    rates = {
        "threshold": round(threshold, 3),
        "refused of the domain, people of training": float(np.mean([judge.chance(f) < threshold for f in known])),
        "refused of the domain, other people": float(np.mean([judge.chance(f) < threshold for f in held_out])),
        **{
            f"accepted, {kind}": float(np.mean([judge.chance(f) >= threshold for f in v]))
            for kind, v in other.items()
            if v
        },
        "weights": dict(zip(FACTS, np.round(weights, 2).tolist(), strict=True)),
    }
    (work / f"domain-{name}-rates.json").write_text(json.dumps(rates, indent=1) + "\n")
    return rates


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=list(SIDES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=210)
    parser.add_argument("--seed", type=int, default=21)
    o = parser.parse_args()
    print(json.dumps(train(o.name, o.data, o.work, o.count, o.seed), indent=1))


if __name__ == "__main__":
    main()

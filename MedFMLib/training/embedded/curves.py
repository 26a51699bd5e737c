"""Plot the learning curves of every stage in one picture, from the JSONL logs of a work folder."""

from __future__ import annotations

import json
from pathlib import Path

STAGES = {
    "eyes.jsonl": ("vision tower and mask head", ("masks", "dense")),
    "base.jsonl": ("answers, boxes and mask tokens", ("answers", "locations", "codes")),
    "adapter-brain-mr.jsonl": ("adapter brain-mr", ("masks",)),
    "volume-brain-mr-coarse.jsonl": ("heads at 2 mm", ("loss",)),
    "volume-brain-mr.jsonl": ("heads at 1 mm", ("loss",)),
    "volume-head-neck-ct.jsonl": ("head and neck, CT", ("loss",)),
    "volume-hippocampus.jsonl": ("hippocampus", ("loss",)),
}
"""Log → its title, and the losses to plot."""


def read_log(path: Path) -> list[dict]:
    """Return the lines of a log in the order of their steps.

    Of steps written twice by a resumed training, the last counts.
    """
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return sorted({line["step"]: line for line in lines}.values(), key=lambda line: line["step"])


def plot_curves(work: Path, picture: Path) -> None:
    """Write a PNG with one panel for each stage with a log; none without logs.

    Args:
        work: work folder.
        picture: the PNG file.
    """
    from matplotlib.figure import Figure

    found = [(title, names, read_log(work / file)) for file, (title, names) in STAGES.items() if (work / file).exists()]
    found = [(title, names, lines) for title, names, lines in found if lines]
    if not found:
        return
    figure = Figure(figsize=(3.6 * len(found), 3.2), layout="constrained")
    for axis, (title, names, lines) in zip(figure.subplots(1, len(found), squeeze=False)[0], found, strict=True):
        for name in names:
            points = [(line["samples"] / 1000, line[name]) for line in lines if name in line]
            if points:
                axis.plot(*zip(*points, strict=True), label=name, linewidth=1.3)
        axis.set(title=title, xlabel="thousand samples", ylabel="loss")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(picture, dpi=110)

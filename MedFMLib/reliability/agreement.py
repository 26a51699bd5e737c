"""Compute how many of several answers agree in meaning. Knows meanings; no model.

Uncertainty from the spread of meanings over samples follows semantic entropy (Farquhar et al., Nature 630:625, 2024);
here the share of the answer's own meaning is used, which needs no second model and is calibrated on data afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .meaning import same


@dataclass(frozen=True)
class Agreement:
    """Samples grouped by their meaning.

    Args:
        clusters: (a representative answer, number of samples in the cluster), the largest first.
        share: fraction of the samples that mean the same as the answer, 0…1.
    """

    clusters: tuple[tuple[str, int], ...]
    share: float

    @property
    def entropy(self) -> float:
        """Normalized entropy of the meanings, 0 (all the same) … 1 (all different)."""
        total = sum(count for _, count in self.clusters)
        if total < 2:
            return 0.0
        return -sum(n / total * math.log(n / total) for _, n in self.clusters) / math.log(total) + 0.0


def agree(answer: str, samples: Sequence[str]) -> Agreement:
    """Group samples by meaning, and count those that mean the same as the answer.

    Args:
        answer: the answer to assess.
        samples: sampled answers to the same question.
    """
    groups: list[list[str]] = []
    # the most common answers come first, so that they represent their clusters
    for sample in sorted(samples, key=lambda text: (-samples.count(text), text)):
        group = next((g for g in groups if same(g[0], sample)), None)
        if group is None:
            groups.append([sample])
        else:
            group.append(sample)
    clusters = sorted(((group[0], len(group)) for group in groups), key=lambda cluster: -cluster[1])
    share = sum(same(answer, sample) for sample in samples) / len(samples) if samples else 0.0
    return Agreement(tuple(clusters), share)

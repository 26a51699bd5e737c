"""Write the trained volume networks as parts of the adapters that ship."""

from __future__ import annotations

import json
from pathlib import Path

from . import labels
from .volume_specialties import SPECIALTIES

INSIDE = {"hippocampus": {"adapter": "brain-mr", "labels": ["left hippocampus", "right hippocampus"], "margin_mm": 9.0,
                          "largest_mm": 90.0}}  # fmt: skip
"""How to find the region of a network in a larger volume, see `models.masks.named_structures`."""

ABOUT = {
    "brain-mr": "27 structures of the brain in MR of any contrast, with or without skull, in slices up to 7 mm",
    "head-neck-ct": "seven organs of the head and neck in CT, as contoured for radiotherapy",
    "hippocampus": "head and body of the hippocampus in MR, from manual outlines",
}


def structures_of(name: str) -> dict[str, tuple[int, ...]]:
    """Return label → part numbers of an adapter's volume network.

    Args:
        name: of the adapter.
    """
    if name == "brain-mr":
        return {label: labels.STRUCTURES[label] for label in labels.HEAD_STRUCTURES}
    special = SPECIALTIES[name]
    own = {part: (n,) for n, part in enumerate(special.parts) if n >= special.tissues}
    return {"hippocampus": (1, 2), **own} if name == "hippocampus" else own


def volume_head(name: str, work: Path):
    """Return an adapter's volume network with all that belongs to it, from the checkpoints of a work folder.

    Args:
        name: of the adapter.
        work: work folder.
    """
    import torch

    from ...models.masks.domain import DomainJudge
    from ...models.masks.volume_head import VolumeHead

    special = SPECIALTIES[name]

    def trained(which: str):
        state = torch.load(work / f"volume-{which}.pt", weights_only=True)
        network = SPECIALTIES[which].network()
        network.load_state_dict(state["average"])
        return network.to(memory_format=torch.channels_last_3d).eval(), state["step"]

    network, steps = trained(name)
    coarse = trained(special.guide)[0] if special.guide else None
    judged, agreed = work / f"domain-{name}.json", work / f"agreement-{name}.json"
    facts = {"about": ABOUT[name], "steps": steps}
    facts |= {"inside": INSIDE[name]} if name in INSIDE else {}
    facts |= json.loads(agreed.read_text()) if agreed.is_file() else {}
    return VolumeHead(
        network,
        structures_of(name),
        special.step,
        special.side,
        labels.STRUCTURES["brain"] if name == "brain-mr" else (),
        coarse=coarse,
        coarse_side=SPECIALTIES[special.guide].side if special.guide else 80,
        judge=DomainJudge.from_json(json.loads(judged.read_text())) if judged.is_file() else None,
        facts=facts,
    )

"""Write the trained volume networks, with their judges and limits of agreement, into the adapters that ship.

Run as::

    python -m MedFMLib.training.embedded.ship_volumes --work DIR --output Resources/models/medfm-tiny
"""

from __future__ import annotations

import argparse
import json
import shutil
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


def write_volume_heads(work: Path, adapters: Path) -> None:
    """Write every volume network into its adapter's folder, beside a LoRA if there is one.

    Args:
        work: work folder with the checkpoints.
        adapters: the folder with a folder for each adapter; one without a volume network is left alone.
    """
    for name in ABOUT:
        fresh = work / "volume-heads" / name
        shutil.rmtree(fresh, ignore_errors=True)
        volume_head(name, work).save(fresh)
        (adapters / name).mkdir(parents=True, exist_ok=True)
        for file in fresh.iterdir():
            shutil.copy(file, adapters / name / file.name)
            (adapters / name / file.name).chmod(0o644)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--work", "--output"):
        parser.add_argument(name, type=Path, required=True)
    o = parser.parse_args()
    write_volume_heads(o.work, o.output / "adapters")


if __name__ == "__main__":
    main()

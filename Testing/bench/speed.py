"""How fast the embedded model segments: variants take turns within one run, so that ratios hold on a busy machine.

    python Testing/bench/speed.py [--model FOLDER] [--rounds 3]

Prints seconds (median) and the ratio to the first variant. The image is a computed phantom.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from support.phantoms import ct_phantom

from MedFMLib.core.request import DEFAULT_MODEL
from MedFMLib.core.view import make_view
from MedFMLib.engine import load_model
from MedFMLib.interfaces import registry
from MedFMLib.interfaces.jobs import NoProgress
from MedFMLib.models.runtime import loading


def load(card, packed: bool):
    """The model with 4-bit weights packed or unpacked."""
    small, loading.SMALL = loading.SMALL, 0 if packed else loading.SMALL
    try:
        return load_model(card, "", card.precisions[0], NoProgress())
    finally:
        loading.SMALL = small


def network_seconds(model, work) -> tuple[float, float]:
    """(seconds inside the vision tower, the language model and the mask head, seconds in all) of `work()`."""
    core = model.model.get_base_model() if hasattr(model.model, "get_base_model") else model.model
    inside, started = 0.0, {}

    def begin(module, *_):
        started[module] = time.perf_counter()

    def end(module, *_):
        nonlocal inside
        inside += time.perf_counter() - started[module]

    modules = (core.model.vision_tower, core.model.language_model)
    hooks = [m.register_forward_pre_hook(begin) for m in modules] + [m.register_forward_hook(end) for m in modules]
    if model.head is not None:
        draw = model.head.probabilities
        object.__setattr__(model.head, "probabilities", lambda *f: (begin("head"), draw(*f), end("head"))[1])
    began = time.perf_counter()
    try:
        work()
    finally:
        for hook in hooks:
            hook.remove()
        if model.head is not None:
            object.__delattr__(model.head, "probabilities")
    return inside, time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    card = registry.card(options.model)
    image = ct_phantom()
    views = [make_view(image, "axial", n) for n in range(24)]
    labels = (card.labels_for("CT") or ("liver",))[:6]
    variants = {}
    for name, packed, batch, draws in (
        ("mask head, unpacked, 32 a batch", False, 32, True),
        ("mask head, unpacked, 1 a batch", False, 1, True),
        ("mask head, packed NF4, 32 a batch", True, 32, True),
        ("tokens, unpacked, 32 a batch", False, 32, False),
        ("tokens, unpacked, 8 a batch", False, 8, False),
        ("tokens, packed NF4, 32 a batch", True, 32, False),
    ):
        model = load(card, packed)
        model.batch = batch
        model.head = model.head if draws else None
        variants[name] = model
    times: dict[str, list[float]] = {name: [] for name in variants}
    order = list(variants)
    for round_number in range(options.rounds + 1):  # the first warms up
        for name in order if round_number % 2 else reversed(order):
            started = time.perf_counter()
            variants[name].segment(views, labels)
            if round_number:
                times[name].append(time.perf_counter() - started)
    first = statistics.median(times[order[0]])
    print(f"{card.id}: 24 slices of a phantom, {len(labels)} structures, median of {options.rounds}")
    for name in order:
        median = statistics.median(times[name])
        print(f"  {name:36s} {median:7.2f} s   {24 / median:6.2f} slices/s   {median / first:5.2f} ×")
    for name in (order[0], order[3]):
        inside, total = network_seconds(variants[name], lambda name=name: variants[name].segment(views, labels))
        print(f"  share of the time inside the network, {name}: {inside / total:.0%}")


if __name__ == "__main__":
    main()

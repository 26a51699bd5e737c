"""How fast a volume of 200 slices is segmented, how much of that is spent inside the network, and beside another version.

    python Testing/bench/volume.py [--other FOLDER] [--rounds 3]

The image is the computed CT phantom at 256 × 256 × 200 voxels. `--other` is a checkout of another version: each round runs both,
each in a process of its own, so that the ratio holds on a busy machine. What the task does around the model counts, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve()
SLICES = 200

MEASURE = """
import json, sys, time
sys.path[:0] = [sys.argv[1] + "/Testing", sys.argv[1]]
import numpy as np
from phantoms import ct_phantom
from MedFMLib.engine import Engine
from MedFMLib.geometry import Geometry
from MedFMLib.image import Image
from MedFMLib.request import Request
small = ct_phantom()
shape = (256, 256, 200)
index = np.ix_(*[np.arange(n) * m // n for n, m in zip(shape, small.geometry.shape)])
affine = small.geometry.affine.copy()
affine[:3, :3] *= np.array(small.geometry.shape) / shape
image = Image(np.ascontiguousarray(small.scalars[index])[None], Geometry(shape, affine), "CT")
engine = Engine()
request = Request("segment", image)
engine.run(request)  # loads, and warms up
core = engine._model.model
core = core.get_base_model() if hasattr(core, "get_base_model") else core
inside, started = [0.0], {}
def begin(name, *_):
    started[name] = time.perf_counter()
def end(name, *_):
    inside[0] += time.perf_counter() - started[name]
tower = core.model.vision_tower
tower.register_forward_pre_hook(lambda *_: begin("tower"))
tower.register_forward_hook(lambda *_: end("tower"))
head = getattr(engine._model, "head", None)
if head is not None and hasattr(head, "probabilities"):
    draw = head.probabilities
    object.__setattr__(head, "probabilities", lambda *a: (begin("head"), draw(*a), end("head"))[1])
start = time.perf_counter()
engine.run(request)
print(json.dumps([time.perf_counter() - start, inside[0]]))
"""


def run(root: Path) -> tuple[float, float]:
    """(seconds, of them inside the network) of one volume with the version in `root`."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", MEASURE, str(root)], env=environment, cwd=root,
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    roots = {"this version": HERE.parents[2]} | ({"the other": options.other.resolve()} if options.other else {})
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in roots}
    for _ in range(options.rounds):
        for name, root in roots.items():
            measured[name].append(run(root))
    for name, rounds in measured.items():
        seconds = statistics.median(took for took, _ in rounds)
        share = statistics.median(inside / took for took, inside in rounds)
        print(f"{name:14s} {seconds:6.2f} s   {SLICES / seconds:6.1f} slices/s   {share:.0%} inside the network")


if __name__ == "__main__":
    main()

"""Measure how fast a volume of 200 slices is segmented, the network's share of the time, and another version's time.

    python Testing/bench/volume.py [--other FOLDER or COMMIT] [--rounds 3]

The image is the computed CT phantom at 256 × 256 × 200 voxels, in C order, as workers get it. `--other` is a checkout or a
commit of another version: each round runs both, each in a process of its own, so that the ratio holds on a busy machine. What
the task does around the model counts, too. In one process a volume is segmented `REPEATS` times after the first, which loads,
and the median counts.

Printed on two cores of an AMD EPYC, against f80ffa5, the first version that ships the present model:

                    total   network   outside   share   slices/s
    this version   0.91 s    0.77 s    0.14 s     84%      220.9
    the other      7.04 s    0.94 s    6.10 s     21%       28.4     7.78 × the other's slices/s

90 % inside the network was wanted and isn't reached. What is left outside, in ms: naming 13 million voxels 27, cutting out
islands 25, sampling the input 17, keeping what the network says 16, measuring 11, scaling pictures 5, checking the image,
finding the body and putting the axes in order 8; the rest is the system giving memory (a process that never gives any back
is a fifth faster, and takes 100 MB more).

"Inside the network" is the wall time of the vision tower and the mask head; whatever else is going on then (a hash of the
image) is not taken off, and nothing that runs between two passes is added.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve()
SLICES, REPEATS = 200, 5

MEASURE = """
import json, sys, time
sys.path[:0] = [sys.argv[1] + "/Testing", sys.argv[1]]
import numpy as np
from support.phantoms import ct_phantom
from MedFMLib.engine import Engine
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.environment import allocator
allocator.keep_freed_memory()  # as workers and the command do
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
rounds = []
for _ in range(int(sys.argv[2])):
    inside[0], start = 0.0, time.perf_counter()
    engine.run(request)
    rounds.append((time.perf_counter() - start, inside[0]))
rounds.sort()
print(json.dumps(rounds[len(rounds) // 2]))
"""


def run(root: Path) -> tuple[float, float]:
    """(seconds, of them inside the network) of one volume with the version in `root`."""
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", MEASURE, str(root), str(REPEATS)], env=environment, cwd=root,
                          capture_output=True, text=True)  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    return tuple(json.loads(done.stdout.splitlines()[-1]))


def checkout(version: str, folder: Path) -> Path:
    """A folder with another version: the one that is named, or the files of a commit."""
    if Path(version).is_dir():
        return Path(version).resolve()
    packed = subprocess.run(["git", "archive", version], cwd=HERE.parents[2], capture_output=True)
    if packed.returncode:
        sys.exit(f"'{version}' is neither a folder nor a commit of this repository ({packed.stderr.decode().strip()}).")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        roots = {"this version": HERE.parents[2]}
        if options.other:
            roots["the other"] = checkout(options.other, Path(folder))
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in roots}
        for _ in range(options.rounds):
            for name, root in roots.items():
                measured[name].append(run(root))
    print(f"256 × 256 × {SLICES} voxels, medians of {options.rounds} rounds of {REPEATS}")
    print(f"{'':14s}  total   network   outside   share   slices/s")
    seconds = {}
    for name, rounds in measured.items():
        total, inside = (statistics.median(column) for column in zip(*rounds, strict=True))
        share = statistics.median(inside / total for total, inside in rounds)
        seconds[name] = total
        print(
            f"{name:14s} {total:5.2f} s   {inside:5.2f} s   {total - inside:5.2f} s   {share:4.0%}   {SLICES / total:8.1f}"
        )
    if "the other" in seconds:
        print(f"{seconds['the other'] / seconds['this version']:.2f} × the other's slices/s")


if __name__ == "__main__":
    main()

"""Measure the overhead of a server over this process: the same job on a volume of 512 × 512 × 300 voxels, both ways.

    python Testing/bench/server.py [--rounds 3] [--task segment]

Each round runs `LocalRunner`, then `ServerRunner` on a volume that the server has not seen, then again on the same volume.
Both have the model loaded; rounds are interleaved, so that the ratios of medians hold on a busy machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

import numpy as np
from support.phantoms import ct_phantom

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.core.request import Request
from MedFMLib.engine import local_runner
from MedFMLib.execution.remote import ServerRunner

SHAPE = (512, 512, 300)
FIRST, SECOND = 1.15, 1.05
"""Most that a first and a second job may take, in times of the local one's."""


def large_phantom() -> Image:
    """The computed CT phantom on a fine grid, with noise as scanners have it."""
    small = ct_phantom()
    index = np.ix_(*[np.arange(n) * m // n for n, m in zip(SHAPE, small.geometry.shape, strict=True)])
    affine = small.geometry.affine.copy()
    affine[:3, :3] *= np.array(small.geometry.shape) / SHAPE
    noise = np.random.default_rng(0).integers(-20, 20, SHAPE, dtype=np.int16)
    return Image((small.scalars[index].astype(np.int16) + noise)[None], Geometry(SHAPE, affine), "CT")


def main() -> None:
    """Run, print, and fail if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", default="segment", choices=("segment", "ask"))
    options = parser.parse_args()
    image, local, server = large_phantom(), local_runner(), ServerRunner()

    def seconds(runner, volume) -> float:
        request = Request(options.task, volume, question="Which body part is shown?", labels=())
        started = time.perf_counter()
        runner.submit(request).result(1200)
        return time.perf_counter() - started

    for runner in (local, server):
        seconds(runner, image)  # loads the model
    times: dict[str, list[float]] = {"local": [], "first": [], "second": []}
    for number in range(options.rounds):
        image.voxels[0, 0, 0, 0] = number + 1  # another volume for the server
        times["local"].append(seconds(local, image))
        times["first"].append(seconds(server, image))
        times["second"].append(seconds(server, image))
        print(f"round {number + 1}: " + ", ".join(f"{name} {values[-1]:.2f} s" for name, values in times.items()))
    local.close()
    server.close()
    medians = {name: statistics.median(values) for name, values in times.items()}
    first, second = medians["first"] / medians["local"], medians["second"] / medians["local"]
    megabytes = image.voxels.nbytes / 1e6
    print(
        f"{options.task} on {'×'.join(map(str, SHAPE))} voxels ({megabytes:.0f} MB), medians of {options.rounds} rounds:"
    )
    print(f"  in this process     {medians['local']:.2f} s")
    print(f"  server, first job   {medians['first']:.2f} s = {first:.3f} × (at most {FIRST})")
    print(f"  server, second job  {medians['second']:.2f} s = {second:.3f} × (at most {SECOND})")
    sys.exit(first > FIRST or second > SECOND)


if __name__ == "__main__":
    main()

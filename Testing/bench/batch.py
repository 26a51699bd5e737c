"""Measure how a batch scales from one worker to two, on worker processes and on Ray, and its overhead.

    OMP_NUM_THREADS=1 python Testing/bench/batch.py [--rounds 3] [--cases 24] [--no-ray]

Cases are tiny volumes whose workers compute on one core ("compute") or wait as for a GPU elsewhere ("wait"), each about 0.25 s.
Rounds are interleaved; medians. "Overhead" is wall time minus the computing time of the single worker, per case:
reading, hashing, sending, writing files to the disk and the manifest, and the start of workers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

TESTING = Path(__file__).parents[1]
sys.path[:0] = [str(TESTING.parent), str(TESTING), str(TESTING / "batch" / "computes")]
os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTING / "batch" / "computes"), str(TESTING.parent)])
os.environ.setdefault("OMP_NUM_THREADS", "1")

from support.batch_in_test import write_volume

from MedFMLib.batch import cases, engines, running
from MedFMLib.batch.on_ray import ray_engine
from MedFMLib.batch.plan import CaseOptions, TaskStep

SECONDS = 0.25


def steps_for(seconds: float) -> int:
    """Loop steps of `Burns` that take so long on this machine."""
    from batch_examples import Burns

    class Nothing:
        task = model = ""

    os.environ["MEDFM_BENCH_STEPS"] = "1000000"
    started = time.perf_counter()
    Burns().run(Nothing, None)
    return int(1_000_000 * seconds / (time.perf_counter() - started))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=24)
    parser.add_argument("--no-ray", action="store_true")
    options = parser.parse_args()
    os.environ["MEDFM_BENCH_STEPS"] = str(steps_for(SECONDS))
    os.environ["MEDFM_TEST_SECONDS"] = str(SECONDS)
    with tempfile.TemporaryDirectory() as place:
        for number in range(options.cases):
            write_volume(Path(place) / "in" / f"scan_{number}.nrrd", number)
        found = cases.find(Path(place) / "in", (TaskStep("ask", "How many?"),), CaseOptions(), cases.SeriesChoice())
        print(f"{options.cases} cases of {SECONDS} s on {os.cpu_count()} cores, medians of {options.rounds} rounds")
        print("engine     job      1 worker  2 workers  speed-up  overhead a case")
        for kind, compute in (("wait", "batch_examples:ByName"), ("compute", "batch_examples:Burns")):
            report(
                "processes", kind, measure(found, lambda _, c=compute: engines.local(c), options, place), options.cases
            )
        if not options.no_ray:
            for kind, compute in (("wait", "batch_examples:ByName"), ("compute", "batch_examples:Burns")):
                with ray_engine(workers=2, compute=compute) as make:
                    times = measure(found, lambda _, m=make: m, options, place)
                report("Ray", kind, times, options.cases)


def measure(found, engine, options, place) -> dict[int, float]:
    """Workers → median seconds of a whole batch."""
    times: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(options.rounds):
        for workers, values in times.items():
            with tempfile.TemporaryDirectory(dir=place) as folder:
                started = time.perf_counter()
                counts = running.run(Path(folder), found, engine(workers), running.RunLimits(workers=workers))
                values.append(time.perf_counter() - started)
                assert counts["done"] == len(found), counts
    return {workers: statistics.median(values) for workers, values in times.items()}


def report(engine: str, kind: str, times: dict[int, float], count: int) -> None:
    """One line."""
    overhead = f"{1000 * (times[1] / count - SECONDS):10.0f} ms" if kind == "wait" else ""
    print(
        f"{engine:10} {kind:8} {times[1]:7.2f} s {times[2]:8.2f} s {times[1] / times[2]:8.2f} × {overhead}", flush=True
    )


if __name__ == "__main__":
    main()

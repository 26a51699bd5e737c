"""Compare the weights of a training that is killed with SIGKILL at random moments and resumed with an uninterrupted one.

python Testing/bench/finetune_kills.py [--kills 20]
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "Testing")]

CHILD = """
import sys
from pathlib import Path
from MedFMLib.training.finetune.run import train
from MedFMLib.training.finetune.settings import TrainingSettings
model, data, run, steps = sys.argv[1:]
settings = TrainingSettings(model=model, precision="fp32", batch=2, accumulation=2, steps=int(steps), epochs=1000, rate=3e-3,
                            dropout=0.1, targets="all", evaluate_every=20, save_every=5, patience=0, compute="fp32",
                            most_validation=8)
train(Path(data), Path(run), settings, resume=True)
"""


def start(*arguments) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, arguments)], env=environment, stderr=subprocess.PIPE
    )


def compare(one: Path, other: Path) -> float:
    """Largest difference of two adapters' weights."""
    from safetensors.numpy import load_file

    first, second = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    assert set(first) == set(second)
    return max(float(abs(first[name] - second[name]).max()) for name in first)


def run(kills: int, steps: int = 120, seed: int = 0, tell=print) -> dict:
    """→ largest differences, how often it was killed and where it had been."""
    from support import finetune_phantoms, random_tiny

    from MedFMLib.training.finetune import checkpoints, control

    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        data, model = finetune_phantoms.build(root), random_tiny.build(root / "model", quantized=False)
        began = time.monotonic()
        child = start(model, data, root / "whole", steps)
        _, errors = child.communicate()
        assert child.returncode == 0, errors.decode()
        took, places, done = time.monotonic() - began, [], 0
        while done < kills:
            child = start(model, data, root / "killed", steps)
            try:
                child.wait(rng.uniform(0.3, 1.0) * took)
                assert child.returncode == 0, child.stderr.read().decode()
                tell("it ended before it was killed; it begins anew")
                for path in sorted((root / "killed").rglob("*"), reverse=True):
                    path.unlink() if path.is_file() else path.rmdir()
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.wait()
                done += 1
                last = checkpoints.newest(root / "killed" / "checkpoints") if (root / "killed").exists() else None
                state = control.state_of(root / "killed")
                half = any((root / "killed" / "checkpoints" / ".part").glob("*"))
                places.append((state.step if state else 0, last.name if last else "none", half))
                lay = ", a half one lay there" if half else ""
                tell(f"kill {done}: at step {places[-1][0]}, goes on from {places[-1][1]}{lay}")
            child.stderr.close()
        child = start(model, data, root / "killed", steps)
        _, errors = child.communicate()
        assert child.returncode == 0, errors.decode()
        last = f"checkpoints/checkpoint-{steps}"
        return {"kills": done, "places": places, "seconds_uninterrupted": took,
                "final": compare(root / "whole" / last, root / "killed" / last),
                "adapter": compare(root / "whole" / "adapter", root / "killed" / "adapter"),
                "steps_csv_rows": len((root / "killed" / "steps.csv").read_text().splitlines()) - 1}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    result = run(parser.parse_args().kills)
    print(f"{result['kills']} kills; largest difference of the final weights {result['final']:.1e}, of the adapters "
          f"{result['adapter']:.1e} (bar 1e-6); uninterrupted {result['seconds_uninterrupted']:.1f} s")  # fmt: skip
    assert max(result["final"], result["adapter"]) <= 1e-6


if __name__ == "__main__":
    main()

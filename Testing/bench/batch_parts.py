"""The parts of a batch against an endpoint, for the throughput model in docs/deployment.md: one 512 × 512 × 300 CT.

    OMP_NUM_THREADS=1 python Testing/bench/batch_parts.py [--rounds 3]

Medians: reading a compressed and a plain file, hashing the image, and a whole question with eight pictures, burned-in text looked
for, to an endpoint on this machine that answers at once; and how many bytes that question posts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import SimpleITK as sitk
from server import large_phantom
from support.fake_endpoint import MODEL, FakeEndpoint


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as place, FakeEndpoint().running() as fake:
        os.environ |= dict.fromkeys(("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), place)
        measure(Path(place), fake, rounds)


def measure(place: Path, fake: FakeEndpoint, rounds: int) -> None:
    """Time each part."""
    from MedFMLib.core.request import Request
    from MedFMLib.endpoints import book
    from MedFMLib.endpoints.settings import Endpoint
    from MedFMLib.engine import Engine
    from MedFMLib.files import read_image

    image = large_phantom()
    picture = sitk.GetImageFromArray(image.scalars.transpose(2, 1, 0).copy())
    for name, compress in (("ct.nii.gz", True), ("ct.nrrd", False)):
        sitk.WriteImage(picture, str(place / name), useCompression=compress)
    book.add("near", Endpoint(fake.url, MODEL, mask_text=True))
    book.add("unmasked", Endpoint(fake.url, MODEL, mask_text=False))
    engine, question = Engine(), "Is there a nodule?"
    masked, unmasked = (Request("ask", image, question=question, model=name) for name in ("near", "unmasked"))
    engine.run(masked)
    parts = {
        "read, compressed": lambda: read_image(place / "ct.nii.gz", modality="CT"),
        "read, plain": lambda: read_image(place / "ct.nrrd", modality="CT"),
        "hash": image.digest,
        "question": lambda: engine.run(masked),
        "… without search": lambda: engine.run(unmasked),
    }
    for name, part in parts.items():
        times = []
        for _ in range(rounds):
            started = time.perf_counter()
            part()
            times.append(time.perf_counter() - started)
        print(f"{name:17} {statistics.median(times):6.2f} s", flush=True)
    pictures = fake.requests[-1][2].count(b"data:image")
    sizes = ", ".join(f"{(place / name).stat().st_size / 1e6:.0f} MB" for name in ("ct.nii.gz", "ct.nrrd"))
    print(f"{pictures} pictures, {len(fake.requests[-1][2]) / 1e6:.2f} MB posted; files of {sizes}")


if __name__ == "__main__":
    main()

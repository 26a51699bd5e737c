"""Time to read a DICOM series of 512 × 512 × 300, paired with reading each file by SimpleITK's GDCM, as MedFM did before.

    python Testing/bench/reading.py [--rounds 5]

Both sides read the headers with pydicom, sort by position and return scaled values in one array; they take turns.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1])]

from support.dicom_writer import write_series

from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image
from MedFMLib.files import read_image

SHAPE = (512, 512, 300)


def by_files(folder: Path) -> np.ndarray:
    """(I, J, K) values, each file read by GDCM."""
    found = []
    for path in sorted(folder.iterdir()):
        header = pydicom.dcmread(
            path, stop_before_pixels=True, specific_tags=["ImagePositionPatient", "Rows", "Columns"]
        )
        found.append((float(header.ImagePositionPatient[2]), path))
    planes = [
        sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))[0].T for _, path in sorted(found)
    ]
    return np.stack(planes, axis=-1)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    values = np.random.default_rng(0).integers(-1000, 2000, SHAPE).astype(np.int16)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder) / "series"
        write_series(Image(values[None], Geometry(SHAPE, np.diag([-0.7, -0.7, 1.0, 1.0])), "CT", "x"), folder)
        assert np.array_equal(read_image(folder).scalars, by_files(folder))
        ratios, ours, theirs = [], [], []
        for _ in range(rounds):
            start = time.perf_counter()
            read_image(folder)
            middle = time.perf_counter()
            by_files(folder)
            end = time.perf_counter()
            ours.append(middle - start)
            theirs.append(end - middle)
            ratios.append(ours[-1] / theirs[-1])
    print(
        f"512 × 512 × 300 DICOM, {rounds} rounds: read_image {statistics.median(ours):.2f} s, each file by GDCM "
        f"{statistics.median(theirs):.2f} s, ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()

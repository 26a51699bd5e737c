"""Reads DICOM objects with programs that others made: dcmqi, dicom3tools' validator, and plain arithmetic on contours."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk


def _dcmqi(name: str, *arguments) -> None:
    dcmqi = pytest.importorskip("dcmqi", reason="dcmqi is not installed")
    program = Path(dcmqi.__file__).parent / "bin" / name
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, errors="replace", timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def rebuilt_by_dcmqi(path: Path, folder: Path) -> dict[int, tuple[np.ndarray, float, dict]]:
    """Segment number → ((n, 3) RAS mm of its voxels, mL, description) as `segimage2itkimage` rebuilds it."""
    folder.mkdir(parents=True, exist_ok=True)
    _dcmqi("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-p", "dcmqi", "-t", "nrrd")
    about = json.loads((folder / "dcmqi-meta.json").read_text(encoding="utf-8"))["segmentAttributes"]
    described = {segment["labelID"]: segment for group in about for segment in group}
    found = {}
    for file in folder.glob("dcmqi-*.nrrd"):
        number = int(file.stem.split("-")[1])
        picture = sitk.ReadImage(str(file))
        index = np.argwhere(sitk.GetArrayFromImage(picture).transpose(2, 1, 0) > 0)
        affine = np.array(picture.GetDirection()).reshape(3, 3) * np.array(picture.GetSpacing())
        points = (index @ affine.T + picture.GetOrigin()) * (-1, -1, 1)
        found[number] = points, len(index) * abs(np.linalg.det(affine)) / 1000, described[number]
    return found


def measurements_by_dcmqi(path: Path, folder: Path) -> list[dict]:
    """The measurement groups of an SR as `tid1500reader` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    _dcmqi("tid1500reader", "--inputDICOM", path, "--outputMetadata", folder / "sr.json")
    return json.loads((folder / "sr.json").read_text(encoding="utf-8"))["Measurements"]


def validator_errors(path: Path, headers: Iterable[pydicom.Dataset]) -> tuple[list[str], list[str]]:
    """(errors of our own, errors of values that the study came with) of dciodvfy (Debian: dicom3tools).

    Errors that name a UID of the study's own headers are the study's: an object must reference what is there.
    """
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    theirs = {str(element.value) for header in headers for element in header if element.VR == "UI"}
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", timeout=300)
    errors = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("Error")]
    inherited = [line for line in errors if any(f'"{uid}"' in line for uid in theirs)]
    return [line for line in errors if line not in inherited], inherited


def filled(polygon: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(I, J) bool: pixel centres inside of an (n, 2) polygon in (i, j), by the even-odd rule."""
    i, j = np.meshgrid(*map(np.arange, shape), indexing="ij")
    inside = np.zeros(shape, bool)
    for (i1, j1), (i2, j2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if j1 != j2:
            crosses = (j1 > j) != (j2 > j)
            inside ^= crosses & (i < (i2 - i1) * (j - j1) / (j2 - j1) + i1)
    return inside


def masks_of_structure_set(data: pydicom.Dataset, geometry) -> dict[int, np.ndarray]:
    """ROI number → (I, J, K) bool on a grid, filled slice by slice; several outlines of a slice cancel each other."""
    masks = {}
    for roi in data.ROIContourSequence:
        mask = np.zeros(geometry.shape, bool)
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            index = geometry.to_index(points * (-1, -1, 1))
            k = round(float(index[:, 2].mean()))
            mask[:, :, k] ^= filled(index[:, :2], geometry.shape[:2])
        masks[int(roi.ReferencedROINumber)] = mask
    return masks

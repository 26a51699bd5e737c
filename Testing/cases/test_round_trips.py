"""Random grids through every format: what is read equals what was put in, values and places, to 1e-3."""

from __future__ import annotations

import numpy as np
import pytest
from support.field_phantoms import save, slice_dataset, write_enhanced

from MedFMLib.core.geometry import Geometry, lps_from_ras
from MedFMLib.files import read_image
from MedFMLib.files.writing import write_volume

GRIDS = 500
"""Of each of four formats."""

SHAPE = (7, 6, 5)


def rotation(random: np.random.Generator) -> np.ndarray:
    """A random rotation, or reflection, of space."""
    made, _ = np.linalg.qr(random.normal(size=(3, 3)))
    return made


def grid(random: np.random.Generator, sheared: bool) -> Geometry:
    """An oblique, flipped, anisotropic grid; sheared if wanted."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(random) * random.uniform(0.3, 6.0, 3)
    if sheared:
        affine[:3, 2] += affine[:3, :2] @ random.uniform(-0.4, 0.4, 2)
    affine[:3, 3] = random.uniform(-300, 300, 3)
    return Geometry(SHAPE, affine)


def apart(image, geometry: Geometry, values: np.ndarray) -> tuple[float, float]:
    """Largest differences of places in mm and of values, over all voxels."""
    index = np.argwhere(np.ones(SHAPE, bool))
    world = geometry.to_world(index)
    there = np.rint(image.geometry.to_index(world)).astype(int)
    places = np.linalg.norm(image.geometry.to_world(there) - world, axis=1).max()
    return float(places), float(np.abs(image.scalars[tuple(there.T)] - values[tuple(index.T)]).max())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
def test_volume_files(suffix, tmp_path, table):
    random, worst = np.random.default_rng(1), np.zeros(2)
    count = GRIDS if suffix == ".nrrd" else GRIDS // 2
    for number in range(count):
        geometry, values = grid(random, sheared=number % 2 == 1), random.uniform(-2000, 2000, SHAPE).astype(np.float32)
        path = write_volume(tmp_path / f"x{suffix}", values, geometry)
        worst = np.maximum(worst, apart(read_image(path), geometry, values))
    table(f"{count} grids, ≤ 1e-3", "what was put in", f"{worst[0]:.1e} mm, {worst[1]:.1e} of values")
    assert (worst <= 1e-3).all()


def dicom_case(random: np.random.Generator, number: int):
    """A grid, stored values, slopes and intercepts of a series with slices in random order."""
    geometry = grid(random, sheared=False)
    affine = geometry.affine.copy()
    if number % 2:  # a gantry tilt: slices are shifted against each other
        affine[:3, 2] += affine[:3, :2] @ random.uniform(-0.4, 0.4, 2)
    geometry = Geometry(SHAPE, affine)
    stored = random.integers(0, 60000, SHAPE)
    whole = number % 3 == 0
    slopes = np.ones(SHAPE[2]) if whole else random.uniform(0.01, 0.05, SHAPE[2])
    intercepts = np.full(SHAPE[2], -1024.0) if whole else random.uniform(-1000, 0, SHAPE[2])
    return geometry, stored, slopes, intercepts, random.permutation(SHAPE[2])


def dicom_place(geometry: Geometry) -> tuple[np.ndarray, list[float], list[float]]:
    """Return (4×4 LPS, direction cosines, pixel spacing)."""
    affine, spacing = lps_from_ras(geometry.affine), geometry.spacing
    cosines = [*(affine[:3, 0] / spacing[0]), *(affine[:3, 1] / spacing[1])]
    return affine, [float(f"{c:.12f}") for c in cosines], [float(f"{spacing[1]:.10f}"), float(f"{spacing[0]:.10f}")]


@pytest.mark.parametrize("kind", ["single-frame", "multi-frame"])
def test_dicom(kind, tmp_path, table):
    random, worst = np.random.default_rng(2), np.zeros(2)
    for number in range(GRIDS):
        geometry, stored, slopes, intercepts, order = dicom_case(random, number)
        affine, cosines, spacing = dicom_place(geometry)
        values = stored * slopes + intercepts
        positions = [[float(f"{v:.9f}") for v in (affine @ (0, 0, k, 1))[:3]] for k in range(SHAPE[2])]
        folder = tmp_path / str(number)
        if kind == "single-frame":
            for name, k in enumerate(order):
                made = slice_dataset(
                    values[:, :, k].T, positions[k], number=int(k) + 1, directions=cosines, spacing=spacing,
                    slope=float(f"{slopes[k]:.10f}"), intercept=float(f"{intercepts[k]:.8f}"),
                )  # fmt: skip
                save(made, folder / f"{name}")
            image = read_image(folder)
        else:
            frames = [
                {"plane": values[:, :, k].T, "position": positions[k], "directions": cosines,
                 "slope": float(f"{slopes[k]:.10f}"), "intercept": float(f"{intercepts[k]:.8f}")}
                for k in order
            ]  # fmt: skip
            image = read_image(write_enhanced(folder / "x.dcm", frames, spacing=spacing))
        worst = np.maximum(worst, apart(image, geometry, values))
    table(f"{GRIDS} grids, ≤ 1e-3", "what was put in", f"{worst[0]:.1e} mm, {worst[1]:.1e} of values")
    assert (worst <= 1e-3).all()

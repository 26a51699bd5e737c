"""Images with known answers, computed: for tests of everything above the geometry."""

from __future__ import annotations

import numpy as np

from MedFMLib.core.findings import Segment, Segmentation
from MedFMLib.core.geometry import Geometry
from MedFMLib.core.image import Image


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """3×3 from angles in degrees about x, then y, then z."""
    a, b, c = np.radians((x, y, z))
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rz @ ry @ rx


def affine(directions=None, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)) -> np.ndarray:
    """4×4 from direction columns, spacing and origin."""
    matrix = np.eye(4)
    matrix[:3, :3] = (np.eye(3) if directions is None else np.asarray(directions)) * np.asarray(spacing)
    matrix[:3, 3] = origin
    return matrix


def oblique_geometry(shape=(40, 36, 20)) -> Geometry:
    """Rotated about all axes, flipped along i, anisotropic, off centre."""
    directions = rotation(14, -9, 21) @ np.diag([-1.0, 1.0, 1.0])
    return Geometry(shape, affine(directions, (0.9, 1.3, 3.1), (37.0, -21.0, 5.0)), "1.2.3")


def sphere(geometry: Geometry, center, radius: float) -> np.ndarray:
    """(I, J, K) bool: voxel centres within `radius` mm of an RAS point."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"), axis=-1)
    return np.linalg.norm(geometry.to_world(index) - np.asarray(center), axis=-1) <= radius


def ct_phantom(geometry: Geometry | None = None) -> Image:
    """An elliptic body (40 HU) in air (−1000 HU) with two lungs (−800 HU) and a liver (90 HU) on its right."""
    geometry = geometry or Geometry(
        (96, 80, 24), affine(np.diag([-1.0, -1.0, 1.0]), (3.6, 3.6, 5.0), (171.0, 142.0, -57.0))
    )
    index = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"), axis=-1)
    p = geometry.to_world(index) - geometry.center
    values = np.full(geometry.shape, -1000, np.int16)
    values[(p[..., 0] / 150) ** 2 + (p[..., 1] / 105) ** 2 < 1] = 40
    for side in (-1, 1):
        lung = ((p[..., 0] - side * 68) / 46) ** 2 + (p[..., 1] / 66) ** 2 + ((p[..., 2] - 30) / 45) ** 2 < 1
        values[lung] = -800
    values[((p[..., 0] - 60) / 62) ** 2 + ((p[..., 1] - 10) / 60) ** 2 + ((p[..., 2] + 38) / 24) ** 2 < 1] = 90
    return Image(values[None], geometry, "CT", "phantom")


TALL = Geometry((96, 80, 36), affine(np.diag([-1.0, -1.0, 1.0]), (3.6, 3.6, 5.0), (171.0, 142.0, -87.5)))
"""The phantom's grid with room above the lungs and below the liver."""


def torso(geometry: Geometry = TALL) -> tuple[Image, Segmentation]:
    """The CT phantom with its structures."""
    image = ct_phantom(geometry)
    p = geometry.to_world(np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), -1)) - geometry.center
    lungs = image.scalars == -800
    masks = {
        "liver": image.scalars == 90,
        "right lung": lungs & (p[..., 0] > 0),
        "left lung": lungs & (p[..., 0] < 0),
    }
    return image, Segmentation(tuple(Segment(name, mask) for name, mask in masks.items()), geometry)

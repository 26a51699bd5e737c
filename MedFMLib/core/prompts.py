"""Define the user's prompts: points, boxes, regions and scribbles. All positions are RAS mm.

Depends on geometry; knows neither models (which may ignore a kind of prompt) nor the scene (which creates them).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .geometry import Geometry


def _points(values, what: str) -> np.ndarray:
    points = np.asarray(values, dtype=np.float64).reshape(-1, 3) if np.size(values) else np.zeros((0, 3))
    if not np.isfinite(points).all():
        raise InputError(f"{what} must be finite RAS positions in mm; received {points.tolist()}.")
    points.setflags(write=False)
    return points


@dataclass(frozen=True, eq=False)
class Points:
    """Clicks inside and outside of a structure.

    Args:
        inside: (N, 3) RAS mm.
        outside: (M, 3) RAS mm.
        label: what the points mark, or "".
    """

    inside: np.ndarray
    outside: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    label: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "inside", _points(self.inside, "Points"))
        object.__setattr__(self, "outside", _points(self.outside, "Points"))


@dataclass(frozen=True, eq=False)
class Box:
    """A cuboid that may be rotated, such as a Slicer ROI.

    Args:
        center: (3,) RAS mm.
        size: (3,) full edge lengths in mm, each above 0.
        axes: (3, 3) orthonormal RAS directions of the edges, as columns.
        label: what the box holds, or "".
    """

    center: np.ndarray
    size: np.ndarray
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))
    label: str = ""

    def __post_init__(self) -> None:
        center, size = _points(self.center, "A box's center")[0], np.asarray(self.size, dtype=np.float64)
        if size.shape != (3,) or not (size > 0).all():
            raise InputError(f"A box needs three edge lengths above 0 mm; received {np.asarray(self.size).tolist()}.")
        axes = np.asarray(self.axes, dtype=np.float64)
        if axes.shape != (3, 3) or not np.allclose(axes.T @ axes, np.eye(3), atol=1e-4):
            raise InputError("The edges of a box must be perpendicular; harden or reset the ROI's transform.")
        for name, value in (("center", center), ("size", size), ("axes", axes)):
            object.__setattr__(self, name, value)

    def mask(self, geometry: Geometry) -> np.ndarray:
        """Return the voxels of the grid whose centre lies in the box, (I, J, K) bool."""
        index = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"), axis=-1)
        local = (geometry.to_world(index) - self.center) @ self.axes
        return (np.abs(local) <= self.size / 2).all(axis=-1)


@dataclass(frozen=True, eq=False)
class Region:
    """A segment or any other set of voxels that a question is about.

    Args:
        mask: (I, J, K) bool on `geometry`, which may differ from the image's grid.
        geometry: the mask's grid.
        label: the segment's name.
    """

    mask: np.ndarray
    geometry: Geometry
    label: str = ""

    def __post_init__(self) -> None:
        mask = np.asarray(self.mask, dtype=bool)
        if mask.shape != self.geometry.shape:
            raise InputError(f"A region's mask {mask.shape} must have its grid's shape {self.geometry.shape}.")
        object.__setattr__(self, "mask", mask)


@dataclass(frozen=True, eq=False)
class Scribble:
    """A freehand stroke.

    Args:
        path: (N, 3) RAS mm along the stroke.
        radius: mm to either side.
        inside: whether it marks the structure or what is outside of it.
        label: what it marks, or "".
        around: whether it goes around the structure (a closed curve, a box's diagonal) rather than through it.
    """

    path: np.ndarray
    radius: float = 1.0
    inside: bool = True
    label: str = ""
    around: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", _points(self.path, "A scribble"))


Prompt = Points | Box | Region | Scribble

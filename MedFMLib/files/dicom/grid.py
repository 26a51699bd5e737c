"""Fit one regular grid to the planes of a volume, and prove that every plane lies where the grid says.

The grid follows Image Position and Orientation (PS3.3 C.7.6.2) alone: never file order, slice thickness or spacing
between slices, which scanners use for different things. The proof is a residual: the distance of three corners of each
plane, from its own header, to the same corners of the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.geometry import Geometry, lps_from_ras
from ...errors import InputError
from .planes import Plane

WORST_MM, WORST_SHARE = 0.5, 0.1
"""A plane farther from its place in the grid than either of these, the second in slice spacings, is refused."""

ROUNDING = ((0.1, 0.1), (0.01, 0.01))
"""(unit that all positions are multiples of, mm that such rounding may move a plane, however thin the slices)."""

RESAMPLE = "give --resample (in Python resample=True) to interpolate; an interpolated image can't be exported as DICOM"
"""The next step for uneven slices; DICOM objects refer to the series' own slices, so it is none for an export."""

MISSING = 1.5
"""A gap of at least so many usual spacings means that slices are missing."""


def fit_grid(planes: Sequence[Plane], path: Path) -> Geometry:
    """Return the grid of planes that are sorted along their normal.

    Args:
        planes: of one volume, all of one size and pixel spacing.
        path: of the file or folder, for messages.

    Raises:
        InputError: if slices are missing, unevenly spaced, or shifted against each other.
    """
    geometry, residual = _line(planes)
    spacing = float(geometry.spacing[2])
    if len(planes) > 2 and residual.max() > _allowed(planes, spacing):
        raise InputError(_uneven(planes, path, spacing, float(residual.max())))
    return geometry


def _allowed(planes: Sequence[Plane], spacing: float) -> float:
    """Return the largest residual in mm of a plane at this slice spacing."""
    positions = np.array([plane.position for plane in planes])
    rounding = next(
        (mm for unit, mm in ROUNDING if np.abs(positions - np.rint(positions / unit) * unit).max() < 1e-6), 1e-3
    )
    return max(min(WORST_MM, WORST_SHARE * spacing), rounding)


def thickness_note(planes: Sequence[Plane]) -> tuple[str, ...]:
    """Return a note if the size of a voxel across its only slice is not known, else nothing."""
    if len(planes) > 1 or planes[0].thickness:
        return ()
    return ("The header of the only slice states no thickness; 1 mm was assumed, so volumes in mL mean nothing.",)


def even_positions(planes: Sequence[Plane], path: Path) -> tuple[Geometry, np.ndarray]:
    """Return an even grid over unevenly spaced planes, and where it lies among them.

    Args:
        planes: of one volume, sorted along their normal.
        path: of the file or folder, for messages.

    Returns:
        (grid with the smallest spacing of the planes, (K,) positions of its slices among the planes, from 0, for linear
        interpolation)

    Raises:
        InputError: if the planes are shifted against each other sideways, which no interpolation along the normal mends.
    """
    depths = np.array([plane.depth for plane in planes])
    positions = np.array([plane.position for plane in planes])
    line = np.polynomial.polynomial.polyfit(depths, positions, 1) if len(planes) > 1 else None
    sideways = float(np.abs(positions - np.polynomial.polynomial.polyval(depths, line).T).max())
    smallest = float(np.diff(depths).min())
    if sideways > _allowed(planes, smallest):
        raise InputError(
            f"The slices in '{path.name}' are shifted sideways by up to {sideways:.1f} mm, so they can't be resampled to a "
            "grid; choose another series."
        )
    count = max(2, round((depths[-1] - depths[0]) / smallest) + 1)
    even = np.linspace(depths[0], depths[-1], count)
    first, last = np.polynomial.polynomial.polyval(even[[0, -1]], line).T
    geometry = _geometry(planes, first, (last - first) / (count - 1), count)
    return geometry, np.interp(even, depths, np.arange(len(planes)))


def _line(planes: Sequence[Plane]) -> tuple[Geometry, np.ndarray]:
    """Return the grid through the first and last position, as ITK and Slicer make it, and (N,) residuals in mm."""
    first, count = planes[0], len(planes)
    if count == 1:
        return _geometry(planes, first.position, first.normal * (first.thickness or 1.0), 1), np.zeros(1)
    positions = np.array([plane.position for plane in planes])
    geometry = _geometry(planes, positions[0], (positions[-1] - positions[0]) / (count - 1), count)
    return geometry, _residuals(planes, geometry)


def _geometry(planes: Sequence[Plane], start: np.ndarray, step: np.ndarray, count: int) -> Geometry:
    first = planes[0]
    rows, columns = first.spacing
    directions = first.directions
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = directions[0] * columns, directions[1] * rows, step
    affine[:3, 3] = start
    frame = first.header.text("FrameOfReferenceUID")
    return Geometry((first.columns, first.rows, count), lps_from_ras(affine), frame)


def _residuals(planes: Sequence[Plane], geometry: Geometry) -> np.ndarray:
    """Return (N,) mm: the largest distance of three corners of each plane from the grid's."""
    affine = lps_from_ras(geometry.affine)
    columns, rows = geometry.shape[0] - 1, geometry.shape[1] - 1
    down, across = planes[0].spacing
    worst = []
    for number, plane in enumerate(planes):
        sides = np.array([np.zeros(3), plane.directions[0] * across * columns, plane.directions[1] * down * rows])
        corners = np.array([[0, 0, number, 1], [columns, 0, number, 1], [0, rows, number, 1]]) @ affine.T
        worst.append(np.linalg.norm(plane.position + sides - corners[:, :3], axis=1).max())
    return np.array(worst)


def _uneven(planes: Sequence[Plane], path: Path, spacing: float, residual: float) -> str:
    """Return a sentence on what is wrong with the places of the planes."""
    depths = np.array([plane.depth for plane in planes])
    gaps = np.diff(depths)
    typical = float(np.median(gaps))
    widest = int(np.argmax(gaps))
    remedy = f"copy the whole series, or {RESAMPLE}"
    if gaps[widest] >= MISSING * typical and np.count_nonzero(gaps > 1.25 * typical) <= max(1, len(gaps) // 4):
        return (
            f"Slices are missing in '{path.name}': {gaps[widest]:.1f} mm lie between '{planes[widest].name}' and "
            f"'{planes[widest + 1].name}', {typical:.1f} mm between most others; {remedy}."
        )
    low, high = float(gaps.min()), float(gaps.max())
    if high - low > 0.05 * high:
        return (
            f"The slices in '{path.name}' have two or more spacings, {low:.4g} mm to {high:.4g} mm, so on an even grid of "
            f"{spacing:.4g} mm some would lie {residual:.1f} mm off; choose another series, or "
            f"{RESAMPLE}."
        )
    return (
        f"The slices in '{path.name}' don't lie on a straight line, or differ in direction: some are {residual:.1f} mm off "
        "an even grid; choose another series."
    )

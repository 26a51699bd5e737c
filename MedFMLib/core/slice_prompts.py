"""Convert prompts in RAS mm to prompts on slices: the plane, the slice numbers and the positions in these slices.

Depends on prompts, grids and planes; knows no voxel values, models or scene. Positions in a picture are
(row, column) in voxels from the *centre* of its top left voxel, in the orientation of `view.display_slice`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..errors import InputError
from .geometry import PLANES, Geometry
from .prompts import Box, Points, Prompt, Scribble
from .view import display_axes

FLAT = 1.5
"""A box or stroke that is thinner than this many slices lies in one slice."""

STROKE_POINTS = 8
"""Maximal number of points per stroke; SAM 2 was trained with at most 8 per image (arXiv:2408.00714, C.2)."""

UNNAMED = "marked structure"


@dataclass(frozen=True, eq=False)
class SlicePrompt:
    """Prompts for one structure in one slice.

    Args:
        number: slice number along the plane's index axis.
        points: (N, 2) row, column; see the module's docstring.
        inside: (N,) bool, whether a point lies in the structure or outside of it.
        box: (row0, column0, row1, column1) around the structure, or None.
    """

    number: int
    points: np.ndarray
    inside: np.ndarray
    box: tuple[float, float, float, float] | None = None

    @property
    def positive(self) -> bool:
        """Whether it says where the structure is, rather than only where it is not."""
        return self.box is not None or bool(self.inside.any())


@dataclass(frozen=True, eq=False)
class SlicePrompts:
    """All prompts, in slices of one plane.

    Args:
        plane: sagittal, coronal or axial.
        structures: label → slice prompts, ascending in slice number, each positive.
        first: first slice that the structures can reach.
        last: last slice that the structures can reach, included.
    """

    plane: str
    structures: dict[str, tuple[SlicePrompt, ...]]
    first: int
    last: int

    def __str__(self) -> str:
        return "; ".join(
            f"{label}: {self.plane} slice {m.number}, {int(m.inside.sum())} points inside, "
            f"{int((~m.inside).sum())} outside{', a box' if m.box else ''}"
            for label, marks in self.structures.items()
            for m in marks
        )


def place(
    prompts: Sequence[Prompt], geometry: Geometry, *, plane: str = "", first: int = -1, last: int = -1, label: str = ""
) -> SlicePrompts:
    """Find the slices that prompts lie in.

    The plane is one in which every box and stroke is flat, and of those the one with the fewest slices that contain all
    points; if several remain, it is the plane of acquisition. A box that is flat in no plane is represented by its
    cross-section at its middle, and by the range of slices that the structures can reach.

    Args:
        prompts: in RAS mm.
        geometry: the image's grid.
        plane: requested plane, or "".
        first: first slice of the requested range; -1 for the volume's first.
        last: last slice of the requested range, included; -1 for the volume's last.
        label: name for all structures, or "" for their own names.

    Raises:
        InputError: no prompt, one outside of the volume or the range, none that says where a structure is, or boxes and
            strokes that lie in different planes.
    """
    if not prompts:
        raise InputError("There are no prompts; place a point in the structure, or draw a box around it.")
    for prompt in prompts:
        _check_kind(prompt)
        _check_inside(prompt, geometry)
    plane = _choose_plane(prompts, geometry, plane)
    axis = geometry.index_axis(plane)
    low, high = 0 if first < 0 else first, geometry.shape[axis] - 1 if last < 0 else last
    found: dict[str, dict[int, list]] = {}
    for prompt in prompts:
        slices = found.setdefault(label or prompt.label or UNNAMED, {})
        if isinstance(prompt, Box):
            corners = geometry.to_index(_corners(prompt))
            if _thickness(corners, axis) >= FLAT:
                bottom, top = np.ceil(corners[:, axis].min() - 1e-6), np.floor(corners[:, axis].max() + 1e-6)
                low, high = max(low, int(bottom)), min(high, int(top))
            number = _number(geometry.to_index(prompt.center), geometry, axis)
            _add_box(slices, number, _section(corners, axis, number), geometry, plane, prompt)
        elif isinstance(prompt, Scribble) and prompt.around and prompt.inside:
            index = geometry.to_index(prompt.path)
            number = _number(index.mean(axis=0), geometry, axis)
            _add_box(slices, number, index, geometry, plane, prompt)
        else:
            for position, inside in _points_of(prompt):
                index = geometry.to_index(position)
                marks = slices.setdefault(_number(index, geometry, axis), [[], [], None])
                marks[0].append(_in_picture(index, geometry, plane))
                marks[1].append(inside)
    structures = {name: _joined(name, slices) for name, slices in found.items()}
    for name, marks in structures.items():
        for mark in marks:
            if not low <= mark.number <= high:
                raise InputError(
                    f"'{name}' has a prompt in {plane} slice {mark.number}, outside of the requested slices {low} to {high}; "
                    "widen the range, or place the prompt inside it."
                )
    return SlicePrompts(plane, structures, low, high)


def box_between(corner, opposite, geometry: Geometry, label: str = "") -> Prompt:
    """Return the box between two opposite corners.

    It is flat in a slice of the grid if both corners lie in one, else a cuboid along R, A and S.

    Args:
        corner: (3,) mm, RAS.
        opposite: (3,) mm, RAS.
        geometry: the image's grid.
        label: what the box contains, or "".

    Raises:
        InputError: if the corners are not three finite numbers each, or the box has no extent.
    """
    path = np.array([corner, opposite], dtype=float)
    index = geometry.to_index(path)
    if any(_thickness(index, axis) < FLAT for axis in range(3)):
        return Scribble(path, label=label, around=True)
    return Box(path.mean(axis=0), np.abs(path[1] - path[0]), label=label)


def _check_kind(prompt: Prompt) -> None:
    if not isinstance(prompt, Points | Box | Scribble):
        raise InputError(
            f"A {type(prompt).__name__.lower()} can't be followed from slice to slice; use points or a box."
        )
    if isinstance(prompt, Scribble) and len(prompt.path) < 2:
        raise InputError(
            f"The stroke '{prompt.label}' needs two points or more, not {len(prompt.path)}; draw it longer."
        )


def _check_inside(prompt: Prompt, geometry: Geometry) -> None:
    """Check that points lie in the volume; boxes may reach beyond it."""
    if isinstance(prompt, Box):
        positions, what = prompt.center[None], "centre of the box"
    elif isinstance(prompt, Scribble):
        positions, what = prompt.path, "stroke"
    else:
        positions, what = np.concatenate([prompt.inside, prompt.outside]), "point"
    for position in positions[~geometry.contains(positions)][:1]:
        place_ = ", ".join(f"{value:.1f}" for value in position)
        raise InputError(f"The {what} at R, A, S = {place_} mm lies outside of the volume; move it into the image.")


def _choose_plane(prompts: Sequence[Prompt], geometry: Geometry, wanted: str) -> str:
    """See `place`."""
    planes = set(PLANES)
    for prompt in prompts:
        if isinstance(prompt, Points):
            continue
        index = geometry.to_index(_corners(prompt) if isinstance(prompt, Box) else prompt.path)
        flat = {name for name in PLANES if _thickness(index, geometry.index_axis(name)) < FLAT}
        if not flat and isinstance(prompt, Scribble):
            raise InputError(
                f"The stroke '{prompt.label or UNNAMED}' runs across slices of every plane; draw it within one slice."
            )
        planes &= flat or planes
    if not planes or (wanted and wanted not in planes):
        flat_in = f"only in {' and '.join(sorted(planes))} slices" if planes else "in slices of different planes"
        raise InputError(f"The boxes and strokes lie {flat_in}; place all of them in slices of one plane.")
    if wanted:
        return wanted
    points = [position for p in prompts if not isinstance(p, Box) for position, _ in _points_of(p)]

    def cost(name: str) -> tuple[int, bool]:
        axis = geometry.index_axis(name)
        return len({_number(geometry.to_index(p), geometry, axis) for p in points}), name != geometry.acquisition_plane

    return min(sorted(planes), key=cost)


def _points_of(prompt: Points | Scribble) -> list[tuple[np.ndarray, bool]]:
    """Return (RAS mm, inside) of each click, or of points along a stroke at equal distances."""
    if isinstance(prompt, Points):
        return [(p, True) for p in prompt.inside] + [(p, False) for p in prompt.outside]
    steps = np.linalg.norm(np.diff(prompt.path, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    count = min(STROKE_POINTS, len(prompt.path)) if along[-1] else 1
    wanted = (np.arange(count) + 0.5) / count * along[-1]
    return [(np.array([np.interp(w, along, prompt.path[:, a]) for a in range(3)]), prompt.inside) for w in wanted]


def _corners(box: Box) -> np.ndarray:
    """Return the (8, 3) corners, RAS mm."""
    signs = np.array(list(product((-0.5, 0.5), repeat=3)))
    return box.center + (signs * box.size) @ box.axes.T


def _thickness(index: np.ndarray, axis: int) -> float:
    return float(np.ptp(index[:, axis]))


def _number(index: np.ndarray, geometry: Geometry, axis: int) -> int:
    """Return the number of the slice with the nearest centre."""
    return int(np.clip(np.rint(index[axis]), 0, geometry.shape[axis] - 1))


def _section(corners: np.ndarray, axis: int, number: int) -> np.ndarray:
    """Return the (N, 3) indices where the slice cuts the box's edges; all corners if it cuts none, as with thin boxes."""
    cuts = []
    for a in range(8):
        for b in (a ^ 1, a ^ 2, a ^ 4):
            start, stop = corners[a], corners[b]
            if a < b and (start[axis] - number) * (stop[axis] - number) < 0:
                cuts.append(start + (number - start[axis]) / (stop[axis] - start[axis]) * (stop - start))
    return np.array(cuts) if cuts else corners


def _in_picture(index: np.ndarray, geometry: Geometry, plane: str) -> np.ndarray:
    """Return the (…, 2) row, column of (…, 3) continuous indices."""
    return np.stack(
        [
            geometry.shape[axis] - 1 - index[..., axis] if flipped else index[..., axis]
            for axis, flipped in display_axes(geometry, plane)
        ],
        axis=-1,
    )


def _add_box(slices: dict, number: int, index: np.ndarray, geometry: Geometry, plane: str, prompt: Prompt) -> None:
    marks = slices.setdefault(number, [[], [], None])
    if marks[2] is not None:
        raise InputError(
            f"'{prompt.label or UNNAMED}' has two boxes in {plane} slice {number}; draw one box around all of it, or give "
            "them two names."
        )
    sizes = np.array([geometry.shape[axis] for axis, _ in display_axes(geometry, plane)])
    position = np.clip(_in_picture(index, geometry, plane), -0.5, sizes - 0.5)
    marks[2] = tuple(float(v) for v in (*position.min(axis=0), *position.max(axis=0)))


def _joined(name: str, slices: dict[int, list]) -> tuple[SlicePrompt, ...]:
    marks = tuple(
        SlicePrompt(number, np.array(points, float).reshape(-1, 2), np.array(inside, bool), box)
        for number, (points, inside, box) in sorted(slices.items())
    )
    for mark in marks:
        if not mark.positive:
            raise InputError(
                f"'{name}' has no point inside of the structure in slice {mark.number}, only outside; place one in it there, "
                "or draw a box around it."
            )
    return marks

"""Define `Geometry`, the position of a voxel grid in the patient.

Depends on numpy only; knows no images, files or MRML. Conventions, everywhere in MedFM:

* index space is `(i, j, k)`, the order of the array axes, zero at the *centre* of the first voxel;
* world space is RAS in millimetres: x grows to the patient's Right, y to Anterior, z to Superior;
* an affine is 4×4, float64, index → world, and acts on column vectors.

A grid says what its affine is worth. In `PATIENT` space world axes are the patient's. A file that states no
orientation gives an `UNORIENTED` grid: distances are known, but which side is the patient's right is not. A `PICTURE`
(radiograph, ultrasound, photograph) is a stack of pictures without a place in the patient: i runs across, j down, k
from picture to picture, and its only plane is "picture". Where `metric` is false, one unit is one pixel, not one mm.

DICOM and ITK use LPS; `lps_from_ras` is the only place that converts between the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import permutations

import numpy as np

from ..errors import InputError

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""4×4 flip between RAS and LPS; its own inverse."""

AFFINE_TOLERANCE_MM = 1e-3
"""Two grids are equal if none of their corresponding corners lie farther apart than this, in mm."""

PLANES = ("sagittal", "coronal", "axial")
"""Anatomical planes, named by the RAS axis (0, 1, 2) that they are perpendicular to."""

PATIENT, UNORIENTED, PICTURE = "patient", "unoriented", "picture"
"""What the world axes of a grid mean; the last is also the name of the only plane of pictures."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A regular grid of voxels in the patient.

    Args:
        shape: number of voxels along (i, j, k), each at least 1.
        affine: 4×4, index (i, j, k) → RAS mm. Columns 0–2 may be oblique, flipped and of any
            length, but must be independent.
        frame_of_reference: DICOM Frame of Reference UID, or "" if unknown.
        space: `PATIENT`, `UNORIENTED` or `PICTURE`.
        metric: whether distances are in mm; else they are in pixels.

    Raises:
        InputError: if the shape is empty, the space is unknown, or the affine is not an invertible, finite 4×4 affine.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray = field(repr=False)
    frame_of_reference: str = ""
    space: str = PATIENT
    metric: bool = True

    def __post_init__(self) -> None:
        if self.space not in (PATIENT, UNORIENTED, PICTURE):
            raise InputError(f"Unknown space {self.space!r}; choose {PATIENT}, {UNORIENTED} or {PICTURE}.")
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"A grid needs three sizes of at least 1, not {self.shape!r}.")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise InputError(
                f"An affine must be a finite 4×4 matrix; received shape {affine.shape}: {affine.tolist()}."
            )
        if not np.allclose(affine[3], (0, 0, 0, 1)):
            raise InputError(f"The last row of an affine must be 0 0 0 1, not {affine[3].tolist()}.")
        if abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise InputError(
                "The voxel axes of this image are not independent (the affine can't be inverted); "
                "check its direction and spacing."
            )
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    # -- properties ----------------------------------------------------------------------------

    @property
    def spacing(self) -> np.ndarray:
        """(3,) distance in mm between voxel centres along i, j, k."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def directions(self) -> np.ndarray:
        """(3, 3) unit RAS vectors of the axes i, j, k, as columns."""
        return self.affine[:3, :3] / self.spacing

    @property
    def origin(self) -> np.ndarray:
        """(3,) RAS mm of the centre of voxel (0, 0, 0)."""
        return self.affine[:3, 3].copy()

    @property
    def voxel_volume(self) -> float:
        """mm³ of one voxel; right for sheared grids too."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def oriented(self) -> bool:
        """Whether the world axes are the patient's, so that sides can be stated."""
        return self.space == PATIENT

    @property
    def is_picture(self) -> bool:
        """Whether this is a stack of pictures without a place in the patient."""
        return self.space == PICTURE

    @property
    def center(self) -> np.ndarray:
        """(3,) RAS mm of the middle of the grid."""
        return self.to_world((np.array(self.shape) - 1) / 2)

    @property
    def axis_codes(self) -> str:
        """Three letters, the anatomical direction in which i, j, k grow, e.g. 'RAS' or 'LPI'."""
        letters = ("LR", "PA", "IS")
        return "".join(letters[axis][int(self.affine[axis, column] > 0)] for column, axis in enumerate(self.world_axes))

    @property
    def world_axes(self) -> tuple[int, int, int]:
        """RAS axis (0, 1, 2) that each of i, j, k is most parallel to; each is used once."""
        weight = np.abs(self.directions)  # (world, index)
        return max(permutations(range(3)), key=lambda p: sum(weight[p[c], c] for c in range(3)))

    def index_axis(self, plane: str) -> int:
        """Return the index axis (0, 1, 2) that steps through the slices of an anatomical plane, or through pictures.

        Raises:
            InputError: if the plane is none of sagittal, coronal, axial, or this is a picture, which has none of them.
        """
        if self.is_picture:
            if plane != PICTURE:
                raise InputError(f"A picture has no {plane} slices; leave the plane out.")
            return 2
        if plane not in PLANES:
            raise InputError(f"Unknown plane {plane!r}; choose one of {', '.join(PLANES)}.")
        return self.world_axes.index(PLANES.index(plane))

    @property
    def acquisition_plane(self) -> str:
        """The plane with the thickest slices; axial for (nearly) isotropic voxels; "picture" for pictures."""
        if self.is_picture:
            return PICTURE
        spacing = self.spacing
        thickest = int(np.argmax(spacing))
        if spacing[thickest] < 1.2 * np.median(spacing):
            return "axial"
        return PLANES[self.world_axes[thickest]]

    # -- points --------------------------------------------------------------------------------

    def to_world(self, index) -> np.ndarray:
        """Return the (…, 3) RAS positions in mm of (…, 3) continuous indices."""
        return np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_index(self, world) -> np.ndarray:
        """Return the (…, 3) continuous indices of (…, 3) RAS positions in mm."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(world, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3]

    def contains(self, world) -> np.ndarray:
        """Return (…,) bool: whether each (…, 3) RAS position in mm lies in a voxel of the grid (faces included)."""
        index = self.to_index(world)
        return ((index >= -0.5) & (index <= np.array(self.shape) - 0.5)).all(axis=-1)

    def corners(self) -> np.ndarray:
        """Return the (8, 3) RAS positions in mm of the *centres* of the corner voxels."""
        grid = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij"))
        return self.to_world(grid.reshape(3, -1).T)

    # -- new grids -----------------------------------------------------------------------------

    def crop(self, start, stop) -> Geometry:
        """Return the grid of `array[start[0]:stop[0], start[1]:stop[1], start[2]:stop[2]]`.

        Args:
            start: (3,) first index along i, j, k.
            stop: (3,) index after the last, along i, j, k.
        """
        affine = self.affine.copy()
        affine[:3, 3] = self.to_world(start)
        return replace(self, shape=tuple(int(b) - int(a) for a, b in zip(start, stop, strict=True)), affine=affine)

    def slice(self, axis: int, number: int) -> Geometry:
        """Return the one-voxel-thick grid of one slice.

        Args:
            axis: index axis across the slice, 0…2.
            number: slice number along that axis.
        """
        start, stop = [0, 0, 0], list(self.shape)
        start[axis], stop[axis] = number, number + 1
        return self.crop(start, stop)

    def transformed(self, matrix) -> Geometry:
        """Return the grid after a linear world transform (4×4, RAS mm → RAS mm)."""
        return replace(self, affine=np.asarray(matrix, float) @ self.affine)

    def matches(self, other: Geometry) -> bool:
        """Return whether the shapes are equal and all corners agree within `AFFINE_TOLERANCE_MM`.

        Frames of reference must agree if both are known.
        """
        if self.shape != other.shape:
            return False
        frames = {self.frame_of_reference, other.frame_of_reference} - {""}
        return len(frames) < 2 and bool(np.abs(self.corners() - other.corners()).max() <= AFFINE_TOLERANCE_MM)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Geometry)
            and self.shape == other.shape
            and self.frame_of_reference == other.frame_of_reference
            and (self.space, self.metric) == (other.space, other.metric)
            and np.array_equal(self.affine, other.affine)
        )

    def __hash__(self) -> int:
        return hash((self.shape, self.affine.tobytes(), self.frame_of_reference, self.space, self.metric))

    def __str__(self) -> str:
        size = "×".join(str(n) for n in self.shape)
        if self.is_picture:
            count = self.shape[2]
            return f"{count} picture{'s' if count > 1 else ''} of {self.shape[0]}×{self.shape[1]} pixels"
        spacing = "×".join(f"{s:.4g}" for s in self.spacing)
        return f"{size} voxels of {spacing} mm, {self.axis_codes if self.oriented else 'orientation unknown'}"


def picture_geometry(columns: int, rows: int, count: int = 1, spacing: tuple[float, float] | None = None) -> Geometry:
    """Return the grid of pictures: i across, j down, k from picture to picture.

    Args:
        columns: pixels across.
        rows: pixels down.
        count: number of pictures.
        spacing: mm between (rows, columns); None if unknown, so that no millimetre is stated.
    """
    down, across = spacing or (1.0, 1.0)
    return Geometry((columns, rows, count), np.diag([-across, -down, 1.0, 1.0]), "", PICTURE, spacing is not None)


def lps_from_ras(affine) -> np.ndarray:
    """Convert a 4×4 affine from index → RAS to index → LPS, or the other way round."""
    return LPS_FROM_RAS @ np.asarray(affine, dtype=np.float64)


def mask_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the bounding box of the true voxels of an array as slices; one voxel at the origin if there are none."""
    box = [slice(None)] * mask.ndim
    # axes with the largest stride first: what remains for the other axes is smaller
    for axis in sorted(range(mask.ndim), key=lambda a: -abs(mask.strides[a])):
        along = np.flatnonzero(mask[tuple(box)].any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not len(along):
            return (slice(0, 1),) * mask.ndim
        box[axis] = slice(int(along[0]), int(along[-1]) + 1)
    return tuple(box)


class BoxedMask:
    """A mask stored as its bounding box.

    A hundred structures of a volume then do not need the memory of a hundred volumes.

    Args:
        shape: (I, J, K) of the full mask.
        start: (3,) index of the box's first voxel.
        inside: (i, j, k) bool, the mask in the box.
    """

    def __init__(self, shape, start, inside: np.ndarray):
        self.shape: tuple[int, int, int] = tuple(int(n) for n in shape)
        self.start: tuple[int, int, int] = tuple(int(n) for n in start)
        self.inside = inside

    @classmethod
    def of(cls, mask: np.ndarray, shape=None, start=(0, 0, 0)) -> BoxedMask:
        """Crop a bool array to its bounding box; one false voxel if all are false.

        Args:
            mask: (i, j, k) bool; may be a part of a larger grid.
            shape: (I, J, K) of the larger grid; by default that of `mask`.
            start: (3,) index in the larger grid of the array's first voxel.
        """
        box = mask_box(mask)
        return cls(shape or mask.shape, [a + s.start for a, s in zip(start, box, strict=True)], mask[box])

    @property
    def box(self) -> tuple[slice, ...]:
        """Slices of the bounding box, for indexing an array on the full grid."""
        return tuple(slice(a, a + n) for a, n in zip(self.start, self.inside.shape, strict=True))

    def whole(self) -> np.ndarray:
        """Return the full mask, (I, J, K) bool, in the memory order of the box."""
        mask = np.zeros(self.shape, bool, order="F" if self.inside.strides[0] < self.inside.strides[2] else "C")
        mask[self.box] = self.inside
        return mask

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.whole() if dtype is None else self.whole().astype(dtype)

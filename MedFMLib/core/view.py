"""Make the pictures of slices that models receive, and map results back.

Depends on images and windows; knows no models. A `View` is one slice as a square 8-bit RGB picture in the usual
radiological orientation, whatever the order, flips and spacing of the voxel axes:

=========  ===========================  =======================
plane      rows (top → bottom)          columns (left → right)
=========  ===========================  =======================
axial      Anterior → Posterior         Right → Left
coronal    Superior → Inferior          Right → Left
sagittal   Superior → Inferior          Anterior → Posterior
=========  ===========================  =======================

A picture without a place in the patient is shown as it is: rows down, columns across. Its square is the picture itself,
stretched, as the published recipes of vision-language models do it.

Training, inference and evaluation all make their pictures here, so that preprocessing is identical. Positions in
a view are (y, x) in 0…1 from the top-left corner; because the picture covers a square of the patient,
the same number of millimetres in both directions, a box or mask in a view has one place in the volume.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .geometry import PICTURE, PLANES, Geometry
from .image import Image
from .windows import hu_range

CT_RANGES = tuple(hu_range(f"MedGemma {name}") for name in ("everything", "soft tissue", "brain"))
"""HU ranges for red, green, blue, in the order of the MedGemma 1.5 CT notebook; see `core.windows`."""

MR_PERCENTILES = (1.0, 99.5)
"""Black is this percentile of all voxels, white that of the voxels above background; our own choice, since
no published recipe exists for arbitrary MR units."""

EDGE_LETTERS = {"axial": ("A", "P", "R", "L"), "coronal": ("S", "I", "R", "L"), "sagittal": ("S", "I", "A", "P")}
"""Top, bottom, left, right of a displayed slice."""


def edge_letters(geometry: Geometry, plane: str, facts: Mapping[str, str] | None = None) -> tuple[str, str, str, str]:
    """Return the patient's directions at the top, bottom, left and right of a displayed slice; "" where unknown.

    Args:
        geometry: the image's grid.
        plane: of the slice.
        facts: of the image; "PatientOrientation" gives the directions of a picture (DICOM PS3.3 C.7.6.1.1.1).
    """
    if geometry.oriented:
        return EDGE_LETTERS[plane]
    parts = (facts or {}).get("PatientOrientation", "").upper().split("\\") if geometry.is_picture else ()
    if len(parts) != 2 or not all(part and set(part) <= set(_OPPOSITE) for part in parts):
        return ("", "", "", "")
    right, bottom = parts
    return _opposite(bottom), bottom, _opposite(right), right


def _opposite(letters: str) -> str:
    return "".join(_OPPOSITE[letter] for letter in letters)


_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}

_ROW_DIRECTION = {"axial": (1, -1), "coronal": (2, -1), "sagittal": (2, -1)}  # RAS axis, sign, going down
_COLUMN_DIRECTION = {"axial": (0, -1), "coronal": (0, -1), "sagittal": (1, -1)}  # going right


@dataclass(frozen=True)
class Window:
    """Mapping of values to grey or colour.

    Args:
        ranges: one (low, high) range for grey, or three for red, green, blue.
    """

    ranges: tuple[tuple[float, float], ...]

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Convert (H, W) values to (H, W, 3) uint8, each range clipped and rounded to 0…255."""
        values = np.asarray(values, dtype=np.float32)
        channels = [
            np.rint(np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)
            for low, high in self.ranges
        ]
        return np.stack(channels * 3 if len(channels) == 1 else channels, axis=-1)


def window_for(image: Image) -> Window:
    """Return the window that models are trained with: fixed HU ranges for CT, volume percentiles otherwise.

    Pixels of 8 bits of a picture, and colours, are shown unchanged.

    If the voxels were windowed before (a picture), `facts["window"]` has the range as "low high".
    """
    if image.modality == "CT" and not image.is_picture:
        return Window(CT_RANGES)
    if image.is_colour or image.display is not None or (image.is_picture and image.voxels.dtype == np.uint8):
        return Window(((0.0, 255.0),))
    if "window" in image.facts:
        low, high = map(float, image.facts["window"].split())
        return Window(((low, high),))
    values = image.scalars
    step = max(1, round((values.size / 2e6) ** (1 / 3)))
    sample = values[::step, ::step, ::step].astype(np.float32).ravel()
    foreground = sample[sample > sample.min() + 0.02 * (np.percentile(sample, 99.5) - sample.min())]
    low = np.percentile(sample, MR_PERCENTILES[0])
    high = np.percentile(foreground if foreground.size > 50 else sample, MR_PERCENTILES[1])
    return Window(((float(low), float(high)),))


@dataclass(frozen=True, eq=False)
class View:
    """One slice as a model receives it, with the coordinate transforms for mapping results back.

    Args:
        pixels: (H, W, 3) uint8, the slice in radiological orientation, at the slice's own in-plane sampling, *not yet*
            square or resized.
        geometry: the volume's grid.
        plane: one of `PLANES`.
        number: slice number along the index axis of that plane.
    """

    pixels: np.ndarray = field(repr=False)
    geometry: Geometry
    plane: str
    number: int

    @property
    def axis(self) -> int:
        """Index axis (0, 1, 2) that steps through the slices."""
        return self.geometry.index_axis(self.plane)

    @property
    def side(self) -> float:
        """Side length in mm of the square that the picture covers; 1 for a picture, whose square is stretched."""
        return max(self._extent())

    @property
    def height_and_width(self) -> tuple[float, float]:
        """Height and width of the slice itself, in mm, or in pixels where mm are unknown."""
        rows, columns = display_axes(self.geometry, self.plane)
        spacing, shape = self.geometry.spacing, self.geometry.shape
        return shape[rows[0]] * spacing[rows[0]], shape[columns[0]] * spacing[columns[0]]

    def _extent(self) -> tuple[float, float]:
        if self.geometry.is_picture:
            return 1.0, 1.0
        rows, columns = display_axes(self.geometry, self.plane)
        spacing, shape = self.geometry.spacing, self.geometry.shape
        return shape[rows[0]] * spacing[rows[0]], shape[columns[0]] * spacing[columns[0]]

    def square(self, size: int) -> np.ndarray:
        """Return (size, size, 3) uint8: the slice centred on black, with equal mm per pixel; a picture is stretched.

        Pixels are averaged by area when shrinking and interpolated linearly when growing.
        """
        from PIL import Image as Picture

        height, width = self._extent()
        rows = max(1, round(size * height / self.side))
        columns = max(1, round(size * width / self.side))
        resized = Picture.fromarray(self.pixels).resize((columns, rows), Picture.Resampling.BILINEAR)
        canvas = np.zeros((size, size, 3), np.uint8)
        top, left = (size - rows) // 2, (size - columns) // 2
        canvas[top : top + rows, left : left + columns] = np.asarray(resized)
        return canvas

    def for_model(self, size: int) -> np.ndarray:
        """Return what a model's image processor receives, (H, W, 3) uint8.

        A slice is a square, see `square`. A picture is passed on as it is, since its processor resizes it by the recipe
        that the model was trained with.

        Args:
            size: side of the square of a slice in pixels.
        """
        return self.pixels if self.geometry.is_picture else self.square(size)

    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (H,) y and (W,) x, each 0…1 in the square, of the centres of the picture's rows and columns."""
        height, width = self._extent()
        n_rows, n_columns = self.pixels.shape[:2]
        y = ((np.arange(n_rows) + 0.5) / n_rows - 0.5) * height / self.side + 0.5
        x = ((np.arange(n_columns) + 0.5) / n_columns - 0.5) * width / self.side + 0.5
        return y, x

    def to_slice(self, picture: np.ndarray) -> np.ndarray:
        """Convert (H, W) in display orientation to a 2D array in the order of the volume's remaining index axes."""
        return _undisplay(picture, self.geometry, self.plane)

    def to_world(self, y: float, x: float) -> np.ndarray:
        """Return the (3,) RAS position in mm of a position in the square.

        Args:
            y: 0…1, from the top.
            x: 0…1, from the left.
        """
        rows, columns = display_axes(self.geometry, self.plane)
        height, width = self._extent()
        index = np.zeros(3)
        index[self.axis] = self.number
        for (axis, flipped), fraction in (
            (rows, ((y - 0.5) * self.side / height + 0.5)),
            (columns, ((x - 0.5) * self.side / width + 0.5)),
        ):
            n = self.geometry.shape[axis]
            along = fraction * n - 0.5
            index[axis] = n - 1 - along if flipped else along
        return self.geometry.to_world(index)


def display_axes(geometry: Geometry, plane: str) -> tuple[tuple[int, bool], tuple[int, bool]]:
    """Return the index axes that run down and across a displayed slice, and whether each runs backwards.

    Args:
        geometry: the volume's grid.
        plane: sagittal, coronal or axial.

    Returns:
        ((row axis, flipped), (column axis, flipped))

    Raises:
        InputError: if the plane is unknown, or there is none such of a picture.
    """
    if geometry.is_picture and plane == PICTURE:
        return (1, False), (0, False)
    geometry.index_axis(plane)  # a picture has no anatomical planes
    if plane not in PLANES:
        raise InputError(f"Unknown plane {plane!r}; choose one of {', '.join(PLANES)}.")
    result = []
    for world_axis, sign in (_ROW_DIRECTION[plane], _COLUMN_DIRECTION[plane]):
        axis = geometry.world_axes.index(world_axis)
        result.append((axis, bool(geometry.affine[world_axis, axis] * sign < 0)))
    return result[0], result[1]


def display_slice(volume: np.ndarray, geometry: Geometry, plane: str, number: int) -> np.ndarray:
    """Return one slice of a volume in radiological orientation, (H, W).

    Args:
        volume: (I, J, K).
        geometry: its grid.
        plane: sagittal, coronal or axial.
        number: slice number along the plane's index axis.

    Raises:
        InputError: if the slice number is outside the volume.
    """
    axis = geometry.index_axis(plane)
    if not 0 <= number < geometry.shape[axis]:
        raise InputError(f"There is no {plane} slice {number}; this volume has slices 0 to {geometry.shape[axis] - 1}.")
    (row_axis, row_flipped), (column_axis, column_flipped) = display_axes(geometry, plane)
    picture = np.take(volume, number, axis=axis)
    if row_axis > column_axis:
        picture = picture.T
    return picture[:: -1 if row_flipped else 1, :: -1 if column_flipped else 1]


def _undisplay(picture: np.ndarray, geometry: Geometry, plane: str) -> np.ndarray:
    (row_axis, row_flipped), (column_axis, column_flipped) = display_axes(geometry, plane)
    picture = picture[:: -1 if row_flipped else 1, :: -1 if column_flipped else 1]
    return picture.T if row_axis > column_axis else picture


def make_view(image: Image, plane: str, number: int, window: Window | None = None) -> View:
    """Return the view of one slice of a volume, or of one picture.

    Colours, and pixels that the image's `display` has as a workstation shows them, are shown as they are.

    Args:
        image: scalar or colour.
        plane: sagittal, coronal or axial; "picture" for pictures.
        number: slice number along the plane's index axis.
        window: the result of `window_for(image)`, computed once per volume; computed here if None.
    """
    geometry = image.geometry
    ready = image.display if image.display is not None else image.voxels if image.is_colour else None
    if ready is None:
        pixels = (window or window_for(image)).apply(display_slice(image.scalars, geometry, plane, number))
    else:
        channels = [display_slice(channel, geometry, plane, number) for channel in ready]
        pixels = np.stack(channels * 3 if len(channels) == 1 else channels, axis=-1)
    if image.extents:
        columns, rows = image.extents[number]
        pixels, geometry = pixels[:rows, :columns], geometry.crop((0, 0, 0), (columns, rows, geometry.shape[2]))
    return View(np.ascontiguousarray(pixels) if ready is not None else pixels, geometry, plane, number)


@dataclass(frozen=True, eq=False)
class SeenObject:
    """A structure that a model saw in one view.

    Args:
        label: as it was asked for.
        box: (y0, x0, y1, x1), each 0…1 in the view's square.
        mask: (h, w) float 0…1 over the box, rows down, at least 2×2, or None for a box alone.
    """

    label: str
    box: tuple[float, float, float, float]
    mask: np.ndarray | None = None

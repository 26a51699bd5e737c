"""Load pictures from files: PNG and JPEG, slices of volumes with their labels; compute their hashes.

Slices are rendered by `view`, as for inference, so that training and inference see the same pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from ...core.geometry import PICTURE, Geometry, picture_geometry
from ...core.image import Image
from ...core.view import View, display_axes, display_slice, make_view, window_for
from ...errors import InputError
from .samples import PicturePixels

LARGEST_SIDE = 1024
"""Pixels; larger pictures are stored smaller, since no model here uses more."""


def read_picture(path: Path) -> PicturePixels:
    """Read a PNG, JPEG or other picture file, or a DICOM picture such as a radiograph, as `files.read_image` does.

    Args:
        path: the file.

    Raises:
        InputError: if it can't be read, or is a volume.
    """
    from PIL import Image as Picture

    from ...files import read_image

    try:
        image = read_image(path, frame=0)
    except InputError as error:
        raise InputError(f"The picture '{path.name}' can't be read ({error}); replace it, or skip it.") from error
    if not image.is_picture:
        raise InputError(f"'{path.name}' is a slice of a volume, not a picture; name its plane and slice.")
    made = Picture.fromarray(make_view(image, PICTURE, 0).pixels)
    if max(made.size) > LARGEST_SIDE:
        made.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Picture.Resampling.LANCZOS)
    return PicturePixels(np.asarray(made), placed=False)


def slice_loader(
    image: Callable[[], Image], plane: str, number: int, labels: Callable[[], np.ndarray] | None = None
) -> Callable[[], PicturePixels]:
    """Return a function that renders a slice of a volume.

    Args:
        image: reads the volume; called late, so that a thousand volumes are not in memory at once.
        plane: sagittal, coronal or axial.
        number: slice number along the plane's index axis.
        labels: reads (I, J, K) numbers on the image's grid; None for no labels.
    """

    def load() -> PicturePixels:
        volume = image()
        view = make_view(volume, plane, number, window_for(volume))
        drawn = None
        if labels is not None:
            drawn = np.ascontiguousarray(display_slice(labels(), volume.geometry, plane, number)).astype(np.uint8)
        rows, columns = display_axes(volume.geometry, plane)
        spacing = volume.geometry.spacing
        return PicturePixels(view.pixels, (float(spacing[rows[0]]), float(spacing[columns[0]])), drawn)

    return load


@lru_cache(maxsize=2)
def read_volume(path: Path, modality: str, frame: int | None = None) -> Image:
    """Read a volume; the last ones are cached, since slices are read in order.

    Args:
        path: the file.
        modality: overrides that of the file; "" for none.
        frame: which volume of a 4D file, from 0.

    Raises:
        InputError: if it can't be read.
    """
    from ...files import read_image

    return read_image(path, modality=modality, frame=frame)


def view_of(pixels: np.ndarray, spacing: tuple[float, float], placed: bool = True) -> View:
    """Return a `View` of a picture.

    Args:
        pixels: (H, W, 3) uint8 in display orientation.
        spacing: mm between rows and between columns.
        placed: see `PicturePixels`.
    """
    height, width = pixels.shape[:2]
    if not placed:
        return View(pixels, picture_geometry(width, height), PICTURE, 0)
    return View(pixels, Geometry((width, height, 1), np.diag([-spacing[1], -spacing[0], 1.0, 1.0])), "axial", 0)


def squared(mask: np.ndarray, spacing: tuple[float, float]) -> tuple[float, float, float, float]:
    """Return the bounding box of a mask in the picture's square, (y0, x0, y1, x1), each 0…1.

    Args:
        mask: (H, W) bool, not empty.
        spacing: mm between rows and between columns.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    height, width = mask.shape[0] * spacing[0], mask.shape[1] * spacing[1]
    side = max(height, width)

    def place(index: float, count: int, extent: float) -> float:
        return float((index / count - 0.5) * extent / side + 0.5)

    return (
        place(rows[0], mask.shape[0], height),
        place(columns[0], mask.shape[1], width),
        place(rows[-1] + 1, mask.shape[0], height),
        place(columns[-1] + 1, mask.shape[1], width),
    )


def digest(shown: PicturePixels) -> str:
    """Return the SHA-256 (hex) of the pixels; the same for PNG and BMP of one picture."""
    sha = hashlib.sha256(repr(shown.pixels.shape).encode())
    sha.update(np.ascontiguousarray(shown.pixels))
    return sha.hexdigest()


def likeness(shown: PicturePixels) -> str:
    """Return a difference hash, which is robust to resizing and JPEG compression; "" without contrast.

    It has 256 bits, which of two neighbouring pixels is brighter, in 17 × 16 pixels (Krawetz, hackerfactor.com, 2013).
    """
    from PIL import Image as Picture

    grey = Picture.fromarray(shown.pixels).convert("L").resize((17, 16), Picture.Resampling.LANCZOS)
    values = np.asarray(grey, np.int16)
    if values.std() < 8:
        return ""
    return np.packbits(values[:, 1:] > values[:, :-1] + 2).tobytes().hex()

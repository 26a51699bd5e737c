"""Draw two slices side by side at one scale, each with its name; a synthetic one is marked across the picture."""

from __future__ import annotations

import io

import numpy as np

from ..core.image import Image
from ..core.view import display_axes, make_view
from ..imaging.key_images import key_image

MARK = "GENERATED, NOT A PERSON"
"""Burned into every picture of a synthetic case."""

HEADER = 26
LARGEST = 448
LEAST_WIDTH = 110
"""Pixels that the complete mark needs to be legible; below, only its first word is used."""
MOST_APART = 2.0
"""If the ratio of their widths exceeds this, each slice has its own scale, shown by its scale bar."""


def side_by_side(
    image: Image,
    number: int,
    segments,
    reference: Image,
    other: int,
    other_segments,
    plane: str,
    generated: bool,
    average: bool,
) -> bytes:
    """Return a PNG with the patient's slice on the left and the reference's on the right, with outlines.

    Args:
        image: the patient's image.
        number: slice number of `plane`.
        segments: segments to outline on it.
        reference: the reference image.
        other: slice number of `plane` in the reference.
        other_segments: segments to outline on the reference.
        plane: sagittal, coronal or axial.
        generated: whether the reference is synthetic.
        average: whether the reference is the mean of many people.
    """
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    sizes = one_scale(image, reference, plane)
    left, right = (
        Picture.open(io.BytesIO(key_image(volume, plane, n, some, size).overlay_png))
        for volume, n, some, size in (
            (image, number, segments, sizes[0]),
            (reference, other, other_segments, sizes[1]),
        )
    )
    if generated:
        right = marked(right)
    height = max(left.height, right.height)
    canvas = Picture.new("RGB", (left.width + right.width, height + HEADER), (0, 0, 0))
    canvas.paste(left, (0, HEADER + (height - left.height) // 2))
    canvas.paste(right, (left.width, HEADER + (height - right.height) // 2))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=14)
    name = "Generated reference" if generated else "Average of healthy people" if average else "Healthy reference"
    for x, text in ((left.width / 2, "This image"), (left.width + right.width / 2, name)):
        draw.text((x, HEADER / 2 + 2), text, fill=(235, 235, 235), font=font, anchor="mm")
    stream = io.BytesIO()
    canvas.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def one_scale(image: Image, reference: Image, plane: str) -> tuple[int, int]:
    """Return the pixels along the longer side of each slice for equal mm per pixel, as long as both stay legible.

    Args:
        image: the patient's image.
        reference: the reference image.
        plane: sagittal, coronal or axial.
    """
    longest = []
    for geometry in (image.geometry, reference.geometry):
        axes = [axis for axis, _ in display_axes(geometry, plane)]
        longest.append(max(geometry.shape[a] * geometry.spacing[a] for a in axes))
    if max(longest) > MOST_APART * min(longest):
        return LARGEST, LARGEST
    return tuple(round(LARGEST * mm / max(longest)) for mm in longest)


def marked(picture):
    """Return a PIL picture with the mark, black on yellow, at the top and at the bottom, so that no crop removes both."""
    from PIL import ImageDraw, ImageFont

    made = picture.copy()
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(size=max(12, picture.width // 20))
    for y in (0.16, 0.84):
        place = (picture.width / 2, picture.height * y)
        left, top, right, bottom = draw.textbbox(place, MARK, font=font, anchor="mm")
        draw.rectangle((left - 6, top - 4, right + 6, bottom + 4), fill=(255, 220, 0))
        draw.text(place, MARK, fill=(0, 0, 0), font=font, anchor="mm")
    return made


def burned(image: Image) -> Image:
    """Return a volume with the mark in its voxels, legible in the slices of all three planes.

    Exceptions are the few slices near the edge that lie within another plane's bar. The mark is at the top of axial and
    coronal
    slices; at the bottom of sagittal ones and behind, where the others' bars don't cross it.
    """
    voxels = image.scalars.copy()
    low, high = float(voxels.min()), float(voxels.max())
    for plane, at_top, start in (("sagittal", False, 0.26), ("coronal", True, 0.05), ("axial", True, 0.05)):
        axis = image.geometry.index_axis(plane)
        view = make_view(image, plane, 0)
        ink = view.to_slice(_bar(*view.pixels.shape[:2], at_top, start))
        moved = np.moveaxis(voxels, axis, 0)
        moved[:, ink == 1] = low
        moved[:, ink == 2] = high
    return image.with_voxels(voxels[None])


def _bar(height: int, width: int, at_top: bool, start: float) -> np.ndarray:
    """Return (height, width) uint8: 0 unchanged, 1 background, 2 letters from `start` (0…1) on, as wide as possible."""
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    wide = max(1, int((0.95 - start) * width))
    words, font = MARK if wide >= LEAST_WIDTH else MARK.split(",")[0], ImageFont.load_default(size=40)
    left, top, right, bottom = ImageDraw.Draw(Picture.new("L", (1, 1))).textbbox((0, 0), words, font=font)
    letters = Picture.new("L", (int(right - left) + 20, int(bottom - top) + 20))
    ImageDraw.Draw(letters).text((10 - left, 10 - top), words, fill=255, font=font)
    tall = max(1, min(max(height // 8, 6), round(wide * letters.height / letters.width)))
    small = np.asarray(letters.resize((wide, tall), Picture.Resampling.BILINEAR)) > 110
    made = np.zeros((height, width), np.uint8)
    row, column = height // 12 if at_top else height - height // 12 - tall, int(start * width)
    made[row : row + tall, column : column + wide] = 1 + small
    return made

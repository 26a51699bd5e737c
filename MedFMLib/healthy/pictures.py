"""Two slices side by side at one scale, each with its name; a generated one is marked across the picture. Knows images."""

from __future__ import annotations

import io

from ..image import Image
from ..reports.pictures import key_image
from ..view import display_axes

MARK = "GENERATED, NOT A PERSON"
"""Burned into every picture of a case that was computed."""

HEADER = 26
LARGEST = 448
MOST_APART = 2.0
"""Where one slice is more times as wide as the other, each has its own scale, which its bar tells."""


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
    """PNG: left the person's slice, right the reference's, outlined.

    Args:
        number, other: slices of `plane`. segments, other_segments: `Segment`s to outline.
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
    """Pixels along the longer side of each slice, so that a millimetre is as long in both; as long as both stay legible."""
    longest = []
    for geometry in (image.geometry, reference.geometry):
        axes = [axis for axis, _ in display_axes(geometry, plane)]
        longest.append(max(geometry.shape[a] * geometry.spacing[a] for a in axes))
    if max(longest) > MOST_APART * min(longest):
        return LARGEST, LARGEST
    return tuple(round(LARGEST * mm / max(longest)) for mm in longest)


def marked(picture):
    """A PIL picture with the mark across it, black on yellow, at the top and at the bottom, so that no crop loses both."""
    from PIL import ImageDraw, ImageFont

    made = picture.copy()
    draw, font = ImageDraw.Draw(made), ImageFont.load_default(size=max(12, picture.width // 20))
    for y in (0.16, 0.84):
        place = (picture.width / 2, picture.height * y)
        left, top, right, bottom = draw.textbbox(place, MARK, font=font, anchor="mm")
        draw.rectangle((left - 6, top - 4, right + 6, bottom + 4), fill=(255, 220, 0))
        draw.text(place, MARK, fill=(0, 0, 0), font=font, anchor="mm")
    return made

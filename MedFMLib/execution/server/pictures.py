"""Convert the pictures of a chat to one `Image` without a place in a patient. Knows data URLs; nothing of HTTP."""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings

from ...core.image import Image
from ...errors import InputError
from ...files.pictures import decode_picture, join_pictures, sizes_of

DATA_URL = re.compile(r"data:image/(png|jpe?g|webp|bmp|tiff);base64,", re.I)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


def image_from_urls(urls: list[str], most_pixels: int) -> Image:
    """Return one image with all pictures, each in its own size and colours.

    Args:
        urls: base64 data URLs.
        most_pixels: largest number of pixels of all pictures together.

    Raises:
        InputError: if a picture is not a data URL, damaged or too large.
    """
    images: list[Image] = []
    for url in urls:
        before = sum(columns * rows for image in images for columns, rows in sizes_of(image))
        images.append(_picture(url, most_pixels, before))
    return join_pictures(images)


def _picture(url: str, most_pixels: int, before: int) -> Image:
    """Return the picture of a data URL; `before` pixels were read already."""
    from PIL import Image as Picture

    found = DATA_URL.match(url)
    if not found:
        raise InputError(
            "A picture must be sent inside the request, as data:image/png;base64,…; this server fetches nothing from elsewhere."
        )
    try:
        raw = base64.b64decode(url[found.end() :], validate=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's own size limit; ours is checked below
            with Picture.open(io.BytesIO(raw), formats=FORMATS) as picture:
                width, height = picture.size
    except (binascii.Error, OSError, ValueError, SyntaxError, Picture.DecompressionBombError) as error:
        raise InputError(f"A picture can't be read ({type(error).__name__}); send it as PNG or JPEG.") from None
    if before and before + width * height > most_pixels:
        raise InputError(
            f"The pictures have {before + width * height} pixels together; this server accepts {most_pixels}. Send fewer."
        )
    if width * height > most_pixels:
        raise InputError(
            f"A picture has {width}×{height} pixels; this server accepts {most_pixels}. Send a smaller one."
        )
    try:
        return decode_picture(raw, "picture", frame=0, most_pixels=most_pixels)
    except InputError as error:
        kind = type(error.__cause__ or error).__name__
        raise InputError(f"A picture can't be read ({kind}); send it as PNG or JPEG.") from None

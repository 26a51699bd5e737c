"""Convert the pictures of a chat to one `Image` without a place in a patient. Knows data URLs; nothing of HTTP."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Sequence

from ...core.image import Image
from ...errors import InputError
from ...files.pictures import decode_picture, join_pictures

DATA_URL = re.compile(r"data:image/(png|jpe?g|webp|bmp|tiff);base64,", re.I)
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")


BYTES_PER_PIXEL = 4
"""Largest, of colours and of floating-point greys; what counts before a picture is decoded."""


def size_of_urls(urls: Sequence[str], most_pixels: int) -> int:
    """Return the bytes that pictures take once they are decoded, at most, from their headers alone.

    Args:
        urls: base64 data URLs.
        most_pixels: largest number of pixels of all pictures together.

    Raises:
        InputError: if a picture is not a data URL, damaged or too large.
    """
    pixels = 0
    for url in urls:
        width, height = _size(_content(url))
        if width * height > most_pixels:
            raise InputError(
                f"A picture has {width}×{height} pixels; this server accepts {most_pixels}. Send a smaller one."
            )
        pixels += width * height
        if pixels > most_pixels:
            raise InputError(
                f"The pictures have {pixels} pixels together; this server accepts {most_pixels}. Send fewer."
            )
    return pixels * BYTES_PER_PIXEL


def image_from_urls(urls: Sequence[str], most_pixels: int) -> Image:
    """Return one image with all pictures, each in its own size and colours.

    Args:
        urls: base64 data URLs.
        most_pixels: largest number of pixels of all pictures together.

    Raises:
        InputError: if a picture is not a data URL, damaged or too large.
    """
    size_of_urls(urls, most_pixels)
    return join_pictures([_picture(_content(url), most_pixels) for url in urls])


def _content(url: str) -> bytes:
    """Return the encoded picture of a data URL."""
    found = DATA_URL.match(url)
    if not found:
        raise InputError(
            "A picture must be sent inside the request, as data:image/png;base64,…; this server fetches nothing from elsewhere."
        )
    try:
        return base64.b64decode(url[found.end() :], validate=True)
    except ValueError as error:
        raise _unreadable(error) from None


def _size(content: bytes) -> tuple[int, int]:
    """Return (columns, rows) that the header of a picture declares."""
    from PIL import Image as Picture

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PIL's own size limit; ours is checked by the caller
            with Picture.open(io.BytesIO(content), formats=FORMATS) as picture:
                if _has_more(picture):
                    raise InputError("A picture has several frames; send each of them as a picture of its own.")
                return picture.size
    except InputError:
        raise
    except Picture.DecompressionBombError as error:
        raise InputError(f"A picture has too many pixels ({error}); send a smaller one.") from None
    except Exception as error:  # whatever Pillow's readers raise for damaged files
        raise _unreadable(error) from None


def _has_more(picture) -> bool:
    """Return whether a file has a second frame, without counting them: a TIFF may have a million empty ones."""
    if picture.format != "TIFF":
        return getattr(picture, "n_frames", 1) > 1
    try:
        picture.seek(1)
    except EOFError:
        return False
    return True


def _picture(content: bytes, most_pixels: int) -> Image:
    try:
        return decode_picture(content, "picture", frame=0, most_pixels=most_pixels)
    except InputError as error:
        raise _unreadable(error.__cause__ or error) from None


def _unreadable(error: BaseException) -> InputError:
    return InputError(f"A picture can't be read ({type(error).__name__}); send it as PNG or JPEG.")
